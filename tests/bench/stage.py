"""One stage of the data path, and what it costs."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple


def _nothing() -> None: ...


class Stage(NamedTuple):
    """`run` handles so many packets at once; what has to be there first is made by `prepare`."""

    name: str
    packets: int
    run: Callable[[], object]
    prepare: Callable[[], object] = _nothing


def best(stage: Stage, seconds: float) -> float:
    """Microseconds of the quickest run; there is one at least."""
    found, end = float("inf"), time.perf_counter() + seconds
    # What has to be received anew each time runs out some day.
    with suppress(StopIteration):
        while found == float("inf") or time.perf_counter() < end:
            stage.prepare()
            started = time.perf_counter()
            stage.run()
            found = min(found, time.perf_counter() - started)
    return found * 1e6
