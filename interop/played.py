"""What was played for a matrix, kept as it comes, so that the matrix can be gone on with.

A file of JSON lines: what was under test, then each result. A cell that was played again has
several, of which the last counts and none is forgotten.
"""

from __future__ import annotations

import json
from pathlib import Path

from interop.results import Result

_DONE = ("pass", "known", "n/a")


class Played:
    """The results of one matrix."""

    def __init__(self, path: Path, under_test: str) -> None:
        self._path = path
        self._head = json.dumps({"under_test": under_test}) + "\n"
        self.results: list[Result] = []

    def start(self) -> None:
        """Begin anew: what was kept is gone."""
        self._path.write_text(self._head)

    def resume(self) -> None:
        """Go on with what was kept.

        :raises SystemExit: it is of another implementation or version, or there is nothing.
        """
        try:
            head, *lines = self._path.read_text().splitlines(True)
        except (OSError, ValueError):
            raise SystemExit(f"interop: nothing to resume in {self._path}") from None
        if head != self._head:
            raise SystemExit(f"interop: {self._path} is of another implementation: {head.strip()}")
        whole = [line for line in lines if line.endswith("\n")]
        self.results = [Result.parse(line) for line in whole]
        self._path.write_text("".join([head, *whole]))

    def add(self, result: Result) -> None:
        self.results.append(result)
        with self._path.open("a") as out:
            out.write(result.line())

    def latest(self) -> dict[tuple[str, str], Result]:
        """The last result of each cell, by scenario and counterpart."""
        return {(result.scenario, result.counterpart): result for result in self.results}

    def left(self, counterpart: str, scenarios: list[str]) -> list[str]:
        """Those of the scenarios that were not played against it yet, or not to an end."""
        done = {cell for cell, result in self.latest().items() if result.outcome in _DONE}
        return [name for name in scenarios if (name, counterpart) not in done]
