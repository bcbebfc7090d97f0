"""Writes what this node says to the API server, apart from all that must not wait for it."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Protocol

from agent.apierrors import KubeError
from agent.apiserver import Json
from agent.events import Kind
from agent.model import Problem, WireGuardNode
from agent.watch import Pace

_log = logging.getLogger(__name__)

# Seconds between two writes of the status, which has counts that move all the time; and for each
# peer, as it is told to all of them: so the whole cluster writes it 20 times a second at most.
_STATUS_EVERY = 5.0
_STATUS_PER_PEER = 0.05
# And after what others had altered was written again.
_AFTER_DRIFT = 2.0
_MAX_EVENTS = 64


@dataclass(frozen=True, slots=True)
class Said:
    """What this node says of itself."""

    node: WireGuardNode
    status: Json
    # How many others are told.
    peers: int = 0


class Writer(Protocol):
    """What a publisher needs of agent.kube.Kube."""

    @property
    def confirmed(self) -> WireGuardNode | None: ...

    async def publish(self, wanted: WireGuardNode) -> str: ...

    async def set_status(self, status: Json) -> None: ...

    async def tell(self, kind: Kind, reason: str, message: str) -> None: ...


class Publisher:
    """Says the newest thing, until it is heard; older ones are forgotten."""

    def __init__(
        self,
        writer: Writer,
        pace: Pace,
        written: Callable[[], None],
        drifted: Callable[[list[str]], None],
    ) -> None:
        """`written` is called when the API server has another object of this node than before,
        `drifted` with a sentence for each thing that somebody else had altered.
        """
        self._writer = writer
        self._pace = pace
        self._written = written
        self._drifted = drifted
        self._wanted: Said | None = None
        self._news = asyncio.Event()
        self._status_at = -inf
        self._status_due = inf
        self._events: asyncio.Queue[tuple[Kind, str, str]] = asyncio.Queue(_MAX_EVENTS)
        self.error: KubeError | None = None

    def say(self, said: Said) -> None:
        """From now on."""
        self._wanted = said
        self._news.set()

    def tell(self, kind: Kind, reason: str, message: str) -> None:
        """An Event; lost when too many wait."""
        try:
            self._events.put_nowait((kind, reason, message))
        except asyncio.QueueFull:
            _log.warning("too many events wait, one is left out: %s: %s", reason, message)

    @property
    def problems(self) -> list[Problem]:
        return [Problem("warning", str(self.error), self.error.advice)] if self.error else []

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write_objects())
            group.create_task(self._write_events())

    async def _write_objects(self) -> None:
        while True:
            await self._asked()
            try:
                await self._write()
            except KubeError as error:
                self._failed(error)
                await self._pace.back_off(error.wait)
                self._news.set()
            else:
                if self.error is not None:
                    _log.info("the API server takes what this node says again")
                self.error = None
                self._pace.succeed()

    async def _asked(self) -> None:
        wait = self._status_due - self._pace.clock()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if wait == inf else max(0.0, wait)):
                await self._news.wait()
        self._news.clear()

    async def _write(self) -> None:
        wanted = self._wanted
        assert wanted is not None
        before = self._writer.confirmed
        altered = await self._writer.publish(wanted.node)
        if self._writer.confirmed != before:
            self._written()
        if altered:
            self._drifted([altered])
            # Who fights over it shall not find an opponent as quick as the API server.
            await self._pace.sleep(_AFTER_DRIFT)
        now = self._pace.clock()
        due = self._status_at + max(_STATUS_EVERY, _STATUS_PER_PEER * wanted.peers)
        if now < due:
            self._status_due = due
            return
        self._status_due = inf
        await self._writer.set_status(wanted.status)
        self._status_at = now

    def _failed(self, error: KubeError) -> None:
        # Once for each trouble, not for each try.
        if self.error is None or self.error.what != error.what:
            _log.warning("what this node says is not taken: %s", error)
        self.error = error

    async def _write_events(self) -> None:
        while True:
            await self._writer.tell(*await self._events.get())
