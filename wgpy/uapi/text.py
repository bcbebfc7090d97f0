"""UAPI text to the vocabulary of configuration and back. Pure.

A request is a line `get=1` or `set=1`, lines `key=value`, and an empty line; an answer ends with
`errno=N` and an empty line. See https://www.wireguard.com/xplatform/.
"""

from collections.abc import Callable, Iterable, Iterator
from errno import EINVAL, EPROTO
from functools import partial
from typing import Any

from wgpy.protocol.config import (
    AllowedIPChange,
    ConfigError,
    InterfaceChange,
    InterfaceStats,
    Network,
    PeerChange,
    PeerStats,
)
from wgpy.uapi.values import (
    ScopeResolver,
    network_text,
    parse_allowed_ip,
    parse_endpoint,
    parse_key,
    parse_network,
    parse_true,
    parse_u16,
    parse_u32,
    parse_u64,
    shown,
)

_NANOSECONDS = 10**9


class UapiError(ConfigError):
    """Text that cannot be understood: `errno` (positive) as wireguard-go answers it.

    `line` counts from 1, the operation's own line; 0 where no line is to blame. `key` is empty
    where there is none. The message never contains a key's bytes.
    """

    def __init__(self, errno: int, message: str, line: int = 0, key: str = "") -> None:
        where = f"line {line}: " if line else ""
        super().__init__(where + (f"{key}: " if key else "") + message, errno)
        self.line = line
        self.key = key


def split_line(line: str, number: int) -> tuple[str, str]:
    """Key and value of one line. UapiError EPROTO without an equals sign."""
    key, equals, value = line.partition("=")
    if not equals:
        raise UapiError(EPROTO, "expected key=value", number)
    return key, value


def _parse_value(parse: Callable[[str], Any], value: str, line: int, key: str) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise UapiError(EINVAL, str(error), line, key) from None


def _unknown(key: str, known: Iterable[str], line: int) -> UapiError:
    # What stands before '=' may be a base64 key in the wrong place: show only what looks like ours.
    name = shown(key) if len(key) < 32 and key.isascii() and key.isidentifier() else "this key"
    return UapiError(EINVAL, f"{name} is not known here (known: {', '.join(known)})", line)


class SetParser:
    """The lines of one set=1 operation, fed one by one, so that a long request can be interleaved.

    UapiError from `feed` means that the whole request is refused.
    """

    def __init__(self, scope: ScopeResolver) -> None:
        self._line = 1
        self._interface: dict[str, Any] = {}
        self._peers: list[PeerChange] = []
        self._peer: dict[str, Any] | None = None
        self._allowed_ips: list[AllowedIPChange] = []
        self._interface_keys: dict[str, Callable[[str], Any]] = {
            "private_key": parse_key,
            "listen_port": parse_u16,
            "fwmark": parse_u32,
            "replace_peers": parse_true,
        }
        self._peer_keys: dict[str, Callable[[str], Any]] = {
            "remove": parse_true,
            "update_only": parse_true,
            "preshared_key": parse_key,
            "endpoint": partial(parse_endpoint, scope=scope),
            "persistent_keepalive_interval": parse_u16,
            "replace_allowed_ips": parse_true,
            "allowed_ip": parse_allowed_ip,
            "protocol_version": _parse_protocol_version,
        }

    def feed(self, line: str) -> None:
        """Take the next line (without its line end)."""
        self._line += 1
        key, value = split_line(line, self._line)
        if key == "public_key":
            public_key = bytes(_parse_value(parse_key, value, self._line, key))
            self._end_peer()
            self._peer = {"public_key": public_key}
            return
        keys = self._interface_keys if self._peer is None else self._peer_keys
        if (parse := keys.get(key)) is None:
            raise _unknown(key, [*keys, "public_key"], self._line)
        parsed = _parse_value(parse, value, self._line, key)
        if self._peer is None:
            self._interface[key] = parsed
        else:
            self._feed_peer(self._peer, key, parsed)

    def _feed_peer(self, peer: dict[str, Any], key: str, parsed: Any) -> None:
        if key == "allowed_ip":
            self._allowed_ips.append(parsed)
        elif key == "persistent_keepalive_interval":
            peer["persistent_keepalive"] = parsed
        elif key != "protocol_version":
            if key == "replace_allowed_ips":
                # Replaced are also those that this request has given so far.
                self._allowed_ips.clear()
            peer[key] = parsed

    def _end_peer(self) -> None:
        if self._peer is None:
            return
        if self._peer.get("remove"):
            # A peer on its way out has nothing else to change.
            self._peers.append(PeerChange(self._peer["public_key"], remove=True))
        else:
            self._peers.append(PeerChange(**self._peer, allowed_ips=tuple(self._allowed_ips)))
        self._allowed_ips.clear()

    def finish(self) -> InterfaceChange:
        """The change that all lines together ask for, peers in their order."""
        self._end_peer()
        return InterfaceChange(**self._interface, peers=tuple(self._peers))


