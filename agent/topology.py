"""From what is known of the cluster to what this node should be. Pure.

Prefixes come from Node objects, which agents cannot write; keys and endpoints from the nodes
themselves. Each peer is identified by its node, and each prefix has one owner.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agent.keys import BoxKeyError, KeyRing, Side
from agent.lanefacts import Plan, Timing
from agent.model import (
    LANES,
    Address,
    LaneKeys,
    NodeFacts,
    Problem,
    WireGuardNode,
)
from agent.prefixes import Prefixes, Ranges, node_address, share_out
from wgpy.protocol.config import (
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


@dataclass(frozen=True, slots=True)
class Shares:
    """All Nodes, the oldest first, and what is whose."""

    nodes: Mapping[str, NodeFacts]
    prefixes: Mapping[str, Prefixes]
    overlay: Ranges
    problems: tuple[Problem, ...]


def shares(nodes: Mapping[str, NodeFacts], overlay: Iterable[Network] = ()) -> Shares:
    """`overlay` are the cluster's pod ranges, as far as they are configured."""
    problems: list[Problem] = []
    oldest_first = sorted(nodes.values(), key=lambda node: (node.created, node.name))
    prefixes = share_out(oldest_first, problems)
    pods = [prefix for owned in prefixes.values() for prefix in owned.pods]
    ordered = {node.name: node for node in oldest_first}
    return Shares(ordered, prefixes, Ranges([*overlay, *pods]), tuple(problems))


def survey(
    name: str,
    shares: Shares,
    published: Mapping[str, WireGuardNode],
    before: Mapping[str, WireGuardNode] | None = None,
) -> Cluster:
    """Who is a peer of node `name`.

    `published` may have objects of Nodes that are gone, and our own: they are no peers. They are
    in the order in which they were heard, and `before` are the peers of the last survey: whose a
    key was first, his it is, and who repeats it cuts off nobody but himself.
    """
    problems = list(shares.problems)
    candidates = {node: told for node, told in published.items() if node in shares.nodes}
    first = {name: candidates[name]} if name in candidates else {}
    peers = _distinct(candidates, {**first, **(before or {})}, problems)
    peers.pop(name, None)
    for node in shares.nodes:
        if node not in published and node != name:
            what = f"node {node} has published no keys: its pods cannot be reached"
            problems.append(Problem("warning", what, f"see whether an agent runs on {node}"))
    own = shares.nodes[name].internal_ips if name in shares.nodes else ()
    families: set[int] = {address.version for address in own}
    endpoints = {
        peer: _endpoint(peer, published[peer], families, shares.overlay, problems) for peer in peers
    }
    return Cluster(
        name,
        shares.nodes,
        shares.prefixes,
        peers,
        shares.overlay.networks,
        endpoints,
        tuple(problems),
    )


def _distinct(
    published: Mapping[str, WireGuardNode],
    before: Mapping[str, WireGuardNode],
    problems: list[Problem],
) -> dict[str, WireGuardNode]:
    """Without those who publish a key that another had before: a device knows a key once."""
    owners = {
        lane.public_key: name
        for name, peer in before.items()
        for lane in peer.lanes
        if name in published and lane in published[name].lanes
    }
    peers = {}
    for name, peer in published.items():
        keys = [lane.public_key for lane in peer.lanes]
        taken = [owners[key] for key in keys if owners.get(key, name) != name]
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
    overlay: Ranges,
    problems: list[Problem],
) -> Address | None:
    """Where to send: the first address of a family that this node has as well."""
    usable = [address for address in published.endpoints if address not in overlay]
    if len(usable) < len(published.endpoints):
        what = f"node {name} says that it is in the overlay itself; that address is not used"
        problems.append(Problem("warning", what, "give its agent the node's own addresses"))
    same = [address for address in usable if address.version in families]
    return next(iter(same or usable), None)


def desire(
    cluster: Cluster,
    plan: Plan,
    ring: KeyRing,
    timing: Timing,
    mtus: Mapping[Address, int] | None = None,
) -> Desired:
    """What this node should be, given the lanes' plan for the cluster's peers.

    `mtus` are inner MTUs by endpoint.
    """
    return _Draft(cluster, plan, ring, timing, mtus or {}).desired()


@dataclass(frozen=True, slots=True)
class _Draft:
    """All that is known, and the problems found on the way."""

    cluster: Cluster
    plan: Plan
    ring: KeyRing
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
                allowed_ips=owned.allowed,
            )

    def _psk(self, lane: int, name: str, keys: LaneKeys) -> Secret | None:
        own, peer = Side(self.cluster.name, self.plan.lanes[lane]), Side(name, keys)
        try:
            return self.ring.psk(lane, own, peer)
        except BoxKeyError as error:
            advice = f"restart the agent on {name}"
            self.problems.append(Problem("warning", f"lane {lane}: {error}", advice))
            return None

    def _routes(
        self, name: str, prefixes: tuple[Network, ...], sources: Mapping[int, Address]
    ) -> Iterator[PeerRoute]:
        peer = self.plan.peers.get(name)
        endpoint = self.cluster.endpoint(name)
        mtu = self.mtus.get(endpoint, 0) if endpoint else 0
        for prefix in prefixes:
            source = sources.get(prefix.version)
            yield PeerRoute(prefix, name, peer.route if peer else None, mtu, source)
