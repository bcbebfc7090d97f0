from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agent.lanefacts import DeviceFacts, Facts, PeerFacts, Plan
from agent.lanes import HOME, SPARE, Lanes
from agent.model import LaneKeys, WireGuardNode, few
from tests.agent.lanesim import TIMING, Cluster

# Longer than any rotation takes when nobody is down.
_SOON = 1500


def rotate(cluster: Cluster, *names: str) -> None:
    for name in names or cluster.nodes:
        agent = cluster.nodes[name].agent
        assert agent is not None
        agent.lanes.request_rotation()


def settle(cluster: Cluster, limit: int = _SOON) -> None:
    # An agent at rest looks every 15 seconds.
    cluster.run(30)
    cluster.run_until_steady(limit)


def assert_nothing_lost(cluster: Cluster) -> None:
    assert cluster.losses == []
    assert cluster.violations == []


@pytest.mark.parametrize("count", [2, 3, 5])
def test_all_nodes_rotate_at_once_and_no_packet_is_lost(count: int) -> None:
    cluster = Cluster(count, seed=count)
    old = cluster.keys()
    rotate(cluster)
    settle(cluster)
    assert_nothing_lost(cluster)
    assert not old & cluster.keys()


def test_nodes_rotate_one_by_one_and_each_has_new_keys_alone() -> None:
    cluster = Cluster(3, seed=7)
    for name in cluster.nodes:
        before = {k: device.key for k, device in cluster.wire.devices.items()}
        rotate(cluster, name)
        settle(cluster)
        changed = {k for k, device in cluster.wire.devices.items() if device.key != before[k]}
        assert changed == {(name, HOME), (name, SPARE)}
    assert_nothing_lost(cluster)


def test_an_agent_that_restarts_adopts_its_devices_and_rotates() -> None:
    cluster = Cluster(3, seed=11)
    node = cluster.nodes["node-1"]
    old = {cluster.wire.devices["node-1", lane].key for lane in (HOME, SPARE)}
    node.crash()
    cluster.run(30)
    node.running = True
    settle(cluster)
    assert_nothing_lost(cluster)
    assert not old & cluster.keys()


def test_a_lane_without_traffic_is_not_taken_for_one_that_was_left() -> None:
    cluster = Cluster(2, seed=3)
    for pair in cluster.pace:
        cluster.pace[pair] = 10**9
    cluster.run(200)
    for _ in range(4):
        cluster.nodes["node-1"].crash()
        rotate(cluster, "node-0")
        cluster.run(TIMING.keepalive * 8)
        cluster.nodes["node-1"].running = True
        settle(cluster)
    assert_nothing_lost(cluster)


@pytest.mark.parametrize("seed", range(40))
def test_agents_that_die_in_the_middle_of_anything_lose_no_packet(seed: int) -> None:
    cluster = Cluster(3, seed, crash_rate=0.02)
    for _ in range(3):
        rotate_some(cluster)
        cluster.run(cluster.random.randint(1, 200))
    cluster.crash_rate = 0.0
    settle(cluster)
    assert cluster.crashes > 0
    assert_nothing_lost(cluster)


