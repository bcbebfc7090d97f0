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
    """Scenarios against each counterpart: first what runs here, one after the other, then
    the guests, as many at a time as there are processors, as each is emulated by one.

    :param wanted: the scenarios, by counterpart.
    :param implementation: the command under test; the interface name is added to it.
    :param keep: where logs and captures stay; without it they are thrown away.
    """
    with _directory(keep) as kept:
        guests = []
        for name, scenarios in wanted.items():
            if not isinstance(COUNTERPARTS[name], Kernel):
                yield from play_all(name, scenarios, implementation, kept)
                continue
            shares = enumerate([scenarios[0::2], scenarios[1::2]], 1)
            guests += [_play(name, s, implementation, kept / f"{name}-{n}") for n, s in shares if s]
        yield from _in_turn(guests, os.cpu_count() or 1)


def play_all(
    counterpart: str, scenarios: list[str], implementation: str, keep: Path | None = None
) -> Iterator[Result]:
    """One result for each scenario against one counterpart, as they end; see `play_matrix`."""
    with _directory(keep) as kept:
        for result in _play(counterpart, scenarios, implementation, kept / counterpart):
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


def _play(
    counterpart: str, scenarios: list[str], implementation: str, directory: Path
) -> Generator[Result | None, None, None]:
    theirs = COUNTERPARTS[counterpart]
    directory.mkdir(parents=True, exist_ok=True)
    try:
        cache.need(_TOOLS)
        version = theirs.version()
        if isinstance(theirs, Kernel):
            yield from vm.play_in_guest(
                theirs, scenarios, implementation, directory, _GUEST_PATIENCE
            )
        else:
            ours = Userspace("ours", implementation)
            yield from play_here(scenarios, ours, theirs, version, directory, _JOBS)
    except (Unavailable, cache.CannotFetch) as error:
        for name in scenarios:
            yield Result(name, counterpart, "-", "unavailable", 0, str(error))


def play_here(
    scenarios: list[str],
    ours: Implementation,
    theirs: Counterpart,
    version: str,
    keep: Path,
    jobs: int,
) -> Iterator[Result]:
    """Under the running kernel: `jobs` at a time, as most only wait, then the heavy ones alone."""
    alone = [name for name in scenarios if SCENARIOS[name].alone]
    longest_first = sorted(scenarios, key=lambda name: not SCENARIOS[name].slow)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        together = [
            pool.submit(play_one, name, ours, theirs, version, keep)
            for name in longest_first
            if name not in alone
        ]
        try:
            for done in concurrent.futures.as_completed(together):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)
    for name in alone:
        yield play_one(name, ours, theirs, version, keep)


def play_one(
    name: str, ours: Implementation, theirs: Counterpart, version: str, keep: Path
) -> Result:
    """Play one scenario under the running kernel; logs and captures go below `keep`."""
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
