"""When the agent takes a pass, what it asks for, and what it tells. Time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf

import pytest

from agent.decisions import Decision, Identity
from agent.events import Kind
from agent.keeper import Outcome
from agent.lanefacts import Plan, Rotation
from agent.loop import Loop
from agent.model import NodeFacts, Problem, WireGuardNode
from agent.network.base import NetworkError
from agent.options import Options, parse
from agent.publisher import Said
from agent.reconcile import Caches, Result
from agent.topology import Desired
from tests.agent import virtualtime
from tests.agent.snapshots import NOW_NS, devices, keys
from tests.agent.virtualtime import now
from wgpy.protocol.config import InterfaceChange

ME = NodeFacts("me", "uid", "")
STEADY = Rotation("steady", 0, 1)
TROUBLE = Problem("error", "links: there is no interface wgpy0", "look")


@dataclass
class FakeCluster:
    synced: bool = True
    connected: bool = True
    problems: list[Problem] = field(default_factory=list)
    nodes: Mapping[str, NodeFacts] = field(default_factory=lambda: {"me": ME})
    published: Mapping[str, WireGuardNode] = field(default_factory=dict)
    confirmed: WireGuardNode | None = None


@dataclass
class FakeSpeaker:
    problems: list[Problem] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    told: list[tuple[Kind, str, str]] = field(default_factory=list)

    def say(self, said: Said) -> None:
        self.said.append(said)

    def tell(self, kind: Kind, reason: str, message: str) -> None:
        self.told.append((kind, reason, message))


def names(*resources: str) -> frozenset[str]:
    return frozenset(resources)


@dataclass(frozen=True)
class Asked:
    at: float
    look: frozenset[str] | None
    rotate: bool


def outcome(*changed: str, drift: bool = False) -> Outcome:
    return Outcome("routes", 0.01, changed, drift)


@dataclass
class Rig:
    """A loop whose passes come to what the fields say."""

    options: Options = field(default_factory=lambda: parse(["--node", "me"], {}))
    cluster: FakeCluster = field(default_factory=FakeCluster)
    speaker: FakeSpeaker = field(default_factory=FakeSpeaker)
    asked: list[Asked] = field(default_factory=list)
    seconds: float = 0.0
    busy: bool = False
    rotation: Rotation = STEADY
    outcomes: list[Outcome] = field(default_factory=list)
    problems: tuple[Problem, ...] = ()
    unsettled: tuple[str, ...] = ()
    due_at: float = inf
    # Raised by the passes to come, one each.
    trouble: list[NetworkError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = Loop(
            Identity("me", backend="kernel", agent_version="1"),
            self.options,
            self.cluster,
            self.reconcile,
            self.speaker,
            180.0,
            now,
        )

    async def reconcile(self, caches: Caches, look: frozenset[str] | None, rotate: bool) -> Result:
        self.asked.append(Asked(now(), look, rotate))
        await asyncio.sleep(self.seconds)
        if self.trouble:
            raise self.trouble.pop(0)
        lanes = keys(1), keys(2)
        plan = Plan(lanes, 0, {}, self.rotation, (), self.busy)
        unset = InterfaceChange()
        desired = Desired((unset, unset), (), (), (), (), (), (), ())
        decision = Decision(plan, desired, WireGuardNode("me", lanes))
        outcomes, self.outcomes = self.outcomes, []
        return Result(
            decision,
            devices(),
            NOW_NS,
            outcomes,
            {},
            self.problems,
            self.unsettled,
            self.due_at,
        )

    @property
    def times(self) -> list[float]:
        return [asked.at for asked in self.asked]

    def told(self, reason: str) -> list[str]:
        return [message for _, told, message in self.speaker.told if told == reason]


def play(scene: Callable[[Rig], Awaitable[None]], *options: str) -> None:
    async def run() -> None:
        rig = Rig(parse(["--node", "me", *options], {}))
        task = asyncio.create_task(rig.loop.run())
        try:
            await scene(rig)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    virtualtime.play(run)


def about(*seconds: float) -> object:
    return pytest.approx(list(seconds), abs=0.21)


def test_nothing_is_done_before_the_caches_are_in_sync() -> None:
    async def scene(rig: Rig) -> None:
        rig.cluster.synced = False
        await asyncio.sleep(1000)
        assert rig.asked == []
        assert rig.loop.healthy() == ""
        assert await rig.loop.status() is None
        assert rig.loop.ready() == "the cluster is not known yet"
        rig.cluster.synced = True
        rig.loop.wake()
        await asyncio.sleep(0.1)
        assert len(rig.asked) == 1

    play(scene)


def test_news_that_come_together_are_one_pass() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(1)
        rig.asked.clear()
        for name in ("links", "routes", "links"):
            rig.loop.look([name])
            rig.loop.wake()
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        (asked,) = rig.asked
        assert asked.look == names("links", "routes")

    play(scene)


def test_news_of_nothing_wake_nobody() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(1)
        rig.asked.clear()
        rig.loop.look([])
        await asyncio.sleep(1)
        assert rig.asked == []

    play(scene)


def test_news_during_a_pass_are_seen_to_right_after_it() -> None:
    async def scene(rig: Rig) -> None:
        rig.seconds = 0.2
        await asyncio.sleep(0.1)
        rig.loop.look(["routes"])
        await asyncio.sleep(0.6)
        assert [asked.look for asked in rig.asked] == [None, names("routes")]

    play(scene)


def test_while_something_moves_it_looks_every_second_and_else_every_five() -> None:
    async def scene(rig: Rig) -> None:
        rig.busy = True
        await asyncio.sleep(3.5)
        assert rig.times == about(0, 1, 2, 3)
        rig.busy = False
        rig.asked.clear()
        await asyncio.sleep(11.5)
        assert rig.times == about(4.2, 9.25, 14.3)

    play(scene)


def test_a_resource_that_is_due_sooner_is_not_kept_waiting() -> None:
    async def scene(rig: Rig) -> None:
        rig.due_at = 0.5
        await asyncio.sleep(0.3)
        rig.due_at = inf
        await asyncio.sleep(0.5)
        assert rig.times[:2] == about(0, 0.5)

    play(scene)


def test_long_passes_are_rare_but_never_so_rare_that_the_agent_seems_dead() -> None:
    async def scene(rig: Rig) -> None:
        rig.seconds = 0.5
        await asyncio.sleep(12)
        assert rig.times == about(0, 0.5 + 10 + 0.5)
        rig.seconds = 20.0
        for _ in range(100):
            await asyncio.sleep(10)
            assert rig.loop.healthy() == ""

    play(scene, "--resync", "3600s")


def test_news_without_end_leave_half_of_the_time_to_others() -> None:
    async def scene(rig: Rig) -> None:
        rig.seconds = 0.5
        for _ in range(1000):
            rig.loop.wake()
            await asyncio.sleep(0.01)
        assert len(rig.asked) <= 11

    play(scene)


def test_a_fight_over_what_is_ours_is_fought_once_a_second() -> None:
    async def scene(rig: Rig) -> None:
        for _ in range(1000):
            rig.outcomes = [outcome("route 10.1.0.0/24 was missing", drift=True)]
            rig.loop.look(["routes"])
            await asyncio.sleep(0.01)
        assert 9 <= len(rig.asked) <= 12

    play(scene)


def test_everything_is_looked_at_first_and_at_each_resync() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(25)
        full = [asked.at for asked in rig.asked if asked.look is None]
        assert full == about(0, 10, 20)
        assert all(asked.look in (None, frozenset()) for asked in rig.asked)

    play(scene, "--resync", "10s")


def test_without_its_own_node_nothing_is_touched_and_all_that_was_asked_is_asked_again() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(1)
        rig.asked.clear()
        rig.cluster.nodes = {}
        rig.loop.look(["routes"])
        rig.loop.rotate()
        await asyncio.sleep(20)
        assert rig.asked == []
        told = await rig.loop.status()
        assert told is not None
        assert [p["what"] for p in told["problems"]] == [
            "there is no Node me: this node is left as it is"
        ]
        rig.cluster.nodes = {"me": ME}
        await asyncio.sleep(1.2)
        assert (rig.asked[0].look, rig.asked[0].rotate) == (names("routes"), True)
        assert not any(asked.rotate for asked in rig.asked[1:])
        told = await rig.loop.status()
        assert told is not None
        assert not told["problems"]

    play(scene)


def test_an_agent_whose_node_is_missing_from_the_start_says_so() -> None:
    async def scene(rig: Rig) -> None:
        rig.cluster.nodes = {}
        await asyncio.sleep(1)
        assert rig.loop.ready() == "there is no Node me: this node is left as it is"
        rig.cluster.nodes = {"me": ME}
        await asyncio.sleep(1)
        assert rig.asked[0].look is None
        assert rig.loop.ready() == ""

    play(scene)


def test_a_pass_that_fails_is_tried_again_with_all_that_was_asked() -> None:
    async def scene(rig: Rig) -> None:
        rig.trouble = [NetworkError("no netlink"), NetworkError("no netlink")]
        rig.loop.rotate()
        await asyncio.sleep(4)
        assert [(asked.look, asked.rotate) for asked in rig.asked] == [(None, True)] * 3
        # The first of them was woken by the wish to rotate.
        assert rig.times == about(0, 0.05, 1.1)
        rig.asked.clear()
        rig.trouble = [NetworkError("no netlink")]
        rig.loop.look(["links"])
        await asyncio.sleep(0.5)
        rig.loop.look(["routes"])
        await asyncio.sleep(0.5)
        assert [asked.look for asked in rig.asked] == [names("links"), names("links", "routes")]

    play(scene)


def annotated(value: str) -> Mapping[str, NodeFacts]:
    return {"me": replace(ME, rotate=value)}


def test_a_new_value_of_the_annotation_asks_for_new_keys_once() -> None:
    async def scene(rig: Rig) -> None:
        rig.cluster.nodes = annotated("at the start")
        rotations = []
        for value in ("at the start", "a", "a", "", "a", "b"):
            rig.asked.clear()
            rig.cluster.nodes = annotated(value)
            rig.loop.wake()
            await asyncio.sleep(11)
            rotations.append(sum(asked.rotate for asked in rig.asked))
        assert rotations == [0, 1, 0, 0, 1, 1]

    play(scene)


def test_an_annotation_that_appears_later_asks_for_new_keys() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(1)
        rig.cluster.nodes = annotated("now")
        await asyncio.sleep(11)
        assert sum(asked.rotate for asked in rig.asked) == 1

    play(scene)


def test_keys_are_rotated_on_a_schedule_a_little_before_it() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(1850)
        at = [asked.at for asked in rig.asked if asked.rotate]
        assert 2 <= len(at) <= 3
        for before, after in zip([0.0, *at], at, strict=False):
            assert 539 <= after - before <= 601.1

    play(scene, "--rotate-every", "10m")


def test_drift_is_an_event_and_is_remembered() -> None:
    async def scene(rig: Rig) -> None:
        rig.outcomes = [outcome("route is set, it was missing", drift=True), outcome("is new")]
        await asyncio.sleep(1)
        assert rig.told("Drift") == ["put right: route is set, it was missing"]
        told = await rig.loop.status()
        assert told is not None
        (line,) = told["drift"]
        assert line.endswith("Z route is set, it was missing")
        metrics = await rig.loop.metrics()
        assert b'wgpy_drift_total{resource="routes"} 1.0' in metrics
        assert b'wgpy_changes_total{resource="routes"} 2.0' in metrics

    play(scene)


def test_keys_that_are_not_there_are_never_published() -> None:
    async def scene(rig: Rig) -> None:
        rig.unsettled = ("lanes", "links")
        rig.problems = (TROUBLE,)
        await asyncio.sleep(8)
        assert rig.speaker.said == []
        assert rig.loop.ready() == "not in order: lanes, links"
        rig.unsettled = ("links",)
        await asyncio.sleep(5)
        assert rig.speaker.said

    play(scene)


def test_trouble_with_the_lanes_is_published_with_the_keys_of_before() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(1)
        before = rig.speaker.said[-1]
        rig.unsettled, rig.problems = ("lanes",), (TROUBLE,)
        await asyncio.sleep(6)
        after = rig.speaker.said[-1]
        assert after.node is before.node
        assert after.status["conditions"][0]["reason"] == "Problems"

    play(scene)


def test_an_error_is_one_event_until_it_is_gone() -> None:
    async def scene(rig: Rig) -> None:
        rig.problems = (TROUBLE, Problem("warning", "no matter"))
        await asyncio.sleep(11)
        # A pass that fails in between changes nothing about it.
        rig.trouble = [NetworkError("no netlink")]
        await asyncio.sleep(11)
        assert rig.told("Problem") == [TROUBLE.what]
        rig.problems = ()
        await asyncio.sleep(6)
        rig.problems = (TROUBLE,)
        await asyncio.sleep(6)
        assert rig.told("Problem") == [TROUBLE.what] * 2

    play(scene)


def test_the_end_of_a_rotation_is_told_once() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(6)
        for stage in ("drain", "prove", "steady", "steady"):
            rig.rotation = Rotation(stage, 0, 7)
            rig.loop.wake()
            await asyncio.sleep(1)
        assert rig.told("KeysRotated") == ["both lanes have new keys, epoch 7"]

    play(scene)


def test_it_is_unhealthy_when_a_pass_takes_for_ever() -> None:
    async def scene(rig: Rig) -> None:
        rig.seconds = 10_000.0
        await asyncio.sleep(179)
        assert rig.loop.healthy() == ""
        await asyncio.sleep(2)
        assert rig.loop.healthy() == "no pass for 181 s"

    play(scene)


def test_who_asks_hears_of_a_pass_that_was_made_for_them() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(3)
        rig.asked.clear()
        rig.problems = (TROUBLE,)
        told = await rig.loop.status()
        assert told is not None
        assert [problem["what"] for problem in told["problems"]] == [TROUBLE.what]
        assert len(rig.asked) == 1
        assert now() < 3.2
        # It is fresh enough for the next who asks.
        assert b'wgpy_problems{severity="error"} 1.0' in await rig.loop.metrics()
        assert len(rig.asked) == 1

    play(scene)


def test_who_asks_does_not_wait_for_ever() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(3)
        rig.seconds = 100.0
        assert await rig.loop.status() is not None
        assert now() == pytest.approx(8.0, abs=0.1)

    play(scene)
