"""Events: told once, counted after that, never a storm, never a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.apierrors import ForbiddenError
from agent.events import Events
from tests.agent.fakeapi import FakeApi, FakeTime


class Rig:
    def __init__(self) -> None:
        self.api, self.time = FakeApi(), FakeTime(now=1e9)
        self.events = Events(self.api, "me", lambda: self.time.now)

    async def tell(self, message: str = "it did") -> None:
        await self.events.tell("Warning", "Cut", message, "uid")


def play(scene: Callable[[Rig], Awaitable[None]]) -> Rig:
    async def run() -> Rig:
        rig = Rig()
        await scene(rig)
        return rig

    return asyncio.run(run())


def test_an_event_is_about_the_own_node() -> None:
    async def scene(rig: Rig) -> None:
        await rig.tell()

    ((_, path, event),) = play(scene).api.written
    assert path.startswith("/api/v1/namespaces/default/events/me.")
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Node",
        "name": "me",
        "uid": "uid",
    }
    assert event["firstTimestamp"] == "2001-09-09T01:46:40Z"
    assert event["count"] == 1


def test_the_same_again_is_counted_and_written_once_a_minute() -> None:
    async def scene(rig: Rig) -> None:
        for _ in range(12):
            await rig.tell()
            rig.time.now += 10

    written = play(scene).api.written
    assert [(how, event["count"]) for how, _, event in written] == [("POST", 1), ("PATCH", 7)]


def test_an_event_that_has_expired_is_made_anew() -> None:
    async def scene(rig: Rig) -> None:
        await rig.tell()
        rig.api.objects.clear()
        rig.time.now += 4000
        await rig.tell()

    assert [how for how, _, _ in play(scene).api.written] == ["POST", "POST"]


def test_a_storm_of_different_events_is_cut_short_and_passes() -> None:
    async def scene(rig: Rig) -> None:
        for number in range(1000):
            await rig.tell(f"message {number}")
        assert len(rig.api.written) == 20
        rig.time.now += 60
        await rig.tell("after")

    assert play(scene).api.written[-1][2]["message"] == "after"


def test_an_event_that_cannot_be_written_is_no_failure() -> None:
    async def scene(rig: Rig) -> None:
        rig.api.trouble = [ForbiddenError("403", "there")]
        await rig.tell()
        await rig.tell()

    assert len(play(scene).api.written) == 1
