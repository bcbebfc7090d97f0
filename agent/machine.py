"""All of this node that the agent keeps in order, each thing by itself. Blocking.

The order is that of safety: what keeps packets from leaking is there before the first link, and
the runtime hears of a pod network last.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from agent.backend import Backend, LaneDesired, LanesDesired
from agent.decisions import Devices
from agent.healing import Remedy
from agent.keeper import Outcome
from agent.keepers import Keepers
from agent.model import Address, Problem
from agent.network import attachments, mtu
from agent.network.base import POD_BRIDGE, NetworkError, Report, Resource, explained
from agent.network.bridge import Bridge, BridgeDesired
from agent.network.cni import FILE, Cni, CniDesired
from agent.network.cni import STATE as CNI_STATE
from agent.network.firewall import open_firewall
from agent.network.forwarding import Forwarding, ForwardingDesired
from agent.network.guard import Guard, GuardDesired, is_guard
from agent.network.links import Link, Links, LinksDesired
from agent.network.neighbours import Neighbours, NeighboursDesired
from agent.network.nft import is_available
from agent.network.routes import Route, Routes, RoutesDesired
from agent.network.rtnetlink import device_names, open_rtnetlink, own_routes, present_families
from agent.network.ruleset import FirewallDesired
from agent.network.sysctls import STATE, Sysctls, node_sysctls, usable_families
from agent.network.watch import Watch
from agent.topology import Desired, PeerRoute
from wgpy.protocol.config import Network

LANE_NAMES = ("wgpy0", "wgpy1")
# By resource, those that must be in order before it is touched.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "lanes": ("guard", "firewall"),
    "bridge": ("guard", "firewall"),
    "links": ("lanes",),
    "routes": ("lanes", "links"),
    "cni": ("guard", "firewall", "lanes", "bridge"),
}


class Machine:
    """This node. NetworkError if it has no packet filter; OSError if it cannot be watched."""

    def __init__(
        self,
        backend: Backend,
        cni: Path,
        proc_sys: Path,
        results: Path = attachments.RESULTS,
        state: Path = STATE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`cni` is the runtime's directory, `results` that of its notes about attachments."""
        self._backend = backend
        self._results = results
        self._proc_sys = proc_sys
        # Versions of IP: what the kernel has is guarded, what the host is to have is used.
        self._present = self._usable = tuple(present_families())
        self._firewall = open_firewall()
        self._forwarding = Forwarding()
        self._neighbours = Neighbours() if is_available() else None
        self._cni = Cni(cni)
        resources: list[Resource[Any]] = [
            Guard(),
            self._firewall,
            self._forwarding,
            backend,
            Bridge(),
            Sysctls(proc_sys, state),
            Links(),
            Routes(),
            *([self._neighbours] if self._neighbours else []),
            self._cni,
        ]
        self._keepers = Keepers(resources, NEEDS, clock)
        for directory in (cni, results, CNI_STATE):
            directory.mkdir(parents=True, exist_ok=True)
        files = (cni / FILE, CNI_STATE / FILE)
        self.watch = Watch((*LANE_NAMES, POD_BRIDGE), (), files, results)
        self._routes: dict[Network, int] = {}
        self._drops: dict[str, int] = {}
        # Why it is not known which pods are attached.
        self._unread: NetworkError | None = None
        self._overlay: tuple[Network, ...] = ()

    def close(self) -> None:
        """Everything stays as it is, but nobody looks after it."""
        self.watch.close()

    def devices(self) -> Devices:
        """What the lanes tell; None for one that is not there. NetworkError."""
        stats = self._backend.stats()
        if self._backend.altered(stats):
            self._keepers["lanes"].look(altered=True)
        return stats.get(LANE_NAMES[0]), stats.get(LANE_NAMES[1])

    def routes(self) -> Mapping[Network, int]:
        """The lane of each prefix, as the kernel has it. NetworkError."""
        if not self._keepers["routes"].settled:
            try:
                with open_rtnetlink() as ip:
                    found = own_routes(ip)
            except (OSError, NetlinkError) as error:
                raise explained("routes", error) from None
            self._routes = {
                route.prefix: LANE_NAMES.index(route.device)
                for route in found
                if route.device in LANE_NAMES
            }
        return self._routes

    def path_mtus(self, endpoints: Iterable[Address]) -> dict[Address, int]:
        """Inner MTU of the path to each endpoint, as far as there is one. NetworkError."""
        return mtu.path_mtus(endpoints)

    def look(self, names: Iterable[str] | None = None) -> None:
        """At these resources, or at all of them, in the next turn."""
        self._keepers.look(names)

    def turn(self, desired: Desired) -> list[Outcome]:
        """Bring into order what is due."""
        self.watch.overlay = self._overlay = desired.overlay
        self._usable = tuple(usable_families(self._proc_sys))
        for name, wish in wishes(desired, self._present, self._usable):
            self._keepers[name].want(wish)
        self._want_neighbours()
        return self._keepers.turn()

    def heal(self, remedies: Iterable[Remedy]) -> None:
        """What agent.healing thinks of. NetworkError."""
        report = Report()
        for remedy in remedies:
            name = LANE_NAMES[remedy.lane]
            with report.step(name):
                match remedy.cure:
                    case "handshake":
                        self._backend.greet(name, remedy.key)
                    case "peer":
                        self._backend.add_again(name, remedy.key)
                    case "lane":
                        self._backend.make_again(name)
        report.end()

    @property
    def unsettled(self) -> list[str]:
        """Names of the resources that are not as they were desired last."""
        return self._keepers.unsettled

    @property
    def due_at(self) -> float:
        """When the next of them is due."""
        return self._keepers.due_at

    def drops(self) -> dict[str, int]:
        """Packets that the packet filter has dropped, by reason, as far as it can be asked."""
        for table in (self._firewall, self._neighbours):
            # What ails it is told when it is brought into order.
            with suppress(NetworkError):
                counts = table.counters() if table else {}
                self._drops |= {reason: count.packets for reason, count in counts.items()}
        return dict(self._drops)

    def problems(self) -> Iterator[Problem]:
        """What is not in order, and what this node lacks."""
        yield from self._keepers.problems()
        yield from self._backend.problems()
        if self._unread is not None:
            yield Problem("error", f"neighbours: {self._unread.what}", self._unread.advice)
        if self._neighbours is None:
            what = "pods of this node can pose as each other: there is no nftables"
            yield Problem("warning", what, "install nftables")
        if self._forwarding.unknown is not None:
            what = f"whether others forbid forwarding is not known: {self._forwarding.unknown.what}"
            yield Problem("warning", what, self._forwarding.unknown.advice)
        if lacking := lacks(self._overlay, self._usable):
            off = 6 in self._present
            why = "IPv6 is switched off on this node" if off else "this node has no IPv6"
            cure = "set net.ipv6.conf.all.disable_ipv6 to 0" if off else "enable IPv6 on this host"
            what = f"{why}: its pods cannot reach {', '.join(lacking)}"
            yield Problem("warning", what, f"{cure}, or take it from the cluster")
        with suppress(NetworkError):
            for name in self._cni.preceded_by():
                what = f"the container runtime takes {name} before {FILE}"
                yield Problem("error", what, f"remove {name} if no other network is to be used")

    def _want_neighbours(self) -> None:
        if self._neighbours is None or self._keepers["neighbours"].settled:
            return
        try:
            self._keepers["neighbours"].want(self._attached())
            self._unread = None
        except NetworkError as error:
            self._unread = error

    def _attached(self) -> NeighboursDesired:
        try:
            with open_rtnetlink() as ip:
                links = device_names(ip).values()
            return NeighboursDesired(attachments.read_attachments(self._results, links))
        except (OSError, NetlinkError) as error:
            raise explained(f"attachments in {self._results}", error) from None