def rotate_some(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        if node.agent is not None and cluster.random.random() < 0.7:
            node.agent.lanes.request_rotation()


def errors(plan: Plan | None) -> list[str]:
    return [p.what for p in plan.problems if p.severity == "error"] if plan else []


def test_a_peer_whose_agent_stays_down_is_cut_after_the_cap_and_reported() -> None:
    cluster = Cluster(3, seed=5)
    cluster.nodes["node-2"].crash()
    rotate(cluster, "node-0")
    agent = cluster.nodes["node-0"].agent
    assert agent is not None
    start = cluster.now
    while not errors(agent.plan):
        assert cluster.now - start < 2 * TIMING.cap
        assert_nothing_lost(cluster)
        cluster.run(1)
    assert cluster.now - start >= TIMING.cap
    assert errors(agent.plan) == ["node-2 is cut off: it kept lane 0 in use for 600 s"]
    cluster.run(450)
    assert {frozenset({loss.source, loss.target}) for loss in cluster.losses} == {
        frozenset({"node-0", "node-2"})
    }
    # It comes back by itself.
    cluster.nodes["node-2"].running = True
    settle(cluster, 3000)
    lost = len(cluster.losses)
    cluster.run(500)
    assert len(cluster.losses) == lost


def test_nobody_is_cut_when_nobody_at_all_comes_to_the_new_keys() -> None:
    cluster = Cluster(3, seed=6)
    for name in ("node-1", "node-2"):
        cluster.nodes[name].api = False
    rotate(cluster, "node-0")
    cluster.run(int(3 * TIMING.cap))
    assert_nothing_lost(cluster)
    agent = cluster.nodes["node-0"].agent
    assert agent is not None
    assert agent.plan is not None
    assert agent.plan.rotation.waiting == ("node-1", "node-2")
    assert [problem.severity for problem in agent.plan.problems] == ["warning"]
    for node in cluster.nodes.values():
        node.api = True
    settle(cluster)
    assert_nothing_lost(cluster)


def test_a_node_that_cannot_publish_does_not_go_on() -> None:
    cluster = Cluster(3, seed=8)
    node = cluster.nodes["node-0"]
    node.api = False
    rotate(cluster, "node-0")
    cluster.run(int(3 * TIMING.cap))
    assert_nothing_lost(cluster)
    assert {other.routes["node-0"] for other in cluster.nodes.values() if other != node} == {HOME}
    node.api = True
    settle(cluster)
    assert_nothing_lost(cluster)


def test_traffic_is_back_by_itself_after_a_broken_path_whatever_happened_meanwhile() -> None:
    for seed in range(10):
        cluster = Cluster(3, seed)
        rotate_some(cluster)
        cluster.run(cluster.random.randint(1, 150))
        cluster.wire.broken.add(frozenset({"node-0", "node-1"}))
        rotate_some(cluster)
        cluster.run(cluster.random.randint(1, 1500))
        cluster.wire.broken.clear()
        cluster.run(30)
        pair = {"node-0", "node-1"}
        assert all({loss.source, loss.target} == pair for loss in cluster.losses)
        cluster.losses.clear()
        settle(cluster)
        assert cluster.losses == []


def test_a_node_that_reboots_is_found_again_under_its_new_keys() -> None:
    cluster = Cluster(3, seed=9)
    node = cluster.nodes["node-1"]
    node.crash()
    node.routes.clear()
    for lane in (HOME, SPARE):
        cluster.wire.devices["node-1", lane].set(b"", {})
        cluster.wire.devices["node-1", lane].key = None
    cluster.run(20)
    node.running = True
    settle(cluster)
    cluster.losses.clear()
    cluster.run(450)
    assert cluster.losses == []


def test_a_new_node_joins_while_others_rotate() -> None:
    cluster = Cluster(3, seed=10)
    rotate(cluster)
    cluster.run(40)
    cluster.add_node()
    settle(cluster)
    assert_nothing_lost(cluster)
    assert len(cluster.up) == 12


class Trouble(RuleBasedStateMachine):
    """Anything at any time, as long as nobody is out of reach for as long as the cap."""

    cluster: Cluster

    @initialize(
        count=st.integers(2, 5),
        seed=st.integers(0, 2**32),
        crash_rate=st.sampled_from((0.0, 0.003, 0.02)),
        delay=st.sampled_from((0, 3, 20, 45)),
    )
    def begin(self, count: int, seed: int, crash_rate: float, delay: int) -> None:
        self.cluster = Cluster(count, seed, crash_rate, delay)
        # By node: until when it is in trouble, and from when it may be again.
        self.until: dict[str, int] = {}
        self.again: dict[str, int] = {}

    @rule(which=st.integers(0, 4))
    def one_rotates(self, which: int) -> None:
        agent = self.node(which).agent
        if agent is not None:
            agent.lanes.request_rotation()

    @rule()
    def all_rotate(self) -> None:
        for node in self.cluster.nodes.values():
            if node.agent is not None:
                node.agent.lanes.request_rotation()

    @rule(which=st.integers(0, 4), seconds=st.integers(1, 200), agent=st.booleans())
    def an_agent_dies_or_loses_the_api(self, which: int, seconds: int, agent: bool) -> None:
        node = self.node(which)
        if self.cluster.now < self.again.get(node.name, 0):
            return
        if agent:
            node.crash()
        else:
            node.api = False
        self.until[node.name] = self.cluster.now + seconds
        self.again[node.name] = self.cluster.now + seconds + 200

    @precondition(lambda self: len(self.cluster.nodes) < 6)
    @rule()
    def a_node_joins(self) -> None:
        self.cluster.add_node()

    @rule(seconds=st.integers(1, 120))
    def time_goes_by(self, seconds: int) -> None:
        for _ in range(seconds):
            self.cluster.run(1)
            for name in [n for n, at in self.until.items() if self.cluster.now >= at]:
                del self.until[name]
                self.cluster.nodes[name].running = self.cluster.nodes[name].api = True

    def node(self, which: int) -> Any:
        return list(self.cluster.nodes.values())[which % len(self.cluster.nodes)]

    @invariant()
    def no_packet_is_lost(self) -> None:
        if hasattr(self, "cluster"):
            assert_nothing_lost(self.cluster)

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        self.cluster.crash_rate = 0.0
        for node in self.cluster.nodes.values():
            node.running = node.api = True
        settle(self.cluster, 4000)
        assert_nothing_lost(self.cluster)
        old = self.cluster.keys()
        rotate(self.cluster)
        settle(self.cluster, 4000)
        assert_nothing_lost(self.cluster)
        assert not old & self.cluster.keys()


def test_no_trouble_of_any_kind_loses_a_packet_or_ends_rotation() -> None:
    run_state_machine_as_test(
        Trouble,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# One step, by hand.

OWN = (LaneKeys(b"a" * 32, b"a" * 32, 1, 4), LaneKeys(b"b" * 32, b"b" * 32, 2, 4))
PEER = WireGuardNode(
    "peer", (LaneKeys(b"c" * 32, b"c" * 32, 1, 9), LaneKeys(b"d" * 32, b"d" * 32, 2, 9))
)
SELF = WireGuardNode("self", OWN)


def no_new_keys(lane: int, epoch: int) -> LaneKeys:
    raise AssertionError(f"lane {lane} is re-keyed")


def new_keys(lane: int, epoch: int) -> LaneKeys:
    return LaneKeys(Random(epoch * 2 + lane).randbytes(32), b"x" * 32, lane + 1, epoch)


def seen(
    home: float | None,
    spare: float | None,
    route: int | None = HOME,
    peer: WireGuardNode = PEER,
    rx: tuple[int, int] = (0, 0),
    published: WireGuardNode | None = SELF,
) -> Facts:
    devices = [
        DeviceFacts(own.public_key, {keys.public_key: PeerFacts(age, count)})
        for own, keys, age, count in zip(OWN, peer.lanes, (home, spare), rx, strict=True)
    ]
    routes = {} if route is None else {"peer": route}
    return Facts((devices[0], devices[1]), routes, published, {"peer": peer})


def test_a_route_comes_with_the_first_session() -> None:
    lanes = Lanes(no_new_keys, OWN, SELF)
    assert lanes.step(0, seen(None, None, None)).peers["peer"].route is None
    assert lanes.step(1, seen(None, 0.0, None)).peers["peer"].route == SPARE
    assert lanes.step(2, seen(0.0, 0.0, SPARE)).peers["peer"].route == HOME


def test_a_route_waits_for_a_session_where_the_peer_wants_it() -> None:
    lanes = Lanes(no_new_keys, OWN, SELF)
    away = replace(PEER, active_lane=SPARE)
    waiting = lanes.step(0, seen(10.0, 500.0, HOME, away)).peers["peer"]
    assert (waiting.route, waiting.keepalive) == (HOME, (True, True))
    assert lanes.step(1, seen(10.0, 1.0, HOME, away)).peers["peer"].route == SPARE


def test_a_lane_that_is_not_in_use_is_silent_once_it_is_proven() -> None:
    lanes = Lanes(no_new_keys, OWN, SELF)
    assert lanes.step(0, seen(1.0, None)).peers["peer"].keepalive == (True, True)
    assert lanes.step(1, seen(2.0, 1.0)).peers["peer"].keepalive == (True, False)


def test_the_spare_is_not_touched_while_it_is_heard() -> None:
    lanes = Lanes(no_new_keys, OWN, SELF)
    for now in range(0, 500, 5):
        plan = lanes.step(now, seen(5.0, 100.0, rx=(now, now // 25)))
    assert plan.rotation.stage == "drain"
    assert plan.rotation.waiting == ("peer",)


def test_of_thousands_that_keep_a_rotation_waiting_a_few_are_named() -> None:
    """An object's status takes no more than 32 KiB of text."""
    peers = {
        f"peer-{number:04}": replace(
            PEER,
            name=f"peer-{number:04}",
            lanes=(new_keys(HOME, number + 10), new_keys(SPARE, number + 10)),
        )
        for number in range(2000)
    }

    def heard(rx: int) -> Facts:
        devices = [
            DeviceFacts(
                own.public_key,
                {peer.lanes[lane].public_key: PeerFacts(5.0, rx) for peer in peers.values()},
            )
            for lane, own in enumerate(OWN)
        ]
        return Facts((devices[0], devices[1]), dict.fromkeys(peers, HOME), SELF, peers)

    lanes = Lanes(no_new_keys, OWN, SELF)
    lanes.step(0, heard(0))
    plan = lanes.step(61, heard(1))
    assert len(plan.rotation.waiting) == 2000
    (problem,) = plan.problems
    assert problem.what.endswith("waiting for " + few([*peers], ", "))
    assert "peer-0000" in problem.what and len(problem.what) < 200


def test_the_spare_has_new_keys_after_two_keepalives_of_silence() -> None:
    lanes = Lanes(new_keys, OWN, SELF)
    now = 0
    while lanes.step(now, seen(5.0, 100.0, rx=(now, 0))).lanes == OWN:
        now += 1
    assert now == TIMING.quiet
    plan = lanes.step(now, seen(5.0, 100.0, rx=(now, 0)))
    assert [keys.epoch for keys in plan.lanes] == [4, 5]
    assert plan.active_lane == HOME


def test_a_peer_that_is_heard_on_neither_lane_may_still_be_sending_until_the_cap() -> None:
    lanes = Lanes(no_new_keys, OWN, SELF)
    for now in range(0, int(TIMING.cap), 5):
        lanes.step(now, seen(100.0 + now, 5.0 + now))
    with pytest.raises(AssertionError, match="lane 1 is re-keyed"):
        lanes.step(TIMING.cap, seen(700.0, 605.0))


def test_nothing_goes_on_until_the_api_has_confirmed_how_things_are() -> None:
    lanes = Lanes(no_new_keys, OWN, SELF)
    for published in (None, replace(SELF, active_lane=SPARE), replace(SELF, lanes=PEER.lanes)):
        for now in range(0, 1000, 5):
            plan = lanes.step(now, seen(5.0, 100.0, rx=(now, 0), published=published))
            assert plan.busy


@pytest.mark.parametrize(
    "peer",
    [
        replace(PEER, lanes=(PEER.lanes[0], replace(PEER.lanes[1], epoch=10))),
        replace(PEER, active_lane=SPARE),
    ],
    ids=["on its way", "there"],
)
def test_a_peer_on_the_spare_goes_first_for_longer_than_the_cap(peer: WireGuardNode) -> None:
    lanes = Lanes(no_new_keys, OWN, SELF)
    for now in range(0, int(TIMING.cap + 2 * TIMING.deadline), 5):
        lanes.step(now, seen(5.0, 100.0, peer=peer, rx=(now, 0)))


def test_a_lane_that_is_about_to_change_takes_no_new_keys_of_others() -> None:
    lanes = Lanes(no_new_keys, OWN, SELF)
    facts = seen(5.0, 100.0)
    lanes.step(0, facts)
    newcomer = WireGuardNode(
        "newcomer", (LaneKeys(b"e" * 32, b"e" * 32, 1, 1), LaneKeys(b"f" * 32, b"f" * 32, 2, 1))
    )
    facts = replace(facts, peers={"peer": PEER, "newcomer": newcomer})
    assert lanes.step(1, facts).peers["newcomer"].keys == (newcomer.lanes[HOME], None)
    # Not for ever: others wait for us.
    for now in range(2, 200):
        facts = replace(seen(5.0, 100.0, rx=(now, now)), peers=facts.peers)
        plan = lanes.step(now, facts)
    assert plan.peers["newcomer"].keys == newcomer.lanes


def test_lanes_whose_keys_nobody_knows_are_made_anew_at_once() -> None:
    plan = Lanes(new_keys, (OWN[0], None), SELF).step(0, seen(None, None))
    assert plan.lanes[HOME] == OWN[HOME]
    assert plan.lanes[SPARE].epoch == 5
    plan = Lanes(new_keys).step(0, Facts((DeviceFacts(), DeviceFacts()), {}, None, {}))
    assert [keys.epoch for keys in plan.lanes] == [1, 1]
    assert plan.rotation.stage == "steady"
