from dataclasses import replace
from ipaddress import ip_address, ip_network
from os import urandom

from hypothesis import given
from hypothesis import strategies as st

from agent.keys import KeyRing, Side
from agent.lanefacts import PeerPlan, Plan, Rotation, Timing
from agent.model import LANES, Address, LaneKeys, NodeFacts, Problem, WireGuardNode
from agent.topology import Cluster, Desired, desire, shares, survey
from wgpy.protocol.config import Endpoint, PeerChange

TIMING = Timing()


def facts(number: int, created: str = "2026-01-01T00:00:00Z") -> NodeFacts:
    return NodeFacts(
        f"node-{number}",
        f"uid-{number}",
        created,
        (ip_network(f"10.244.{number}.0/24"), ip_network(f"fd00:{number}::/64")),
        (ip_address(f"192.0.2.{number}"), ip_address(f"2001:db8::{number}")),
    )


def published(number: int, ring: KeyRing) -> WireGuardNode:
    return WireGuardNode(
        f"node-{number}",
        (ring.generate(51871, 1), ring.generate(51872, 1)),
        endpoints=facts(number).internal_ips,
    )


RING, OTHER_RING, THIRD_RING = KeyRing(urandom), KeyRing(urandom), KeyRing(urandom)
OWN, OTHER, THIRD = published(1, RING), published(2, OTHER_RING), published(3, THIRD_RING)
NODES = {f"node-{number}": facts(number) for number in (1, 2, 3)}
PUBLISHED = {node.name: node for node in (OWN, OTHER, THIRD)}


def plan(**peers: PeerPlan) -> Plan:
    named = {name.replace("_", "-"): peer for name, peer in peers.items()}
    return Plan(OWN.lanes, 0, named, Rotation("steady", 0, 1), (), False)


BOTH = PeerPlan(OTHER.lanes, (True, False), 0)


def desired(cluster: Cluster | None = None, **peers: PeerPlan) -> Desired:
    return desire(
        cluster or survey("node-1", shares(NODES), PUBLISHED),
        plan(**(peers or {"node_2": BOTH})),
        ring_of(RING),
        TIMING,
        {ip_address("192.0.2.2"): 1380},
    )


def ring_of(ring: KeyRing) -> KeyRing:
    """The same keys, with nothing agreed upon yet."""
    fresh = KeyRing(urandom)
    for keys in OWN.lanes:
        fresh.adopt(ring.private_key(keys.public_key), keys.port, keys.epoch)
    return fresh


def test_a_peer_has_its_prefixes_endpoint_and_agreed_key_on_both_lanes() -> None:
    for lane, change in enumerate(desired().lanes):
        assert change.listen_port == 51871 + lane
        (peer,) = change.peers
        assert peer.public_key == OTHER.lanes[lane].public_key
        assert peer.endpoint == Endpoint("192.0.2.2", 51871 + lane)
        assert peer.persistent_keepalive == (25 if lane == 0 else 0)
        assert {str(allowed.network) for allowed in peer.allowed_ips} == {
            "10.244.2.0/24",
            "fd00:2::/64",
            "192.0.2.2/32",
            "2001:db8::2/128",
        }
        mine, theirs = Side("node-1", OWN.lanes[lane]), Side("node-2", OTHER.lanes[lane])
        assert peer.preshared_key == OTHER_RING.psk(lane, theirs, mine)


def test_a_peer_whose_box_key_is_no_good_is_left_out_and_reported() -> None:
    weak = replace(OTHER.lanes[0], box_key=bytes([1, *bytes(31)]))
    whole = desired(node_2=replace(BOTH, keys=(weak, OTHER.lanes[1])))
    home, spare = whole.lanes
    assert home.peers == ()
    assert len(spare.peers) == 1
    assert any("the box key of node-2" in problem.what for problem in whole.problems)


def test_routes_follow_the_plan_and_no_other_node_is_left_out() -> None:
    whole = desired()
    lanes = {str(route.prefix): route.lane for route in whole.pod_routes}
    assert lanes == {
        "10.244.2.0/24": 0,
        "fd00:2::/64": 0,
        "10.244.3.0/24": None,
        "fd00:3::/64": None,
    }
    assert {str(route.prefix): route.lane for route in whole.node_routes} == {
        "192.0.2.2/32": 0,
        "2001:db8::2/128": 0,
        "192.0.2.3/32": None,
        "2001:db8::3/128": None,
    }
    by_prefix = {str(route.prefix): route for route in whole.pod_routes}
    assert by_prefix["10.244.2.0/24"].source == ip_address("10.244.1.1")
    assert by_prefix["fd00:2::/64"].source == ip_address("fd00:1::1")
    assert by_prefix["10.244.2.0/24"].mtu == 1380


def test_this_node_has_its_gateway_addresses_and_the_sets_of_the_firewall() -> None:
    whole = desired()
    assert whole.addresses == (ip_address("10.244.1.1"), ip_address("fd00:1::1"))
    assert whole.local == NODES["node-1"].pod_cidrs
    assert ip_network("10.244.2.0/23") in whole.overlay
    assert ip_network("192.0.2.1/32") in whole.nodes
    assert len(whole.nodes) == 6


def test_an_object_without_its_node_is_no_peer_and_a_node_without_object_is_reported() -> None:
    cluster = survey("node-1", shares({"node-1": facts(1), "node-3": facts(3)}), {"node-2": OTHER})
    assert cluster.peers == {}
    assert [problem.what for problem in cluster.problems] == [
        "node node-3 has published no keys: its pods cannot be reached"
    ]


