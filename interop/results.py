"""The outcome of one scenario against one counterpart."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Result:
    """One cell of the matrix."""

    scenario: str
    counterpart: str
    version: str
    outcome: str
    """`pass`; `fail`: one of the two did wrong; `known`: the counterpart did, as it always does;
    `error`: the suite itself; `unavailable`: no such counterpart here; `n/a`: not its kind."""
    seconds: float
    detail: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether somebody should look into it: the implementation's fault or the suite's own."""
        return self.outcome in ("fail", "error")

    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def parse(cls, line: str) -> Result:
        """What `line` made."""
        return cls(**json.loads(line))

    def __str__(self) -> str:
        words = f"{self.outcome:11} {self.scenario:34} {self.counterpart:22} {self.seconds:6.1f} s"
        return f"{words}  {self.detail}".rstrip()