def guard_first(overlay: tuple[Network, ...]) -> None:
    """Nothing leaves for these ranges in the clear, before the cluster is known. NetworkError.

    What an earlier agent has left is better informed, and stays.
    """
    try:
        with open_rtnetlink() as ip:
            guarded = any(map(is_guard, own_routes(ip)))
    except (OSError, NetlinkError) as error:
        raise explained("guard", error) from None
    if not guarded:
        versions = present_families()
        Guard().reconcile(GuardDesired(tuple(n for n in overlay if n.version in versions)))


def lacks(overlay: Iterable[Network], versions: Collection[int]) -> list[str]:
    """The ranges of a version of IP that this host does not have."""
    return [str(network) for network in overlay if network.version not in versions]


def wishes(
    desired: Desired, present: Collection[int], usable: Collection[int]
) -> Iterator[tuple[str, Any]]:
    """For each resource what it should be, of the versions of IP that this host has.

    Those that are `present` are guarded, also when they are not `usable` at the moment.
    """

    def known(networks: Iterable[Network]) -> tuple[Network, ...]:
        return tuple(network for network in networks if network.version in present)

    def routes(wanted: Iterable[PeerRoute]) -> tuple[Route, ...]:
        return tuple(
            Route(
                route.prefix,
                None if route.lane is None else LANE_NAMES[route.lane],
                route.mtu,
                route.source,
            )
            for route in wanted
            if route.prefix.version in usable
        )

    overlay = known(desired.overlay)
    local = tuple(network for network in desired.local if network.version in usable)
    addresses = tuple(address for address in desired.addresses if address.version in usable)
    size = mtu.lane_mtu(r.mtu for r in (*desired.pod_routes, *desired.node_routes) if r.mtu)
    links = [Link(name, size, addresses) for name in LANE_NAMES]
    bridge = Link(POD_BRIDGE, size, None, local, required=False)
    lanes = zip(LANE_NAMES, desired.lanes, strict=True)
    yield "guard", GuardDesired(overlay)
    yield "firewall", FirewallDesired(LANE_NAMES, overlay, local, known(desired.nodes))
    yield "forwarding", ForwardingDesired((POD_BRIDGE, *LANE_NAMES))
    yield "lanes", LanesDesired(tuple(LaneDesired(name, config) for name, config in lanes))
    yield "bridge", BridgeDesired(bool(local))
    yield "sysctls", node_sysctls(LANE_NAMES, {network.version for network in overlay} & {*usable})
    yield "links", LinksDesired((*links, bridge))
    yield "routes", RoutesDesired(routes(desired.pod_routes), routes(desired.node_routes))
    yield "cni", CniDesired(local, size)
