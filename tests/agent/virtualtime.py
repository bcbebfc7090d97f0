"""An event loop whose time is no time: when all wait, it jumps to the next thing that is due."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Never waits, but notes how long it should have."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if timeout is None:
            raise RuntimeError("all wait, and nothing will happen")
        self.now += max(timeout, 0.0)
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def play(scene: Callable[[], Awaitable[T]]) -> T:
    """Run `scene` from second 0 on; asyncio's sleeps and timeouts take no time."""

    async def run() -> T:
        return await scene()

    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(run())


def now() -> float:
    """Seconds since the scene has begun."""
    return asyncio.get_running_loop().time()
