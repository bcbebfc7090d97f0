"""Play scenarios against a counterpart, here or in a guest, and tell what came of it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from interop import cache, vm
from interop.counterparts import COUNTERPARTS
from interop.counterparts.base import Counterpart, Implementation, Unavailable
from interop.counterparts.kernel import Kernel
from interop.counterparts.userspace import Userspace
from interop.known import KNOWN_FAULTS
from interop.netns import Lab
from interop.results import Result
from interop.scenarios import SCENARIOS, DoesNotApply
from interop.shell import CommandFailed, ScenarioFailed

_TOOLS = {
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "ip": "iproute2",
    "nft": "nftables",
    "ping": "iputils-ping",
    "sysctl": "procps",
    "wg": "wireguard-tools",
}
_JOBS = 4
_GUEST_PATIENCE = 900.0
"""Seconds of silence after which a guest is given up: longer than any scenario."""


def play_matrix(
    wanted: dict[str, list[str]], implementation: str, keep: Path | None = None
) -> Iterator[Result]:
    """Scenarios against each counterpart: first what runs here, then the guests, as many at a time
    as there are processors, as each is emulated by one.

    :param wanted: the scenarios, by counterpart.
    :param implementation: the command under test; the interface name is added to it.
    :param keep: where logs and captures stay; without it they are thrown away.
    """
    with _directory(keep) as kept:
        here = {n: s for n, s in wanted.items() if not isinstance(COUNTERPARTS[n], Kernel)}
        yield from _play_daemons(here, implementation, kept)
        guests = []
        for name, scenarios in wanted.items():
            if name in here:
                continue
            shares = enumerate([scenarios[0::2], scenarios[1::2]], 1)
            guests += [
                _play_kernel(name, s, implementation, kept / f"{name}-{n}") for n, s in shares if s
            ]
        yield from _in_turn(guests, os.cpu_count() or 1)


def play_all(
    counterpart: str, scenarios: list[str], implementation: str, keep: Path | None = None
) -> Iterator[Result]:
    """One result for each scenario against one counterpart, as they end; see `play_matrix`."""
    with _directory(keep) as kept:
        if not isinstance(COUNTERPARTS[counterpart], Kernel):
            yield from _play_daemons({counterpart: scenarios}, implementation, kept)
            return
        for result in _play_kernel(counterpart, scenarios, implementation, kept / counterpart):
            if result is not None:
                yield result


@contextlib.contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep.resolve()
        return
    runs = cache.directory() / "runs"
    runs.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs) as name:
        yield Path(name)


def _in_turn(guests: list[Generator[Result | None, None, None]], at_once: int) -> Iterator[Result]:
    """The results of all, of which `at_once` run; `None` from one means: nothing new yet."""
    waiting, running = deque(guests), list[Generator[Result | None, None, None]]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(waiting.popleft())
            for guest in list(running):
                try:
                    result = next(guest)
                except StopIteration:
                    running.remove(guest)
                    continue
                if result is not None:
                    yield result
    finally:
        for guest in running:
            guest.close()


def _play_daemons(
    wanted: dict[str, list[str]], implementation: str, directory: Path
) -> Iterator[Result]:
    cells = []
    for name, scenarios in wanted.items():
        theirs = COUNTERPARTS[name]
        try:
            cache.need(_TOOLS)
            version = theirs.version()
        except (Unavailable, cache.CannotFetch) as error:
            yield from _not_had(name, scenarios, error)
            continue
        cells += [Cell(scenario, theirs, version, directory / name) for scenario in scenarios]
    yield from play_here(cells, Userspace("ours", implementation), _JOBS)


def _play_kernel(
    counterpart: str, scenarios: list[str], implementation: str, directory: Path
) -> Generator[Result | None, None, None]:
    theirs = COUNTERPARTS[counterpart]
    assert isinstance(theirs, Kernel)
    directory.mkdir(parents=True, exist_ok=True)
    try:
        cache.need(_TOOLS)
        yield from vm.play_in_guest(theirs, scenarios, implementation, directory, _GUEST_PATIENCE)
    except (Unavailable, cache.CannotFetch) as error:
        yield from _not_had(counterpart, scenarios, error)


def _not_had(counterpart: str, scenarios: list[str], why: Exception) -> Iterator[Result]:
    for name in scenarios:
        yield Result(name, counterpart, "-", "unavailable", 0, str(why))


class Cell(NamedTuple):
    """What is played, against whom, and where its logs and captures go."""

    scenario: str
    theirs: Counterpart
    version: str
    keep: Path


def play_here(cells: list[Cell], ours: Implementation, jobs: int) -> Iterator[Result]:
    """Under the running kernel: the slow ones all at once, as they mostly wait; beside them `jobs`
    others at a time, and then, one by one, those that want the processor.
    """
    kinds = [SCENARIOS[cell.scenario] for cell in cells]
    slow = [c for c, kind in zip(cells, kinds, strict=True) if kind.slow]
    alone = [c for c, kind in zip(cells, kinds, strict=True) if kind.alone]
    others = [c for c in cells if c not in slow and c not in alone]
    with contextlib.ExitStack() as pools:
        begun = []
        for some, workers in ((slow, len(slow)), (others, jobs)):
            pool = concurrent.futures.ThreadPoolExecutor(max(1, workers))
            pools.callback(pool.shutdown, cancel_futures=True)
            begun.append([pool.submit(play_one, cell, ours) for cell in some])
        waiting, working = begun
        for done in concurrent.futures.as_completed(working):
            yield done.result()
        for cell in alone:
            yield play_one(cell, ours)
        for done in concurrent.futures.as_completed(waiting):
            yield done.result()


def play_one(cell: Cell, ours: Implementation) -> Result:
    """Play one scenario under the running kernel."""
    name, theirs, version, keep = cell
    directory = keep / name
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    outcome, detail = "pass", ""
    try:
        with Lab(directory) as lab:
            SCENARIOS[name].play(lab, ours, theirs)
    except ScenarioFailed as error:
        fault = KNOWN_FAULTS.get((name, theirs.name))
        outcome, detail = ("known", f"{fault} ({error})") if fault else ("fail", str(error))
    except DoesNotApply as error:
        outcome, detail = "n/a", str(error)
    except Unavailable as error:
        outcome, detail = "unavailable", str(error)
    except (CommandFailed, OSError) as error:
        outcome, detail = "error", f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - started
    return Result(name, theirs.name, version, outcome, round(seconds, 1), detail)
