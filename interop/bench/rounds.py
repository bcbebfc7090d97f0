"""Interleaved rounds: every implementation once, then again, so that noise falls on all alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from interop.bench.probes import Probe
from interop.counterparts.base import Implementation
from interop.shell import CommandFailed, ScenarioFailed


@dataclass(frozen=True)
class Pair:
    """Two ends that are measured."""

    name: str
    left: Implementation
    right: Implementation
    kind: Literal["whole", "limit", "workers"] = "whole"
    """With all probes; only with those for all; only with those that tell workers apart."""

    def takes(self, probe: Probe) -> bool:
        return (
            self.kind == "whole"
            or (self.kind == "limit" and probe.for_all)
            or (self.kind == "workers" and probe.for_workers)
        )


@dataclass
class Result:
    """All that was measured: key of a line -> name of a pair -> one value per round."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def add(self, key: str, pair: str, value: float) -> None:
        if not math.isnan(value):
            self.values.setdefault(key, {}).setdefault(pair, []).append(value)

    def median(self, key: str, pair: str) -> float | None:
        """None if there is no value."""
        values = self.values.get(key, {}).get(pair)
        return statistics.median(values) if values else None

    def ratios(self, key: str, pair: str, against: str) -> list[float]:
        """Per round, so that a machine that slows down for a while slows both."""
        values = self.values.get(key, {})
        both = zip(values.get(pair, ()), values.get(against, ()), strict=False)
        return [a / b for a, b in both if b]


def run_rounds(
    probes: Iterable[Probe],
    pairs: list[Pair],
    rounds: int,
    mtu: int,
    say: Callable[[str], None],
) -> Result:
    """Run each probe with each pair, `rounds` times; what fails is noted, and the rest goes on."""
    result = Result()
    for probe in probes:
        for number in range(1, rounds + 1):
            for pair in pairs:
                if not pair.takes(probe):
                    continue
                try:
                    values = probe.run(pair.left, pair.right, probe.mtu or mtu)
                except (CommandFailed, ScenarioFailed, OSError) as error:
                    result.errors.append(f"{probe.lines[0].name}, {pair.name}: {error}")
                    say(result.errors[-1])
                    continue
                for line, value in zip(probe.lines, values, strict=True):
                    result.add(line.key, pair.name, value)
                    if not math.isnan(value):
                        what = f"{line.name:36} {number}/{rounds}  {pair.name:24}"
                        say(f"{what} {value:12.5g} {line.unit}")
    return result
