"""The lanes as WireGuard interfaces, over whichever data plane this node has.

What lives on is adopted; only what differs is set, so that sessions and roamed endpoints survive.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from errno import ECONNRESET, ENODEV
from typing import Literal, Protocol, TypeAlias

from agent.answers import TELLS, Answers
from agent.model import Problem
from agent.network.base import NetworkError, Report
from agent.network.rtnetlink import open_rtnetlink
from wgpy import dataplane
from wgpy.dataplane import Availability, DataPlaneError, Plane
from wgpy.dataplane.diff import diff
from wgpy.protocol.config import Endpoint, InterfaceChange, InterfaceStats, PeerChange

Choice: TypeAlias = Literal["auto", "kernel", "userspace"]

# A session is dead after this time (REJECT_AFTER_TIME).
_SESSION_NS = 180 * 10**9
_KINDS: dict[str, Plane] = {"wireguard": "kernel", "tun": "userspace"}
_UNCHANGED = InterfaceChange()
# Seconds that a daemon may take to be told.
_IS_TOLD = 20.0


class Starter(Protocol):
    """Who starts daemons in another process than this; agent.launcherclient is one."""

    def probe(self) -> str:
        """Why it cannot start any, empty if it can. NetworkError."""

    def start(self, name: str) -> bool:
        """Make the daemon of an interface run; whether it is a new one. NetworkError."""

    def end(self, name: str) -> None:
        """Kill the daemon of an interface. NetworkError."""


@dataclass(frozen=True, slots=True)
class LaneDesired:
    """One lane. Its whole configuration, as `wgpy.dataplane.diff.diff` takes it."""

    name: str
    # None: the interface is to be there; whatever it has been told stays.
    config: InterfaceChange | None = None


@dataclass(frozen=True, slots=True)
class LanesDesired:
    """All lanes of this node."""

    lanes: tuple[LaneDesired, ...] = ()


class Backend:
    """The lanes `names` on one data plane, chosen once."""

    name = "lanes"

    def __init__(
        self,
        choice: Choice,
        names: tuple[str, ...],
        starter: Starter | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Looks what this node can run. NetworkError if nothing, or not what was chosen.

        `clock_ns` is the wall clock that handshakes are noted in.
        """
        self._names = names
        self._starter = starter
        self._clock_ns = clock_ns
        self._answers = Answers(names, starter.end if starter else None, clock)
        self.availability = probe_planes(starter)
        self.plane = choose(choice, self.availability)
        # Endpoint that each peer of each lane was last told.
        self._told: dict[str, dict[bytes, Endpoint]] = {}
        # What each lane was last made to be.
        self._made: dict[str, InterfaceChange] = {}

    def reconcile(self, desired: LanesDesired) -> list[str]:
        """Lanes that are there and as they should be; see base.Resource."""
        report = Report()
        for lane in desired.lanes:
            with report.step(lane.name), _explained():
                self._answers.expect(lane.name)
                self._adopt_or_make(lane.name, report)
                if lane.config is not None:
                    self._configure(lane.name, lane.config, report)
        return report.end()

    def _adopt_or_make(self, name: str, report: Report) -> None:
        kind = _link_kind(name)
        served = name in dataplane.list_interfaces()
        if served and kind is not None and _KINDS.get(kind) == self.plane:
            return
        if served or kind is not None:
            _clear(name, served)
            report.changed.append(f"{name} is removed, it was no {self.plane} WireGuard interface")
        self._told.pop(name, None)
        if self.plane == "userspace" and self._starter is not None:
            self._starter.start(name)
        else:
            dataplane.create_interface(name, self.plane)
        report.changed.append(f"{name} is made, by the {self.plane} data plane")

    def _configure(self, name: str, desired: InterfaceChange, report: Report) -> None:
        current = dataplane.get_interface(name, TELLS)
        change = self._difference(name, current, desired)
        if change != _UNCHANGED:
            dataplane.set_interface(name, change, _IS_TOLD)
            report.changed += [f"{name}: {what}" for what in describe(current, change)]
        self._made[name] = desired
        self._told[name] = {p.public_key: p.endpoint for p in desired.peers if p.endpoint}

    def _difference(
        self, name: str, current: InterfaceStats, desired: InterfaceChange
    ) -> InterfaceChange:
        return difference(current, desired, self._told.get(name, {}), self._clock_ns())

    def greet(self, name: str, key: bytes) -> None:
        """Send to a peer where it says that it is; a handshake follows its silence. NetworkError.

        Like `add_again` and `make_again` it changes nothing of what is desired.
        """
        for peer in self._made_peers(name, key):
            self._set_peer(name, PeerChange(key, update_only=True, endpoint=peer.endpoint))

    def add_again(self, name: str, key: bytes) -> None:
        """Forget all that was between us and a peer; it shakes hands again. NetworkError."""
        for peer in self._made_peers(name, key):
            self._set_peer(name, PeerChange(key, remove=True))
            self._set_peer(name, peer)

    def _set_peer(self, name: str, change: PeerChange) -> None:
        self._answers.expect(name)
        with _explained():
            dataplane.set_interface(name, InterfaceChange(peers=(change,)), _IS_TOLD)

    def make_again(self, name: str) -> None:
        """A new device with the keys of the old one. NetworkError."""
        if name not in self._made:
            return
        self._answers.expect(name)
        with _explained():
            _clear(name, name in dataplane.list_interfaces())
        self.reconcile(LanesDesired((LaneDesired(name, self._made[name]),)))

    def _made_peers(self, name: str, key: bytes) -> Iterator[PeerChange]:
        peers = self._made[name].peers if name in self._made else ()
        return (peer for peer in peers if peer.public_key == key)

    def altered(self, found: Mapping[str, InterfaceStats]) -> bool:
        """Whether somebody has made any lane other than it was made here: devices tell no news.

        `found` is what `stats` has told.
        """
        return any(
            name not in found or self._difference(name, found[name], made) != _UNCHANGED
            for name, made in self._made.items()
        )

    def stats(self) -> dict[str, InterfaceStats]:
        """What each lane tells; those that are not there are left out. NetworkError."""
        return self._answers.ask()

    def problems(self) -> Iterator[Problem]:
        """What ails a lane that is there."""
        return self._answers.problems()

    def remove(self) -> None:
        """Remove all lanes, of whatever kind. NetworkError."""
        self._made.clear()
        remove_lanes(self._names)


