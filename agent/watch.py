"""What the API server has of one kind, kept up to date by list and watch."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from agent.apierrors import ExpiredError, KubeError, refusal_from_status
from agent.apiserver import Json, Query
from agent.model import ModelError, Problem

_log = logging.getLogger(__name__)

T = TypeVar("T")
# Objects a page of a list.
_PAGE = "500"
# Seconds that a watch is asked to last, to which up to as many are added by chance.
_WATCH = 240
# One that lasted as long did not fail.
_HEALTHY = 5.0


class Source(Protocol):
    """What a cache needs of agent.apiserver.ApiServer."""

    async def get(self, path: str, query: Query = ()) -> Json: ...

    def watch(
        self, path: str, query: Query, seconds: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Json]]: ...


@dataclass(slots=True)
class Pace:
    """Time and chance, and how long to wait after failures in a row."""

    sleep: Callable[[float], Awaitable[None]]
    clock: Callable[[], float]
    # From 0 to below 1.
    random: Callable[[], float]
    first: float = 0.25
    most: float = 30.0
    _failures: int = field(default=0, init=False)

    async def back_off(self, at_least: float) -> None:
        """Between half and all of what is doubled with each failure, so that agents spread."""
        longest = min(self.most, self.first * 2 ** min(self._failures, 16))
        self._failures += 1
        await self.sleep(max(at_least, longest * (0.5 + self.random() / 2)))

    def succeed(self) -> None:
        self._failures = 0


class Cache(Generic[T]):
    """Objects of one kind by name, each as `parse` makes it; None is not kept.

    They are in the order in which they were heard to be as they are.
    What `parse` refuses with ModelError is not kept either, and is a problem.
    """

    def __init__(
        self,
        source: Source,
        kind: str,
        path: str,
        parse: Callable[[Json], T | None],
        changed: Callable[[], None],
        pace: Pace,
    ) -> None:
        self._source = source
        self._kind = kind
        self._path = path
        self._parse = parse
        self._changed = changed
        self._pace = pace
        self._items: dict[str, T] = {}
        self._refused: dict[str, Problem] = {}
        self._version: str | None = None
        self.synced = False
        self.failure: KubeError | None = None

    @property
    def items(self) -> Mapping[str, T]:
        return MappingProxyType(self._items)

    @property
    def problems(self) -> list[Problem]:
        lost = []
        if self.failure is not None:
            lost.append(Problem("warning", str(self.failure), self.failure.advice))
        return [*lost, *self._refused.values()]

    async def run(self) -> None:
        """Until it is cancelled. What is known stays while the server is away."""
        while True:
            try:
                if self._version is None:
                    self._version = await self._list()
                await self._follow()
            except KubeError as error:
                if isinstance(error, ExpiredError):
                    _log.info("%s: %s; listing again", self._kind, error.what)
                    self._version = None
                else:
                    self._failed(error)
                await self._pace.back_off(error.wait)

    async def _list(self) -> str:
        # A page is forgotten once it was read: others' objects are large.
        items: dict[str, T] = {}
        refused: dict[str, Problem] = {}
        page: tuple[tuple[str, str], ...] = ()
        while True:
            answer = await self._source.get(self._path, (("limit", _PAGE), *page))
            for told in _items(answer):
                self._put(items, refused, str(_mapping(told.get("metadata")).get("name", "")), told)
            metadata = _mapping(answer.get("metadata"))
            if not (token := metadata.get("continue")):
                break
            page = (("continue", str(token)),)
        self._replace(items, refused)
        return str(metadata.get("resourceVersion", ""))

    async def _follow(self) -> None:
        """One watch; returns when the server ends it."""
        began = self._pace.clock()
        query = (
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", self._version or ""),
        )
        seconds = int(_WATCH * (1 + self._pace.random()))
        healthy = False
        try:
            async with self._source.watch(self._path, query, seconds) as events:
                self._recovered()
                async for event in events:
                    self._take(event)
                    self._pace.succeed()
        finally:
            # Also one that is cut: what was wrong before it is over.
            if healthy := self._pace.clock() - began >= _HEALTHY:
                self._pace.succeed()
        if not healthy:
            await self._pace.back_off(0.0)

    def _take(self, event: Json) -> None:
        told = _mapping(event.get("object"))
        if event.get("type") == "ERROR":
            code = told.get("code")
            status = code if isinstance(code, int) else 500
            raise refusal_from_status(status, told, f"watch of {self._path}")
        metadata = _mapping(told.get("metadata"))
        name = str(metadata.get("name", ""))
        if event.get("type") in ("ADDED", "MODIFIED"):
            before = self._items.get(name), self._refused.get(name)
            self._put(self._items, self._refused, name, told)
            if before != (self._items.get(name), self._refused.get(name)):
                self._changed()
        elif event.get("type") == "DELETED":
            refused = self._refused.pop(name, None)
            if self._items.pop(name, None) is not None or refused is not None:
                self._changed()
        # After it was taken; a bookmark is nothing but its version.
        self._version = str(metadata.get("resourceVersion") or self._version)

    def _replace(self, items: dict[str, T], refused: dict[str, Problem]) -> None:
        news = not self.synced or items != self._items or refused != self._refused
        self._items, self._refused, self.synced = items, refused, True
        if news:
            self._changed()

    def _put(self, items: dict[str, T], refused: dict[str, Problem], name: str, told: Json) -> None:
        refused.pop(name, None)
        value: T | None = None
        try:
            value = self._parse(told)
        except ModelError as error:
            what = f"{self._kind} {name}: {error}"
            refused[name] = Problem("warning", what, "see who wrote it; it is ignored")
        if value is None or value != items.get(name):
            # To the end: whoever says the same has said it before.
            items.pop(name, None)
        if value is not None:
            items[name] = value

    def _failed(self, error: KubeError) -> None:
        # Once for each trouble, not for each try.
        if self.failure is None or self.failure.what != error.what:
            _log.warning("%s: %s", self._kind, error)
            self.failure = error
            self._changed()

    def _recovered(self) -> None:
        if self.failure is not None:
            _log.info("%s: the API server answers again", self._kind)
            self.failure = None
            self._changed()


def _items(answer: Json) -> list[Json]:
    items = answer.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}
