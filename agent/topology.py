"""From what is known of the cluster to what this node should be. Pure.

Prefixes come from Node objects, which agents cannot write; keys and endpoints from the nodes
themselves. Each peer is identified by its node, and each prefix has one owner.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from agent.keys import KeyRing, SealError, Side
from agent.lanefacts import Plan, Timing
from agent.model import (
    LANES,
    Address,
    Halves,
    LaneKeys,
    NodeFacts,
    Problem,
    WireGuardNode,
)
from agent.prefixes import Prefixes, node_address, share_out
from wgpy.protocol.config import (
    AllowedIPChange,
    Endpoint,
    InterfaceChange,
    Network,
    PeerChange,
    Secret,
)


@dataclass(frozen=True, slots=True)
class PeerRoute:
    """`prefix` of the node `peer` over a lane; no lane: it cannot be reached for now."""

    prefix: Network
    peer: str
    lane: int | None
    # Bytes of the largest inner packet; 0 for the lane's own MTU.
    mtu: int = 0
    source: Address | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """This node as it should be."""

    # By lane, each the whole configuration of its device.
    lanes: tuple[InterfaceChange, InterfaceChange]
    # Of both lanes, and where the host's packets to pods come from.
    addresses: tuple[Address, ...]
    pod_routes: tuple[PeerRoute, ...]
    # As pods see other nodes; none is left out, so that none is reached in plaintext.
    node_routes: tuple[PeerRoute, ...]
    # Prefixes of all pods, of this node's pods, and addresses of all nodes.
    overlay: tuple[Network, ...]
    local: tuple[Network, ...]
    nodes: tuple[Network, ...]
    # To publish: our halves by reader.
    halves: Mapping[str, Halves] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Cluster:
    """All Nodes with their prefixes, and the peers among them."""

    name: str
    nodes: Mapping[str, NodeFacts]
    prefixes: Mapping[str, Prefixes]
    peers: Mapping[str, WireGuardNode]
    overlay: tuple[Network, ...]
    endpoints: Mapping[str, Address | None]
    problems: tuple[Problem, ...] = ()

    def endpoint(self, name: str) -> Address | None:
        """Where to send to a peer; None: it has to come to us."""
        return self.endpoints.get(name)


def survey(
    name: str,
    nodes: Mapping[str, NodeFacts],
    published: Mapping[str, WireGuardNode],
    overlay: Iterable[Network] = (),
) -> Cluster:
    """Who is a peer of node `name`, and what is whose.

    `published` may have objects of Nodes that are gone, and our own: they are no peers.
    `overlay` are the cluster's pod ranges, as far as they are configured.
    """
    problems: list[Problem] = []
    oldest_first = sorted(nodes.values(), key=lambda node: (node.created, node.name))
    prefixes = share_out(oldest_first, problems)
    pods = [prefix for owned in prefixes.values() for prefix in owned.pods]
    candidates = {
        node.name: published[node.name] for node in oldest_first if node.name in published
    }
    peers = _distinct(candidates, problems)
    peers.pop(name, None)
    for node in oldest_first:
        if node.name not in published and node.name != name:
            what = f"node {node.name} has published no keys: its pods cannot be reached"
            problems.append(Problem("warning", what, f"see whether an agent runs on {node.name}"))
    ranges = tuple(_collapsed([*overlay, *pods]))
    own = nodes[name].internal_ips if name in nodes else ()
    families: set[int] = {address.version for address in own}
    endpoints = {
        peer: _endpoint(peer, published[peer], families, ranges, problems) for peer in peers
    }
    return Cluster(name, nodes, prefixes, peers, ranges, endpoints, tuple(problems))


def _collapsed(prefixes: Iterable[Network]) -> Iterator[Network]:
    known = list(prefixes)
    yield from collapse_addresses(p for p in known if isinstance(p, IPv4Network))
    yield from collapse_addresses(p for p in known if isinstance(p, IPv6Network))


def _distinct(
    published: Mapping[str, WireGuardNode], problems: list[Problem]
) -> dict[str, WireGuardNode]:
    """Without those who publish a key that an older node has: a device knows a key once."""
    owners: dict[bytes, str] = {}
    peers = {}
    for name, peer in published.items():
        keys = [lane.public_key for lane in peer.lanes]
        taken = [owners[key] for key in keys if key in owners]
        if taken:
            what = f"node {name} publishes a key of node {taken[0]} and is left out"
            problems.append(Problem("error", what, f"look what has happened to node {name}"))
            continue
        owners |= dict.fromkeys(keys, name)
        peers[name] = peer
    return peers


def _endpoint(
    name: str,
    published: WireGuardNode,
    families: set[int],
    overlay: tuple[Network, ...],
    problems: list[Problem],
) -> Address | None:
    """Where to send: the first address of a family that this node has as well."""
    usable = [a for a in published.endpoints if not any(a in network for network in overlay)]
    if len(usable) < len(published.endpoints):
        what = f"node {name} says that it is in the overlay itself; that address is not used"
        problems.append(Problem("warning", what, "give its agent the node's own addresses"))
    same = [address for address in usable if address.version in families]
    return next(iter(same or usable), None)


def desire(
    cluster: Cluster,
    plan: Plan,
    ring: KeyRing,
    halves: Mapping[str, Halves],
    timing: Timing,
    mtus: Mapping[Address, int] | None = None,
) -> Desired:
    """What this node should be, given the lanes' plan for the cluster's peers.

    `halves` are those that each peer has written for us, `mtus` inner MTUs by endpoint.
    """
    return _Draft(cluster, plan, ring, halves, timing, mtus or {}).desired()


@dataclass(frozen=True, slots=True)
class _Draft:
    """All that is known, and the problems found on the way."""

    cluster: Cluster
    plan: Plan
    ring: KeyRing
    halves: Mapping[str, Halves]
    timing: Timing
    mtus: Mapping[Address, int]
    problems: list[Problem] = field(default_factory=list)

    def desired(self) -> Desired:
        cluster = self.cluster
        own = cluster.prefixes.get(cluster.name, Prefixes())
        addresses = tuple(map(node_address, own.pods))
        sources: dict[int, Address] = {a.version: a for a in reversed(addresses)}
        first, second = map(self._lane, LANES)
        pods: list[PeerRoute] = []
        nodes: list[PeerRoute] = []
        for name, owned in cluster.prefixes.items():
            if name != cluster.name:
                pods += self._routes(name, owned.pods, sources)
                nodes += self._routes(name, owned.nodes, sources)
        return Desired(
            lanes=(first, second),
            addresses=addresses,
            pod_routes=tuple(pods),
            node_routes=tuple(nodes),
            overlay=cluster.overlay,
            local=own.pods,
            nodes=tuple(prefix for owned in cluster.prefixes.values() for prefix in owned.nodes),
            halves=dict(self._own_halves()),
            problems=(*cluster.problems, *self.plan.problems, *self.problems),
        )

    def _lane(self, lane: int) -> InterfaceChange:
        keys = self.plan.lanes[lane]
        return InterfaceChange(
            private_key=self.ring.private_key(keys.public_key),
            listen_port=keys.port,
            peers=tuple(self._lane_peers(lane)),
        )

    def _lane_peers(self, lane: int) -> Iterator[PeerChange]:
        for name, peer in self.plan.peers.items():
            keys = peer.keys[lane]
            psk = self._psk(lane, name, keys) if keys else None
            if keys is None or psk is None:
                continue
            endpoint = self.cluster.endpoint(name)
            owned = self.cluster.prefixes.get(name, Prefixes())
            yield PeerChange(
                keys.public_key,
                preshared_key=psk,
                endpoint=Endpoint(str(endpoint), keys.port) if endpoint else None,
                persistent_keepalive=self.timing.keepalive if peer.keepalive[lane] else 0,
                replace_allowed_ips=True,
                allowed_ips=tuple(AllowedIPChange(p) for p in (*owned.pods, *owned.nodes)),
            )

    def _psk(self, lane: int, name: str, keys: LaneKeys) -> Secret | None:
        own, peer = Side(self.cluster.name, self.plan.lanes[lane]), Side(name, keys)
        half = self.halves.get(name, (None, None))[lane]
        if half and (half.writer_epoch, half.reader_epoch) != (keys.epoch, own.keys.epoch):
            half = None  # no error: one piece of news is ahead of another
        try:
            return self.ring.psk(lane, own, peer, half)
        except SealError as error:
            advice = f"restart the agent on {name} if this stays"
            self.problems.append(Problem("warning", f"lane {lane}: {error}", advice))
            return None

    def _own_halves(self) -> Iterator[tuple[str, Halves]]:
        """For each peer's published keys, whether they are on our devices yet or not."""
        own = [Side(self.cluster.name, keys) for keys in self.plan.lanes]
        for name, published in self.cluster.peers.items():
            try:
                first, second = (
                    self.ring.seal(lane, own[lane], Side(name, published.lanes[lane]))
                    for lane in LANES
                )
            except SealError as error:
                self.problems.append(Problem("error", str(error), f"restart the agent on {name}"))
            else:
                yield name, (first, second)

    def _routes(
        self, name: str, prefixes: tuple[Network, ...], sources: Mapping[int, Address]
    ) -> Iterator[PeerRoute]:
        peer = self.plan.peers.get(name)
        endpoint = self.cluster.endpoint(name)
        mtu = self.mtus.get(endpoint, 0) if endpoint else 0
        for prefix in prefixes:
            source = sources.get(prefix.version)
            yield PeerRoute(prefix, name, peer.route if peer else None, mtu, source)