def test_who_repeats_a_key_is_left_out_however_old_he_is() -> None:
    """Heard later, or a second time by who has just been started: the key is who had it."""
    thief = replace(THIRD, lanes=(THIRD.lanes[0], OTHER.lanes[0]))
    nodes = {**NODES, "node-3": facts(3, "2025-01-01T00:00:00Z")}
    heard_later = {**PUBLISHED, "node-3": thief}
    heard_first = {"node-3": thief, **PUBLISHED} | {"node-3": thief}
    before = survey("node-1", shares(nodes), PUBLISHED).peers
    for cluster in (
        survey("node-1", shares(nodes), heard_later),
        survey("node-1", shares(nodes), heard_first, before),
    ):
        assert set(cluster.peers) == {"node-2"}
        assert any("a key of node node-2" in problem.what for problem in cluster.problems)


def test_who_repeats_our_own_key_is_no_peer() -> None:
    thief = replace(THIRD, lanes=(OWN.lanes[0], THIRD.lanes[1]))
    cluster = survey("node-1", shares(NODES), {"node-3": thief, "node-1": OWN, "node-2": OTHER})
    assert set(cluster.peers) == {"node-2"}


ROGUE_KEYS = st.sampled_from([*OWN.lanes, *OTHER.lanes, *THIRD.lanes])
ROGUE_ADDRESSES = st.sampled_from(
    [*facts(1).internal_ips, *facts(2).internal_ips, ip_address("10.244.2.9")]
)


@given(
    keys=st.tuples(ROGUE_KEYS, ROGUE_KEYS).filter(lambda pair: pair[0] != pair[1]),
    box=ROGUE_KEYS,
    ports=st.tuples(st.integers(1, 65535), st.integers(1, 65535)),
    epochs=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    active=st.sampled_from([0, 1]),
    endpoints=st.lists(ROGUE_ADDRESSES, max_size=3),
    created=st.sampled_from(["2025-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]),
)
def test_whatever_a_node_says_of_itself_the_others_stay_as_they_are(
    keys: tuple[LaneKeys, LaneKeys],
    box: LaneKeys,
    ports: tuple[int, int],
    epochs: tuple[int, int],
    active: int,
    endpoints: list[Address],
    created: str,
) -> None:
    """Node 3 is in other hands. Its object is well-formed: others are not read at all."""
    nodes = {**NODES, "node-3": facts(3, created)}
    said = WireGuardNode(
        "node-3",
        tuple(  # type: ignore[arg-type]
            replace(key, box_key=box.box_key, port=port, epoch=epoch)
            for key, port, epoch in zip(keys, ports, epochs, strict=True)
        ),
        active,
        tuple(endpoints),
    )
    honest = survey("node-1", shares(nodes), PUBLISHED)
    with_rogue = survey("node-1", shares(nodes), {**PUBLISHED, "node-3": said}, honest.peers)
    for lane in LANES:
        assert _of_node_2(honest, lane) == _of_node_2(with_rogue, lane)
    assert with_rogue.prefixes == honest.prefixes
    assert with_rogue.endpoint("node-2") == honest.endpoint("node-2")


def _of_node_2(cluster: Cluster, lane: int) -> list[PeerChange]:
    """How the device has node 2, the rest left out; the others have nothing of its own."""
    both = plan(
        node_2=BOTH,
        **{
            name.replace("-", "_"): PeerPlan(peer.lanes, (True, True), 0)
            for name, peer in cluster.peers.items()
            if name != "node-2"
        },
    )
    peers = desire(cluster, both, ring_of(RING), TIMING).lanes[lane].peers
    mine = [peer for peer in peers if peer.public_key == OTHER.lanes[lane].public_key]
    theirs = {a.network for peer in peers for a in peer.allowed_ips if peer not in mine}
    assert not theirs & {a.network for peer in mine for a in peer.allowed_ips}
    return mine


def test_the_older_node_keeps_a_prefix_whatever_its_name() -> None:
    older = replace(facts(3, "2025-01-01T00:00:00Z"), pod_cidrs=(ip_network("10.244.2.0/23"),))
    cluster = survey("node-1", shares({**NODES, "node-3": older}), PUBLISHED)
    assert cluster.prefixes["node-3"].pods == (ip_network("10.244.2.0/23"),)
    assert cluster.prefixes["node-2"].pods == (ip_network("fd00:2::/64"),)


def test_an_endpoint_within_the_overlay_is_not_used() -> None:
    inside = replace(OTHER, endpoints=(ip_address("10.244.3.7"), ip_address("192.0.2.2")))
    cluster = survey("node-1", shares(NODES), {**PUBLISHED, "node-2": inside})
    assert cluster.endpoint("node-2") == ip_address("192.0.2.2")
    assert any("in the overlay itself" in problem.what for problem in cluster.problems)


def test_an_endpoint_is_of_a_family_that_this_node_has() -> None:
    only_v6 = replace(facts(1), internal_ips=(ip_address("2001:db8::1"),))
    cluster = survey("node-1", shares({**NODES, "node-1": only_v6}), PUBLISHED)
    assert cluster.endpoint("node-2") == ip_address("2001:db8::2")


def test_the_plans_problems_are_told_with_the_others() -> None:
    problem = Problem("error", "node-2 is cut off")
    whole = desire(
        survey("node-1", shares(NODES), PUBLISHED),
        replace(plan(), problems=(problem,)),
        RING,
        TIMING,
    )
    assert problem in whole.problems
