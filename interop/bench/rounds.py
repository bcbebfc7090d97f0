"""Interleaved rounds: every implementation once, then again, so that noise falls on all alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from interop.bench.probes import Probe
from interop.bench.result import Kind, Result
from interop.counterparts.base import Implementation
from interop.shell import CommandFailed, ScenarioFailed


@dataclass(frozen=True)
class Pair:
    """Two ends that are measured."""

    name: str
    left: Implementation
    right: Implementation
    kind: Kind = "whole"

    def takes(self, probe: Probe) -> bool:
        return self.kind == "whole" or self.kind in probe.also


def run_rounds(
    result: Result,
    probes: Iterable[Probe],
    pairs: list[Pair],
    say: Callable[[str], None],
    keep: Callable[[], None],
) -> None:
    """Run each probe with each pair, as often as `result` says, and add what comes of it.

    What fails is noted, and the rest goes on; `keep` is called after each probe, as much can
    happen in an hour.
    """
    for probe in probes:
        for number in range(result.rounds):
            for pair in pairs:
                if pair.takes(probe):
                    _run(result, probe, pair, say, f"{number + 1}/{result.rounds}")
        keep()


def _run(result: Result, probe: Probe, pair: Pair, say: Callable[[str], None], turn: str) -> None:
    values = [math.nan] * len(probe.lines)
    try:
        values = probe.run(pair.left, pair.right, probe.mtu or result.mtu)
    except (CommandFailed, ScenarioFailed, OSError) as error:
        result.errors.append(f"{probe.lines[0].name}, {pair.name}: {error}")
        say(result.errors[-1])
    for line, value in zip(probe.lines, values, strict=True):
        result.add(line.key, pair.name, value)
        if not math.isnan(value):
            say(f"{turn}  {line.name:44} {pair.name:24} {value:10.4g} {line.unit}")
