"""What an interface can be told (InterfaceChange) and what it tells (InterfaceStats).

These frozen dataclasses are the one vocabulary shared by the core, UAPI text, configuration
files and both data planes. Keys are raw 32-byte strings here; hex and base64 belong to text.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network


class ConfigError(ValueError):
    """A change that cannot be applied; `errno` is what UAPI answers (positive)."""

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


class Secret(bytes):
    """Key bytes that do not show themselves in logs, tracebacks or test output."""

    def __repr__(self) -> str:
        return f"Secret(<{len(self)} bytes>)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)


ZERO_KEY = Secret(32)


class Endpoint(NamedTuple):
    """Where a peer is: numeric host, UDP port, and for link-local IPv6 the scope's index."""

    host: str
    port: int
    scope_id: int = 0

    @property
    def is_v6(self) -> bool:
        return ":" in self.host

    def __str__(self) -> str:
        if not self.is_v6:
            return f"{self.host}:{self.port}"
        scope = f"%{self.scope_id}" if self.scope_id else ""
        return f"[{self.host}{scope}]:{self.port}"


@dataclass(frozen=True, slots=True)
class AllowedIPChange:
    """One allowed_ip of a peer: added, or taken away when `remove`."""

    network: Network
    remove: bool = False


@dataclass(frozen=True, slots=True)
class PeerChange:
    """Changes to one peer; None leaves a value as it is."""

    public_key: bytes
    remove: bool = False
    # Change the peer only if it exists; never create it.
    update_only: bool = False
    # ZERO_KEY takes a preshared key away.
    preshared_key: Secret | None = None
    endpoint: Endpoint | None = None
    # Seconds, 0 for off.
    persistent_keepalive: int | None = None
    replace_allowed_ips: bool = False
    allowed_ips: tuple[AllowedIPChange, ...] = ()


@dataclass(frozen=True, slots=True)
class InterfaceChange:
    """Changes to an interface; None leaves a value as it is. Applied wholly or not at all."""

    # ZERO_KEY takes the private key away.
    private_key: Secret | None = None
    # 0 chooses a free port.
    listen_port: int | None = None
    # 0 for none.
    fwmark: int | None = None
    replace_peers: bool = False
    peers: tuple[PeerChange, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerStats:
    """One peer as `wg show` reports it."""

    public_key: bytes
    preshared_key: Secret = ZERO_KEY
    endpoint: Endpoint | None = None
    # Wall clock of the last completed handshake, nanoseconds since 1970; 0 for never.
    last_handshake_ns: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    persistent_keepalive: int = 0
    allowed_ips: tuple[Network, ...] = ()
    # Drops by reason, only of our own data plane.
    drops: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InterfaceStats:
    """An interface as `wg show` reports it."""

    private_key: Secret | None = None
    public_key: bytes | None = None
    listen_port: int = 0
    fwmark: int = 0
    peers: tuple[PeerStats, ...] = ()
    drops: dict[str, int] = field(default_factory=dict)