def _parse_protocol_version(value: str) -> int:
    if value != "1":
        raise ValueError(f"expected 1, found {shown(value)}")
    return 1


def parse_set_untrusted(text: str, scope: ScopeResolver) -> InterfaceChange:
    """The change that a whole request asks for, from `set=1` to the empty line.

    `scope` resolves interface names in IPv6 endpoints. UapiError for anything malformed, also
    when the empty line is missing, and for what follows it.
    """
    operation, *lines = text.split("\n")
    if operation != "set=1":
        raise UapiError(EPROTO, "expected set=1", 1)
    if lines[-2:] != ["", ""] or "" in lines[:-2]:
        raise UapiError(EPROTO, "expected exactly one empty line, at the end", len(lines))
    parser = SetParser(scope)
    for line in lines[:-2]:
        parser.feed(line)
    return parser.finish()


def format_set(change: InterfaceChange) -> str:
    """A whole set=1 request, its lines in wg(8)'s order, the empty line included."""
    return "".join(_set_lines(change))


def _set_lines(change: InterfaceChange) -> Iterator[str]:
    yield "set=1\n"
    if change.private_key is not None:
        yield f"private_key={change.private_key.hex()}\n"
    if change.listen_port is not None:
        yield f"listen_port={change.listen_port}\n"
    if change.fwmark is not None:
        yield f"fwmark={change.fwmark}\n"
    if change.replace_peers:
        yield "replace_peers=true\n"
    for peer in change.peers:
        yield f"public_key={peer.public_key.hex()}\n"
        if peer.remove:
            yield "remove=true\n"
            continue
        if peer.update_only:
            yield "update_only=true\n"
        if peer.preshared_key is not None:
            yield f"preshared_key={peer.preshared_key.hex()}\n"
        if peer.endpoint is not None:
            yield f"endpoint={peer.endpoint}\n"
        if peer.persistent_keepalive is not None:
            yield f"persistent_keepalive_interval={peer.persistent_keepalive}\n"
        if peer.replace_allowed_ips:
            yield "replace_allowed_ips=true\n"
        for allowed in peer.allowed_ips:
            yield f"allowed_ip={'-' if allowed.remove else ''}{network_text(allowed.network)}\n"
    yield "\n"


def get_lines(stats: InterfaceStats, *, drops: bool = False) -> Iterator[str]:
    """The answer to get=1, line by line, with `errno=0` and the empty line.

    Exactly the lines of wireguard-go: what is not set has no line. With `drops` the answer to
    get=2, which is ours: `drop=REASON:PACKETS` besides, of the interface and of each peer.
    """
    if stats.private_key is not None:
        yield f"private_key={stats.private_key.hex()}\n"
    if stats.listen_port:
        yield f"listen_port={stats.listen_port}\n"
    if stats.fwmark:
        yield f"fwmark={stats.fwmark}\n"
    if drops:
        yield from _drop_lines(stats.drops)
    for peer in stats.peers:
        seconds, nanoseconds = divmod(peer.last_handshake_ns, _NANOSECONDS)
        yield f"public_key={peer.public_key.hex()}\n"
        yield f"preshared_key={peer.preshared_key.hex()}\n"
        yield "protocol_version=1\n"
        if peer.endpoint is not None:
            yield f"endpoint={peer.endpoint}\n"
        yield f"last_handshake_time_sec={seconds}\n"
        yield f"last_handshake_time_nsec={nanoseconds}\n"
        yield f"tx_bytes={peer.tx_bytes}\n"
        yield f"rx_bytes={peer.rx_bytes}\n"
        yield f"persistent_keepalive_interval={peer.persistent_keepalive}\n"
        for network in peer.allowed_ips:
            yield f"allowed_ip={network_text(network)}\n"
        if drops:
            yield from _drop_lines(peer.drops)
    yield format_errno(0)


