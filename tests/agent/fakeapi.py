"""An API server in memory: lists, watches and server-side apply, and what goes wrong on demand."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf

from agent.apierrors import ExpiredError, KubeError, NotFoundError
from agent.apiserver import Json, Query
from agent.watch import Pace


@dataclass
class FakeApi:
    """Objects by path; `trouble` is raised by what is asked next, one each."""

    objects: dict[str, Json] = field(default_factory=dict)
    trouble: list[KubeError] = field(default_factory=list)
    asked: list[tuple[str, str, Query]] = field(default_factory=list)
    written: list[tuple[str, str, Json]] = field(default_factory=list)
    # Older versions are compacted.
    oldest: int = 0
    page: int = 2
    version: int = 10
    # Watches tell of nothing newer.
    told: float = inf
    _log: list[tuple[int, Json]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _cut: bool = False
    _cut_by: KubeError | None = None

    def put(self, path: str, value: Json, kind: str = "") -> None:
        self.version += 1
        value = copy.deepcopy(value)
        value.setdefault("metadata", {})["resourceVersion"] = str(self.version)
        self._tell(kind or ("MODIFIED" if path in self.objects else "ADDED"), path, value)
        self.objects[path] = value

    def remove(self, path: str) -> None:
        self.version += 1
        value = self.objects.pop(path)
        value["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", path, value)

    def bookmark(self, path: str) -> None:
        """For the watch of `path`."""
        self.version += 1
        value = {"metadata": {"resourceVersion": str(self.version)}}
        self._tell("BOOKMARK", f"{path}/", value)

    def cut(self, error: KubeError | None = None) -> None:
        """End all watches, as the server does or with an error."""
        self._cut, self._cut_by = True, error
        self._news.set()

    def tell(self, told: float = inf) -> None:
        """Of what is no newer than that version; of everything."""
        self.told = told
        self._news.set()

    def compact(self) -> None:
        self.oldest = self.version

    async def get(self, path: str, query: Query = ()) -> Json:
        self._ask("GET", path, query)
        asked = dict(query)
        if path in self.objects:
            return copy.deepcopy(self.objects[path])
        names = sorted(p for p in self.objects if p.rpartition("/")[0] == path)
        if "limit" not in asked:
            raise NotFoundError("404", path)
        start = int(asked.get("continue", 0))
        end = start + self.page
        metadata = {"resourceVersion": str(self.version)}
        if end < len(names):
            metadata["continue"] = str(end)
        return {"metadata": metadata, "items": [self.objects[n] for n in names[start:end]]}

    @asynccontextmanager
    async def watch(
        self, path: str, query: Query, seconds: int
    ) -> AsyncIterator[AsyncIterator[Json]]:
        self._ask("WATCH", path, query)
        self._cut = False
        seen = int(dict(query)["resourceVersion"])
        if seen < self.oldest:
            raise ExpiredError("410", path)
        yield self._events(path, seen)

    async def _events(self, path: str, seen: int) -> AsyncIterator[Json]:
        while not self._cut:
            for version, event in self._log:
                if seen < version <= self.told and event["path"].rpartition("/")[0] == path:
                    seen = version
                    yield {"type": event["type"], "object": copy.deepcopy(event["object"])}
            self._news.clear()
            await self._news.wait()
        if self._cut_by is not None:
            raise self._cut_by

    async def create(self, path: str, body: Json) -> Json:
        return self._write("POST", f"{path}/{body['metadata']['name']}", body)

    async def merge(self, path: str, body: Json) -> Json:
        if path not in self.objects:
            raise NotFoundError("404", path)
        return self._write("PATCH", path, {**self.objects[path], **body})

    async def apply(self, path: str, body: Json, manager: str, *, dry_run: bool = False) -> Json:
        if dry_run:
            self._ask("WRITE", path, (("dryRun", "All"),))
            return body
        return self._write(manager, path, body)

    def _write(self, how: str, path: str, body: Json) -> Json:
        self._ask("WRITE", path, ())
        self.written.append((how, path, body))
        self.put(path, body)
        return body

    def _ask(self, method: str, path: str, query: Query) -> None:
        self.asked.append((method, path, query))
        if self.trouble:
            raise self.trouble.pop(0)

    def _tell(self, kind: str, path: str, value: Json) -> None:
        event = {"type": kind, "path": path, "object": value}
        self._log.append((self.version, copy.deepcopy(event)))
        self._news.set()


@dataclass
class FakeTime:
    """Sleeps that take no time, and are noted."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def pace(self, random: float = 0.0) -> Pace:
        return Pace(self.sleep, lambda: self.now, lambda: random)


async def settle() -> None:
    """Let all tasks come to rest."""
    for _ in range(50):
        await asyncio.sleep(0)
