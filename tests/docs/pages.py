"""The pages of the documentation, and what their code blocks ask for.

A block of shell commands or Python runs as it stands, unless a comment before it says otherwise:

    <!-- host: beta -->           on the other of the two hosts (else on alpha)
    <!-- tested: PATH[::TEST] -->   that file, or that test in it, runs these commands
    <!-- needs: cluster -->       what no test machine has; see NEEDS
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ("alpha", "beta")
# What a test machine has not; nothing else keeps a command from being run.
NEEDS = {
    "cluster": "a Kubernetes cluster of one's own",
    "hour": "the better part of an hour",
    "registry": "a registry for images",
    "terminal": "somebody who watches",
}
RUNS = ("sh", "python")
# Shown, not run: output, files, pictures.
SHOWN = (
    "text",
    "ini",
    "yaml",
    "toml",
    "{eval-rst}",
    "{toctree}",
    "{literalinclude}",
    "{include}",
    "{warning}",
)
_FENCE = re.compile(r"^( *)(```+)([^`\n]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (host|tested|needs): (\S+) -->")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code."""

    page: str
    line: int
    language: str
    text: str
    host: str
    tested: str | None
    needs: str | None

    @property
    def runs(self) -> bool:
        return self.language in RUNS and self.tested is None and self.needs is None

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> int:
        """Lines that are neither empty, comments nor the rest of a line before."""
        lines = re.sub(r"\\\n", " ", self.text).splitlines()
        return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in lines)


def pages() -> list[Path]:
    """All that people read."""
    top = (ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"))
    return [*top, *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page."""
    text = page.read_text()
    name = str(page.relative_to(ROOT))
    found = []
    for fence in _FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 1
        language = fence[3].split()[0] if fence[3].strip() else ""
        marks = _marks_before(text[: fence.start()])
        found.append(
            Block(
                name,
                line,
                language,
                fence[4],
                marks.get("host", HOSTS[0]),
                marks.get("tested"),
                marks.get("needs"),
            )
        )
    return found


def _marks_before(text: str) -> dict[str, str]:
    """Of the lines right above, which have nothing but marks."""
    marks: dict[str, str] = {}
    for line in reversed(text.splitlines()):
        mark = _MARK.fullmatch(line.strip())
        if mark is None:
            break
        marks[mark[1]] = mark[2]
    return marks


def not_run() -> str:
    """How many commands no test runs, by what they need."""
    needs = [block for page in pages() for block in blocks(page) if block.needs]
    told = {need: sum(b.commands() for b in needs if b.needs == need) for need in NEEDS}
    return ", ".join(f"{count} need {NEEDS[need]}" for need, count in told.items() if count)
