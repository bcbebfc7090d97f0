"""What one run of the benchmark has measured; tables and pictures are made from this alone."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["whole", "mixed", "limit", "workers"]
"""A pair with all probes; others only with those that tell something of them: two implementations,
how far the limit is, two workers."""

OURS = "wgpy"
Machine = dict[str, str | int | float]


@dataclass
class Result:
    """Numbers, and what they were measured on."""

    machine: Machine
    versions: dict[str, str]
    pairs: dict[str, Kind]
    """Who was measured, in this order."""
    baseline: str
    """What ratios are against."""
    rounds: int
    mtu: int
    values: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)
    """Key of a line -> name of a pair -> one value per round, None where it failed."""
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences that belong to the figures."""

    def add(self, key: str, pair: str, value: float) -> None:
        """The next round's value; NaN: it has none."""
        values = self.values.setdefault(key, {}).setdefault(pair, [])
        values.append(None if math.isnan(value) else value)

    def title(self, name: str) -> str:
        """What people call an implementation: name and version, without a distribution's parts."""
        kind = name.rpartition("-")[0] or name
        return f"{kind} {self.versions[name].split('-')[0]}"

    def whole(self) -> list[str]:
        """The names of the pairs that all probes were run with."""
        return [name for name, kind in self.pairs.items() if kind == "whole"]

    def others(self) -> list[str]:
        """The names of all other pairs."""
        return [name for name, kind in self.pairs.items() if kind != "whole"]

    def median(self, key: str, pair: str) -> float | None:
        """None if there is no value."""
        values = [v for v in self.values.get(key, {}).get(pair, ()) if v is not None]
        return statistics.median(values) if values else None

    def ratios(self, key: str, pair: str = OURS, against: str | None = None) -> list[float]:
        """Round by round, so that a machine that slows down for a while slows both."""
        values = self.values.get(key, {})
        ours, theirs = values.get(pair, ()), values.get(against or self.baseline, ())
        return [a / b for a, b in zip(ours, theirs, strict=False) if a is not None and b]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Result:
        """What `write` wrote."""
        return cls(**json.loads(path.read_text()))
