"""`matrix.md`: scenario by counterpart, version, result, duration."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

from interop.counterparts import COUNTERPARTS
from interop.results import Result
from interop.scenarios import SCENARIOS

NOTED = "wgpy"
"""The implementation that notes.md is about: what no cell can say."""
_SIGNS = {
    "pass": "pass",
    "fail": "**FAIL**",
    "error": "**ERROR**",
    "known": "fault of theirs",
    "unavailable": "not had",
    "n/a": "n/a",
}


def write(path: Path, implementation: str, version: str, results: Iterable[Result]) -> None:
    """Write the matrix of these results; the same results give the same text.

    Of a cell that was played more than once the last counts, and the others are told below.
    """
    plays = list(results)
    cells = {(result.scenario, result.counterpart): result for result in plays}
    counterparts = [name for name in COUNTERPARTS if any(name == known for _, known in cells)]
    lines = [
        "# Interoperability",
        "",
        f"`{implementation}` ({version}) on Linux {platform.release()}, by `interop matrix`.",
        "Seconds are of the whole scenario; kernels run in a virtual machine under emulation.",
        "A scenario says what it asks for in its docstring, under `interop/scenarios/`;",
        "`-left` and `-right` tell on which side of its picture the implementation under test is.",
        "",
        "| counterpart | version |",
        "|---|---|",
        *(f"| {name} | {_version(name, cells.values())} |" for name in counterparts),
        "",
        "| scenario | " + " | ".join(counterparts) + " |",
        "|---|" + "---|" * len(counterparts),
    ]
    for scenario in SCENARIOS:
        row = [_cell(cells.get((scenario, name))) for name in counterparts]
        lines.append(f"| {scenario} | " + " | ".join(row) + " |")
    bad = [result for result in cells.values() if result.outcome not in ("pass", "n/a")]
    lines += _reasons("What did not pass, and why", bad)
    before = [r for r in plays if r is not cells[r.scenario, r.counterpart]]
    lines += _reasons("Played again, and what came of it before", before)
    if implementation == NOTED:
        lines += ["", Path(__file__).with_name("notes.md").read_text().rstrip()]
    path.write_text("\n".join(lines) + "\n")


def _reasons(title: str, results: list[Result]) -> list[str]:
    """A section that tells of each result; those of one counterpart for one reason together."""
    together: dict[tuple[str, str, str], list[str]] = {}
    for result in results:
        reason = result.counterpart, _SIGNS[result.outcome], _one_line(result.detail)
        together.setdefault(reason, []).append(result.scenario)
    texts = [
        f"- {', '.join(scenarios)}, {counterpart}: {sign}: {detail}"
        for (counterpart, sign, detail), scenarios in together.items()
    ]
    return ["", f"## {title}", "", *texts] if texts else []


def _version(counterpart: str, results: Iterable[Result]) -> str:
    return next(r.version for r in results if r.counterpart == counterpart)


def _cell(result: Result | None) -> str:
    if result is None:
        return "not run"
    sign = _SIGNS[result.outcome]
    return f"{sign} {result.seconds:.1f} s" if result.outcome in ("pass", "known", "fail") else sign


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:600]
