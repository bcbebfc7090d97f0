"""What a node says reaches the API server: the newest of it, in the end, and never in a storm."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest

from agent.apierrors import ForbiddenError, KubeError, OverloadedError
from agent.apiserver import Json
from agent.events import Kind
from agent.model import WireGuardNode
from agent.publisher import Publisher, Said
from agent.watch import Pace
from tests.agent import virtualtime
from tests.agent.snapshots import keys
from tests.agent.virtualtime import now


def said(epoch: int, count: int = 0) -> Said:
    return Said(WireGuardNode("me", (keys(epoch), keys(2))), {"count": count})


@dataclass
class FakeWriter:
    """Notes what is written when, each write `seconds` long; `trouble` is raised one by one."""

    seconds: float = 0.0
    confirmed: WireGuardNode | None = None
    altered: str = ""
    trouble: list[KubeError] = field(default_factory=list)
    status_trouble: list[KubeError] = field(default_factory=list)
    nodes: list[tuple[float, WireGuardNode]] = field(default_factory=list)
    statuses: list[tuple[float, Json]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    async def publish(self, wanted: WireGuardNode) -> str:
        await asyncio.sleep(self.seconds)
        if self.trouble:
            raise self.trouble.pop(0)
        self.nodes.append((now(), wanted))
        self.confirmed = wanted
        altered, self.altered = self.altered, ""
        return altered

    async def set_status(self, status: Json) -> None:
        if self.status_trouble:
            raise self.status_trouble.pop(0)
        self.statuses.append((now(), status))

    async def tell(self, kind: Kind, reason: str, message: str) -> None:
        await asyncio.sleep(self.seconds)
        self.events.append(f"{kind} {reason} {message}")


class Rig:
    def __init__(self) -> None:
        self.writer, self.written, self.drift = FakeWriter(), 0, list[str]()
        pace = Pace(asyncio.sleep, now, lambda: 0.0)
        self.publisher = Publisher(self.writer, pace, self.note_written, self.drift.extend)

    def note_written(self) -> None:
        self.written += 1

    @property
    def epochs(self) -> list[int]:
        return [node.lanes[0].epoch for _, node in self.writer.nodes]


def play(scene: Callable[[Rig], Awaitable[None]]) -> None:
    async def run() -> None:
        rig = Rig()
        task = asyncio.create_task(rig.publisher.run())
        try:
            await scene(rig)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    virtualtime.play(run)


def test_nothing_is_written_before_anything_is_said() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(100)
        assert rig.writer.nodes == []

    play(scene)


def test_only_the_newest_is_written_when_the_server_is_slow() -> None:
    async def scene(rig: Rig) -> None:
        rig.writer.seconds = 10.0
        for epoch in range(1, 9):
            rig.publisher.say(said(epoch))
            assert now() == epoch - 1  # saying it takes no time
            await asyncio.sleep(1)
        await asyncio.sleep(30)
        assert rig.epochs == [1, 8]

    play(scene)


def test_the_loop_hears_of_each_object_that_the_server_has_taken() -> None:
    async def scene(rig: Rig) -> None:
        for epoch in (1, 1, 2):
            rig.publisher.say(said(epoch))
            await asyncio.sleep(1)
        assert rig.written == 2

    play(scene)


def test_the_loop_hears_of_an_object_even_when_the_rest_is_refused() -> None:
    async def scene(rig: Rig) -> None:
        rig.writer.status_trouble = [ForbiddenError("403", "PATCH status")]
        rig.publisher.say(said(1))
        await asyncio.sleep(0.1)
        assert rig.written == 1

    play(scene)


def test_a_failure_is_tried_again_later_and_later_and_is_a_problem_meanwhile() -> None:
    async def scene(rig: Rig) -> None:
        rig.writer.trouble = [OverloadedError("500", "PATCH node", "wait", 0.0)] * 5
        rig.publisher.say(said(1))
        await asyncio.sleep(1)
        (problem,) = rig.publisher.problems
        assert (problem.severity, problem.what) == ("warning", "PATCH node: 500; wait")
        await asyncio.sleep(10)
        assert rig.publisher.problems == []
        # Half of 0.25 s, doubled each time.
        assert rig.writer.nodes[0][0] == pytest.approx(0.125 * (1 + 2 + 4 + 8 + 16))
        assert len(rig.writer.nodes) == 1

    play(scene)


def test_the_server_may_ask_for_more_patience() -> None:
    async def scene(rig: Rig) -> None:
        rig.writer.trouble = [OverloadedError("429", "PATCH node", "", 7.0)]
        rig.publisher.say(said(1))
        await asyncio.sleep(20)
        assert [at for at, _ in rig.writer.nodes] == [7.0]

    play(scene)


def test_after_a_failure_the_newest_is_written() -> None:
    async def scene(rig: Rig) -> None:
        rig.writer.trouble = [OverloadedError("500", "PATCH node", "", 5.0)]
        for epoch in (1, 2, 3):
            rig.publisher.say(said(epoch))
            await asyncio.sleep(1)
        await asyncio.sleep(10)
        assert rig.epochs == [3]

    play(scene)


def test_a_status_is_written_at_most_every_five_seconds_but_the_last_one_is() -> None:
    async def scene(rig: Rig) -> None:
        for count in range(12):
            rig.publisher.say(said(1, count))
            await asyncio.sleep(1)
        await asyncio.sleep(20)
        assert [(at, status["count"]) for at, status in rig.writer.statuses] == [
            (0, 0),
            (5, 5),
            (10, 10),
            (15, 11),
        ]

    play(scene)


def test_among_many_nodes_a_status_is_written_less_often() -> None:
    async def scene(rig: Rig) -> None:
        for count in range(120):
            rig.publisher.say(replace(said(1, count), peers=1000))
            await asyncio.sleep(1)
        assert [(at, status["count"]) for at, status in rig.writer.statuses] == [
            (0, 0),
            (50, 50),
            (100, 100),
        ]

    play(scene)


def test_what_others_have_altered_is_reported() -> None:
    async def scene(rig: Rig) -> None:
        rig.writer.altered = "the object was another"
        rig.publisher.say(said(1))
        await asyncio.sleep(1)
        assert rig.drift == ["the object was another"]

    play(scene)


def test_a_fight_over_the_object_is_no_storm_at_the_server() -> None:
    async def scene(rig: Rig) -> None:
        for _ in range(1000):
            rig.writer.altered = "the object was another"
            rig.publisher.say(said(1))
            await asyncio.sleep(0.02)
        assert len(rig.writer.nodes) <= 11

    play(scene)


def test_events_wait_for_a_slow_server_and_the_objects_do_not_wait_for_them() -> None:
    async def scene(rig: Rig) -> None:
        for number in range(3):
            rig.publisher.tell("Normal", "Started", str(number))
        rig.writer.seconds = 4.0
        rig.publisher.say(said(1))
        await asyncio.sleep(5)
        assert (rig.epochs, len(rig.writer.events)) == ([1], 1)
        await asyncio.sleep(10)
        assert rig.writer.events == [f"Normal Started {number}" for number in range(3)]

    play(scene)


def test_of_a_flood_of_events_the_first_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(rig: Rig) -> None:
        rig.writer.seconds = 1.0
        for number in range(1000):
            rig.publisher.tell("Warning", "Drift", str(number))
        await asyncio.sleep(2000)
        assert rig.writer.events == [f"Warning Drift {number}" for number in range(64)]

    play(scene)
    assert "too many events wait" in caplog.text