def _drop_lines(drops: dict[str, int]) -> Iterator[str]:
    for reason, packets in drops.items():
        yield f"drop={reason}:{packets}\n"


def format_errno(number: int) -> str:
    """The end of an answer: 0, or minus `number` (positive) as wireguard-go writes it."""
    return f"errno={-number}\n\n"


def format_get(stats: InterfaceStats) -> str:
    """The whole answer to get=1."""
    return "".join(get_lines(stats))


def parse_get(text: str, scope: ScopeResolver) -> InterfaceStats:
    """What an answer to get=1 or 2 tells; keys that are not known are left out, as wg(8) does.

    UapiError with the answer's own errno if that is not 0, EPROTO if the answer has no end, and
    as for parse_set_untrusted if it is malformed. The interface's public key is not in the answer.
    """
    interface_keys: dict[str, Callable[[str], Any]] = {
        "private_key": parse_key,
        "listen_port": parse_u16,
        "fwmark": parse_u32,
        "drop": _parse_drop,
    }
    peer_keys: dict[str, Callable[[str], Any]] = {
        "preshared_key": parse_key,
        "endpoint": partial(parse_endpoint, scope=scope),
        "last_handshake_time_sec": parse_u64,
        "last_handshake_time_nsec": parse_u64,
        "tx_bytes": parse_u64,
        "rx_bytes": parse_u64,
        "persistent_keepalive_interval": parse_u16,
        "allowed_ip": parse_network,
        "drop": _parse_drop,
    }
    interface: dict[str, Any] = {}
    peers: list[PeerStats] = []
    values: dict[str, Any] | None = None
    networks: list[Network] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line:
            break
        key, value = split_line(line, number)
        if key == "errno":
            raise_errno(value, number)
            if values is not None:
                peers.append(_peer_stats(values, networks))
            return InterfaceStats(**interface, peers=tuple(peers))
        if key == "public_key":
            if values is not None:
                peers.append(_peer_stats(values, networks))
            values = {key: bytes(_parse_value(parse_key, value, number, key))}
            networks = []
            continue
        keys = interface_keys if values is None else peer_keys
        if (parse := keys.get(key)) is None:
            continue
        parsed = _parse_value(parse, value, number, key)
        found = interface if values is None else values
        if key == "allowed_ip":
            networks.append(parsed)
        elif key == "drop":
            found.setdefault("drops", {}).update(parsed)
        else:
            found[key] = parsed
    raise UapiError(EPROTO, "the answer has no errno line")


def _parse_drop(text: str) -> dict[str, int]:
    reason, _, packets = text.rpartition(":")
    return {reason: parse_u64(packets)}


def _peer_stats(values: dict[str, Any], networks: list[Network]) -> PeerStats:
    seconds = values.pop("last_handshake_time_sec", 0)
    nanoseconds = values.pop("last_handshake_time_nsec", 0)
    return PeerStats(
        last_handshake_ns=seconds * _NANOSECONDS + nanoseconds,
        persistent_keepalive=values.pop("persistent_keepalive_interval", 0),
        allowed_ips=tuple(networks),
        **values,
    )


def raise_errno(value: str, line: int = 0) -> None:
    """UapiError if the value of an answer's errno line is not 0."""
    number = _parse_value(parse_u32, value.removeprefix("-"), line, "errno")
    if number:
        raise UapiError(number, f"the interface answered errno={value}")
