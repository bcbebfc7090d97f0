"""Caches by list and watch: complete, never behind for long, kind to the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.apierrors import ExpiredError, OverloadedError, UnreachableError
from agent.apiserver import Json
from agent.model import ModelError
from agent.watch import Cache
from tests.agent.fakeapi import FakeApi, FakeTime, settle

PATH = "/api/v1/things"


def thing(name: str, size: object = 1) -> Json:
    return {"metadata": {"name": name}, "size": size}


def parse(told: Json) -> int | None:
    if not isinstance(told["size"], int):
        raise ModelError("size is no number")
    return told["size"] or None


class Rig:
    def __init__(self) -> None:
        self.api, self.time, self.changes = FakeApi(), FakeTime(), 0
        self.cache = Cache(self.api, "Thing", PATH, parse, self.changed, self.time.pace())

    def changed(self) -> None:
        self.changes += 1

    def put(self, name: str, size: object = 1) -> None:
        self.api.put(f"{PATH}/{name}", thing(name, size))

    def lists(self) -> int:
        return sum(method == "GET" and "continue" not in dict(q) for method, _, q in self.api.asked)

    def watches(self) -> list[str]:
        return [dict(q)["resourceVersion"] for m, _, q in self.api.asked if m == "WATCH"]


def play(scene: Callable[[Rig], Awaitable[None]]) -> None:
    async def run() -> None:
        rig = Rig()
        task = asyncio.create_task(rig.cache.run())
        try:
            await scene(rig)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_all_pages_of_a_list_are_there_before_it_is_synced() -> None:
    async def scene(rig: Rig) -> None:
        for number in range(5):
            rig.put(f"t{number}", number + 1)
        assert not rig.cache.synced
        await settle()
        assert rig.cache.synced
        assert rig.cache.items == {f"t{n}": n + 1 for n in range(5)}
        assert rig.changes == 1

    play(scene)


def test_an_empty_list_is_news_once() -> None:
    async def scene(rig: Rig) -> None:
        await settle()
        assert rig.cache.synced
        assert rig.changes == 1

    play(scene)


def test_changes_arrive_and_those_that_mean_nothing_wake_nobody() -> None:
    async def scene(rig: Rig) -> None:
        rig.put("a", 1)
        await settle()
        rig.put("a", 2)
        rig.put("b", 3)
        await settle()
        assert rig.cache.items == {"a": 2, "b": 3}
        before = rig.changes
        rig.put("a", 2)
        await settle()
        assert rig.changes == before
        rig.api.remove(f"{PATH}/a")
        await settle()
        assert rig.cache.items == {"b": 3}
        assert rig.changes == before + 1

    play(scene)


def test_what_makes_no_sense_is_a_problem_until_it_does() -> None:
    async def scene(rig: Rig) -> None:
        rig.put("good")
        rig.put("bad", "x")
        await settle()
        assert rig.cache.items == {"good": 1}
        (problem,) = rig.cache.problems
        assert problem.what == "Thing bad: size is no number"
        rig.put("bad", 2)
        await settle()
        assert rig.cache.items == {"good": 1, "bad": 2}
        assert not rig.cache.problems
        rig.put("good", None)
        await settle()
        # What was good before counts no more.
        assert rig.cache.items == {"bad": 2}

    play(scene)


def test_a_value_of_none_is_not_kept() -> None:
    async def scene(rig: Rig) -> None:
        rig.put("a", 1)
        await settle()
        rig.put("a", 0)
        await settle()
        assert rig.cache.items == {}

    play(scene)


def test_a_watch_that_breaks_is_resumed_where_it_was() -> None:
    async def scene(rig: Rig) -> None:
        rig.put("a")
        await settle()
        rig.put("b")
        await settle()
        rig.api.trouble = [UnreachableError("connection reset", "here")]
        rig.api.cut()
        await settle()
        rig.put("c")
        await settle()
        assert set(rig.cache.items) == {"a", "b", "c"}
        assert rig.lists() == 1
        assert rig.watches() == ["11", "12", "12"]

    play(scene)


def test_a_bookmark_moves_the_place_to_resume_at() -> None:
    async def scene(rig: Rig) -> None:
        await settle()
        rig.api.bookmark(PATH)
        await settle()
        rig.api.compact()
        rig.api.cut()
        await settle()
        assert rig.watches() == ["10", "11"]
        assert rig.lists() == 1

    play(scene)


def test_an_expired_version_makes_a_new_list_and_what_went_meanwhile_is_gone() -> None:
    async def scene(rig: Rig) -> None:
        rig.put("a")
        rig.put("b")
        await settle()
        rig.api.trouble = [UnreachableError("refused", "here")] * 3
        rig.api.cut()
        rig.api.remove(f"{PATH}/a")
        rig.api.compact()
        await settle()
        assert rig.cache.items == {"b": 1}
        assert rig.lists() == 2
        assert rig.cache.failure is None

    play(scene)


def test_an_error_event_of_410_is_expired_too() -> None:
    async def scene(rig: Rig) -> None:
        await settle()
        rig.api.put(f"{PATH}/x", {"code": 410, "message": "too old"}, "ERROR")
        rig.api.objects.clear()
        await settle()
        assert rig.lists() == 2
        assert rig.cache.items == {}
        assert rig.cache.synced

    play(scene)


def test_what_is_known_stays_while_the_server_is_away_and_the_trouble_is_told_once() -> None:
    async def scene(rig: Rig) -> None:
        rig.put("a")
        await settle()
        before = rig.changes
        rig.api.trouble = [UnreachableError("refused", "here", "do this")] * 10_000
        rig.api.cut()
        await settle()
        assert rig.cache.items == {"a": 1}
        assert rig.cache.synced
        (problem,) = rig.cache.problems
        assert problem.advice == "do this"
        assert rig.changes == before + 1
        rig.api.trouble = []
        await settle()
        rig.put("b")
        await settle()
        assert not rig.cache.problems
        assert rig.cache.items == {"a": 1, "b": 1}

    play(scene)


def test_waits_double_up_to_a_limit_and_begin_anew_after_success() -> None:
    async def scene(rig: Rig) -> None:
        rig.api.trouble = [UnreachableError("refused", "here")] * 9
        await settle()
        assert rig.time.slept[:9] == [0.125, 0.25, 0.5, 1, 2, 4, 8, 15, 15]
        assert rig.cache.synced
        rig.api.trouble = [UnreachableError("refused", "here")]
        rig.time.now += 100
        rig.api.cut()
        await settle()
        assert rig.time.slept[9] == 0.125

    play(scene)


def test_after_a_watch_that_held_one_that_is_cut_is_soon_there_again() -> None:
    async def scene(rig: Rig) -> None:
        cut = UnreachableError("reset", "here")
        rig.api.trouble = [UnreachableError("refused", "here")] * 9
        await settle()
        rig.time.now += 100
        rig.api.cut(cut)
        await settle()
        assert rig.time.slept[9:] == [0.125]
        # One that did not hold is a failure like others.
        rig.api.cut(cut)
        await settle()
        assert rig.time.slept[10:] == [0.25]

    play(scene)


def test_chance_spreads_the_waits() -> None:
    async def run() -> None:
        time = FakeTime()
        await time.pace(0.0).back_off(0.0)
        await time.pace(0.999).back_off(0.0)
        assert 2 * time.slept[0] > time.slept[1] > 1.99 * time.slept[0]

    asyncio.run(run())


def test_a_server_that_asks_for_time_gets_it() -> None:
    async def scene(rig: Rig) -> None:
        rig.api.trouble = [OverloadedError("429", "here", wait=17.0)]
        await settle()
        assert rig.time.slept[0] == 17.0

    play(scene)


def test_watches_that_end_at_once_are_not_opened_without_end() -> None:
    async def run() -> None:
        rig = Rig()
        task = asyncio.create_task(rig.cache.run())
        for _ in range(8):
            await settle()
            rig.api.cut()
        await settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert rig.time.slept[:6] == [0.125, 0.25, 0.5, 1, 2, 4]

    asyncio.run(run())


def test_a_list_that_expires_between_its_pages_begins_anew() -> None:
    async def scene(rig: Rig) -> None:
        for number in range(3):
            rig.put(f"t{number}")
        rig.api.trouble = [ExpiredError("410", "here")]
        await settle()
        assert len(rig.cache.items) == 3
        assert rig.lists() == 2

    play(scene)


def test_lists_that_lead_to_no_watch_are_asked_for_ever_more_rarely() -> None:
    async def scene(rig: Rig) -> None:
        rig.api.oldest = 10**9
        await settle()
        assert rig.time.slept[:6] == [0.125, 0.25, 0.5, 1, 2, 4]
        assert rig.lists() >= 6

    play(scene)


def test_a_resumed_watch_is_no_failure_though_nothing_happens() -> None:
    async def scene(rig: Rig) -> None:
        await settle()
        rig.api.trouble = [UnreachableError("connection reset", "here")]
        rig.api.cut()
        await settle()
        assert len(rig.time.slept) == 2
        assert rig.cache.failure is None
        assert not rig.cache.problems

    play(scene)


def test_a_new_list_with_nothing_new_wakes_nobody() -> None:
    async def scene(rig: Rig) -> None:
        rig.put("a")
        rig.put("bad", "x")
        await settle()
        before = rig.changes
        rig.api.trouble = [ExpiredError("410", "here")]
        rig.api.cut()
        rig.time.now += 100
        await settle()
        assert rig.lists() == 2
        assert rig.changes == before

    play(scene)
