from dataclasses import replace
from ipaddress import ip_address, ip_network
from os import urandom

from agent.decisions import Decision, Decisions, Identity, Known, peer_routes
from agent.model import LANES, NodeFacts, WireGuardNode
from agent.topology import shares, survey
from wgpy.protocol.config import ZERO_KEY, InterfaceChange, InterfaceStats, Network, PeerStats

SECOND = 10**9
NODES = {
    f"node-{number}": NodeFacts(
        f"node-{number}",
        f"uid-{number}",
        "",
        (ip_network(f"10.244.{number}.0/24"),),
        (ip_address(f"192.0.2.{number}"),),
    )
    for number in (1, 2)
}

POD_CIDR = {name: facts.pod_cidrs[0] for name, facts in NODES.items()}


class Host:
    """A node whose kernel does at once what it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.devices: tuple[InterfaceStats | None, InterfaceStats | None] = (None, None)
        self.routes: dict[Network, int] = {}
        self.published: WireGuardNode | None = None
        self.start()

    def start(self) -> None:
        self.agent = Decisions(Identity(self.name), urandom, self.devices, self.published)

    def turn(self, now: int, other: "Host") -> Decision:
        known = Known(
            NODES,
            {other.name: other.published} if other.published else {},
            self.devices,
            self.routes,
            self.published,
            {},
        )
        decision = self.agent.decide(float(now), now * SECOND, known)
        first, second = (
            applied(before, change, keys.public_key)
            for before, change, keys in zip(
                self.devices, decision.desired.lanes, decision.plan.lanes, strict=True
            )
        )
        self.devices = first, second
        self.routes = {r.prefix: r.lane for r in decision.desired.pod_routes if r.lane is not None}
        self.published = decision.publish
        return decision


def applied(
    before: InterfaceStats | None, change: InterfaceChange, public_key: bytes
) -> InterfaceStats:
    same = before is not None and before.private_key == change.private_key
    known = {peer.public_key: peer for peer in before.peers} if before and same else {}
    peers = tuple(
        replace(
            known.get(peer.public_key, PeerStats(peer.public_key)),
            preshared_key=peer.preshared_key or ZERO_KEY,
            persistent_keepalive=peer.persistent_keepalive or 0,
        )
        for peer in change.peers
    )
    return InterfaceStats(change.private_key, public_key, change.listen_port or 0, 0, peers)


def heard(host: Host, other: Host, lane: int, now: int) -> InterfaceStats | None:
    """The device after what `other` may have sent; a handshake needs one preshared key."""
    mine, theirs = host.devices[lane], other.devices[lane]
    if mine is None or theirs is None:
        return mine
    back = {peer.public_key: peer for peer in theirs.peers}.get(mine.public_key or b"")

    def after(peer: PeerStats) -> PeerStats:
        agreed = back is not None and back.preshared_key == peer.preshared_key
        if back is None or not agreed or peer.public_key != theirs.public_key:
            return peer
        sends = bool(back.persistent_keepalive or peer.persistent_keepalive)
        return replace(
            peer,
            last_handshake_ns=now * SECOND if sends else peer.last_handshake_ns,
            rx_bytes=peer.rx_bytes + (32 if back.persistent_keepalive else 0),
        )

    return replace(mine, peers=tuple(map(after, mine.peers)))


def run(one: Host, other: Host, start: int, seconds: int) -> int:
    for now in range(start, start + seconds):
        one.turn(now, other)
        other.turn(now, one)
        for host, peer in ((one, other), (other, one)):
            first, second = (heard(host, peer, lane, now) for lane in LANES)
            host.devices = first, second
    return start + seconds


def test_two_nodes_agree_on_keys_by_what_they_publish_alone() -> None:
    one, other = Host("node-1"), Host("node-2")
    run(one, other, 100, 10)
    assert one.routes == {POD_CIDR["node-2"]: 0}
    assert other.routes == {POD_CIDR["node-1"]: 0}
    for lane in LANES:
        first, second = one.devices[lane], other.devices[lane]
        assert first is not None
        assert second is not None
        assert first.peers[0].preshared_key == second.peers[0].preshared_key != ZERO_KEY
        assert first.peers[0].public_key == second.public_key


def test_an_agent_that_restarts_leaves_all_as_it_is_and_then_has_new_keys() -> None:
    one, other = Host("node-1"), Host("node-2")
    now = run(one, other, 100, 100)
    before = one.devices
    one.start()
    one.turn(now, other)
    assert [device and device.public_key for device in one.devices] == [
        device and device.public_key for device in before
    ]
    assert [device and device.peers for device in one.devices] == [
        device and device.peers for device in before
    ]
    now = run(one, other, now, 400)
    old = {device.public_key for device in before if device}
    assert not old & {device.public_key for device in one.devices if device}
    assert one.routes == {POD_CIDR["node-2"]: 0}
    assert other.routes == {POD_CIDR["node-1"]: 0}
    decision = one.turn(now, other)
    assert decision.plan.rotation.stage == "steady"
    assert decision.desired.problems == ()


def test_what_is_published_is_the_node_as_it_is() -> None:
    decision = Host("node-1").turn(100, Host("node-2"))
    assert decision.publish.endpoints == (ip_address("192.0.2.1"),)
    assert [keys.port for keys in decision.publish.lanes] == [51871, 51872]
    assert [keys.epoch for keys in decision.publish.lanes] == [1, 1]


def test_the_lane_of_a_peer_is_the_spare_while_its_routes_are_on_both() -> None:
    cluster = survey(
        "node-1", shares(NODES), {"node-2": Host("node-2").turn(1, Host("node-1")).publish}
    )
    (pods,) = NODES["node-2"].pod_cidrs
    address = ip_network("192.0.2.2")
    assert peer_routes(cluster, {}) == {}
    assert peer_routes(cluster, {pods: 0, address: 0}) == {"node-2": 0}
    assert peer_routes(cluster, {pods: 0, address: 1}) == {"node-2": 1}
    assert peer_routes(cluster, {ip_network("10.244.1.0/24"): 0}) == {}
