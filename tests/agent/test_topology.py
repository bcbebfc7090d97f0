from dataclasses import replace
from ipaddress import ip_address, ip_network
from os import urandom

from agent.keys import KeyRing, Side
from agent.lanefacts import PeerPlan, Plan, Rotation, Timing
from agent.model import Halves, NodeFacts, Problem, SealedHalf, WireGuardNode
from agent.topology import Cluster, Desired, desire, survey
from wgpy.protocol.config import Endpoint

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


def half(lane: int) -> SealedHalf:
    """What node-2 has written for us."""
    return OTHER_RING.seal(lane, Side("node-2", OTHER.lanes[lane]), Side("node-1", OWN.lanes[lane]))


BOTH = PeerPlan(OTHER.lanes, (True, False), 0)
HALVES: dict[str, Halves] = {"node-2": (half(0), half(1))}


def desired(cluster: Cluster | None = None, halves: dict[str, Halves] | None = None) -> Desired:
    return desire(
        cluster or survey("node-1", NODES, PUBLISHED),
        plan(node_2=BOTH),
        ring_of(RING),
        HALVES if halves is None else halves,
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
        sealed = RING.seal(lane, mine, theirs)
        assert peer.preshared_key == OTHER_RING.psk(lane, theirs, mine, sealed)


def test_a_peer_without_its_half_is_not_configured_on_that_lane() -> None:
    home, spare = desired(halves={"node-2": (half(0), None)}).lanes
    assert len(home.peers) == 1
    assert spare.peers == ()
    home, spare = desired(halves={}).lanes
    assert home.peers == spare.peers == ()


def test_a_half_for_other_epochs_is_awaited_and_a_wrong_one_reported() -> None:
    late = desired(halves={"node-2": (replace(half(0), reader_epoch=9), None)})
    assert late.lanes[0].peers == ()
    assert not any("half" in problem.what for problem in late.problems)
    wrong = desired(halves={"node-2": (replace(half(0), sealed=b"x" * 48), None)})
    assert wrong.lanes[0].peers == ()
    assert any("half of node-2" in problem.what for problem in wrong.problems)


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


def test_halves_are_written_for_every_peer_even_before_its_are_there() -> None:
    written = desired(halves={}).halves
    assert set(written) == {"node-2", "node-3"}
    assert all(half is not None for halves in written.values() for half in halves)


def test_an_object_without_its_node_is_no_peer_and_a_node_without_object_is_reported() -> None:
    cluster = survey("node-1", {"node-1": facts(1), "node-3": facts(3)}, {"node-2": OTHER})
    assert cluster.peers == {}
    assert [problem.what for problem in cluster.problems] == [
        "node node-3 has published no keys: its pods cannot be reached"
    ]


def test_who_publishes_the_key_of_an_older_node_is_left_out() -> None:
    thief = replace(THIRD, lanes=(THIRD.lanes[0], OTHER.lanes[0]))
    nodes = {**NODES, "node-3": facts(3, "2026-02-01T00:00:00Z")}
    cluster = survey("node-1", nodes, {**PUBLISHED, "node-3": thief})
    assert set(cluster.peers) == {"node-2"}
    assert any("a key of node node-2" in problem.what for problem in cluster.problems)


def test_the_older_node_keeps_a_prefix_whatever_its_name() -> None:
    older = replace(facts(3, "2025-01-01T00:00:00Z"), pod_cidrs=(ip_network("10.244.2.0/23"),))
    cluster = survey("node-1", {**NODES, "node-3": older}, PUBLISHED)
    assert cluster.prefixes["node-3"].pods == (ip_network("10.244.2.0/23"),)
    assert cluster.prefixes["node-2"].pods == (ip_network("fd00:2::/64"),)


def test_an_endpoint_within_the_overlay_is_not_used() -> None:
    inside = replace(OTHER, endpoints=(ip_address("10.244.3.7"), ip_address("192.0.2.2")))
    cluster = survey("node-1", NODES, {**PUBLISHED, "node-2": inside})
    assert cluster.endpoint("node-2") == ip_address("192.0.2.2")
    assert any("in the overlay itself" in problem.what for problem in cluster.problems)


def test_an_endpoint_is_of_a_family_that_this_node_has() -> None:
    only_v6 = replace(facts(1), internal_ips=(ip_address("2001:db8::1"),))
    cluster = survey("node-1", {**NODES, "node-1": only_v6}, PUBLISHED)
    assert cluster.endpoint("node-2") == ip_address("2001:db8::2")


def test_the_plans_problems_are_told_with_the_others() -> None:
    problem = Problem("error", "node-2 is cut off")
    whole = desire(
        survey("node-1", NODES, PUBLISHED),
        replace(plan(), problems=(problem,)),
        RING,
        {},
        TIMING,
    )
    assert problem in whole.problems