def remove_lanes(names: tuple[str, ...]) -> None:
    """Remove these interfaces, of whatever kind, and what serves them. NetworkError."""
    report = Report()
    for name in names:
        with report.step(name), _explained():
            _clear(name, name in dataplane.list_interfaces())
    report.end()


def choose(choice: Choice, availability: Availability) -> Plane:
    """The plane to use. NetworkError with the reasons if there is none."""
    kernel, userspace = availability.kernel_reason, availability.userspace_reason
    if choice == "auto":
        if availability.best is None:
            reasons = kernel if kernel == userspace else f"{kernel}; {userspace}"
            raise NetworkError(f"this node has no data plane: {reasons}")
        return availability.best
    if reason := {"kernel": kernel, "userspace": userspace}[choice]:
        advice = "" if availability.best is None else "choose --dataplane auto"
        raise NetworkError(f"the {choice} data plane is not available: {reason}", advice)
    return choice


def difference(
    current: InterfaceStats, desired: InterfaceChange, told: dict[bytes, Endpoint], now_ns: int
) -> InterfaceChange:
    """What turns `current` into `desired`.

    With another private key all peers begin anew: a session of the old key is good for nothing,
    and what a peer tells of its last handshake shall be about the key that there is.
    """
    if desired.private_key in (None, current.private_key):
        return diff(current, keep_roamed(current, desired, told, now_ns))
    return replace(diff(replace(current, peers=()), desired), replace_peers=True)


def keep_roamed(
    current: InterfaceStats, desired: InterfaceChange, told: dict[bytes, Endpoint], now_ns: int
) -> InterfaceChange:
    """`desired` without the endpoints of peers that are now heard from elsewhere.

    An endpoint that is not the one in `told` is news about the peer, and is set all the same.
    """
    known = {peer.public_key: peer for peer in current.peers}

    def kept(wanted: PeerChange) -> PeerChange:
        peer = known.get(wanted.public_key)
        if peer is None or peer.endpoint is None or not peer.last_handshake_ns:
            return wanted
        alive = now_ns - peer.last_handshake_ns < _SESSION_NS
        news = told.get(wanted.public_key, wanted.endpoint) != wanted.endpoint
        return replace(wanted, endpoint=None) if alive and not news else wanted

    return replace(desired, peers=tuple(map(kept, desired.peers)))


def describe(current: InterfaceStats, change: InterfaceChange) -> Iterator[str]:
    """A few words for each part of a change; keys by their first bytes."""
    if change.private_key is not None:
        yield "the private key is another"
    if change.listen_port is not None:
        yield f"the port is {change.listen_port}, it was {current.listen_port}"
    if change.fwmark is not None:
        yield f"the mark is {change.fwmark:#x}, it was {current.fwmark:#x}"
    known = {peer.public_key for peer in current.peers}
    for peer in change.peers:
        name = f"peer {peer.public_key[:4].hex()}"
        if peer.remove:
            yield f"{name} is removed"
        elif peer.public_key not in known:
            yield f"{name} is new"
        else:
            yield f"{name} has changed: {', '.join(_changed_values(peer))}"


def _changed_values(peer: PeerChange) -> Iterator[str]:
    if peer.preshared_key is not None:
        yield "preshared key"
    if peer.endpoint is not None:
        yield f"endpoint {peer.endpoint}"
    if peer.persistent_keepalive is not None:
        yield f"keepalive {peer.persistent_keepalive}"
    for allowed in peer.allowed_ips:
        yield f"{'-' if allowed.remove else '+'}{allowed.network}"


def probe_planes(starter: Starter | None) -> Availability:
    """The kernel is asked here; userspace where the daemons will run."""
    here = dataplane.probe()
    if starter is None:
        return here
    try:
        return Availability(here.kernel_reason, starter.probe())
    except NetworkError as error:
        return Availability(here.kernel_reason, str(error))


def _link_kind(name: str) -> str | None:
    """Kind of the link of this name, "" for hardware, None if there is none."""
    with open_rtnetlink() as ip:
        for link in ip.get_links():
            if link.get_attr("IFLA_IFNAME") == name:
                info = link.get_attr("IFLA_LINKINFO")
                return str((info.get_attr("IFLA_INFO_KIND") if info else None) or "")
    return None


def _clear(name: str, served: bool) -> None:
    """Remove the interface and what serves it, whatever it is."""
    if served:
        try:
            dataplane.delete_interface(name)
        except DataPlaneError as error:
            # A daemon that ends at this very moment hangs up on us; its link may remain until then.
            if error.errno not in (ENODEV, ECONNRESET):
                raise
    with open_rtnetlink() as ip:
        for index in ip.link_lookup(ifname=name):
            ip.link("del", index=index)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except DataPlaneError as error:
        raise NetworkError(error.message, error.advice) from None
