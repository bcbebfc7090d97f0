"""What a device and its workers say to each other over a Channel."""

from dataclasses import dataclass

from tun import Offloads
from wgpy.device.options import DeviceOptions
from wgpy.protocol.config import InterfaceChange
from wgpy.protocol.drops import DropReason
from wgpy.protocol.shared import Stray
from wgpy.protocol.sharing import PeerReport, PeerState


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message to a worker; with the table of counters and queues of the TUN."""

    number: int
    owners: int
    offloads: Offloads
    options: DeviceOptions


@dataclass(frozen=True, slots=True)
class Link:
    """The state of the interface, and its own addresses."""

    up: bool
    mtu: int
    v4: bytes | None
    v6: bytes | None


@dataclass(frozen=True, slots=True)
class Sockets:
    """With UDP sockets that replace those before."""


@dataclass(frozen=True, slots=True)
class Configure:
    """Peers and their allowed IPs."""

    change: InterfaceChange


@dataclass(frozen=True, slots=True)
class News:
    """Sessions and paths of peers."""

    states: list[PeerState]


@dataclass(frozen=True, slots=True)
class Strays:
    """Either way: datagrams that came to the wrong process."""

    strays: list[Stray]


@dataclass(frozen=True, slots=True)
class Reports:
    """From a worker: what happened since its last report."""

    reports: list[PeerReport]
    drops: dict[DropReason, int]
