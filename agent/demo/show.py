"""The demo on a terminal, as text, or as a picture."""

import io
import os
import re
import shutil
import sys
from pathlib import Path
from types import TracebackType
from typing import Protocol

import rich.live
from rich.console import Console, RenderableType

from agent.demo.screen import NODE_WIDTH, outcome, screen
from agent.demo.state import State, Step

_REFRESH = 5
# Columns of text that goes to a file, and of the picture.
_WIDTH = 100
# It would be fetched from elsewhere; every viewer has a font of its own.
_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


class Show(Protocol):
    """`with` it, while the story is played."""

    def tell(self, step: Step) -> None:
        """A step has begun or ended."""

    def end(self) -> None:
        """Nothing changes any more."""

    def __enter__(self) -> "Show": ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Plain:
    """Lines of text, in the order of what happens."""

    def __init__(self, state: State) -> None:
        self._state = state
        columns = shutil.get_terminal_size((_WIDTH, 24)).columns
        self._console = Console(color_system=None, width=columns, force_terminal=False)

    def tell(self, step: Step) -> None:
        if step.verdict == "running":
            self._line(f"... {step.text}")
        else:
            mark = "ok " if step.verdict == "seen" else "NOT"
            self._line(f"{mark} {step.text} ({step.seconds:.1f} s)")
            for detail in step.details:
                self._line(f"      {detail}")

    def end(self) -> None:
        self._line("")
        self._console.print(outcome(self._state))

    @staticmethod
    def _line(text: str) -> None:
        print(text, flush=True)

    def __enter__(self) -> "Plain":
        return self

    def __exit__(self, *about: object) -> None:
        sys.stdout.flush()


class Live:
    """The screen, as it is at each moment; its last is left behind."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._ended = False
        self._console = Console(highlight=False)
        self._live = rich.live.Live(
            console=self._console, get_renderable=self._render, refresh_per_second=_REFRESH
        )

    @staticmethod
    def fits(nodes: int) -> bool:
        """Whether there is a terminal for it."""
        dumb = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") in ("", "dumb")
        return sys.stdout.isatty() and not dumb and Console().width >= nodes * NODE_WIDTH

    def tell(self, step: Step) -> None:
        """It is looked at often enough."""

    def end(self) -> None:
        self._ended = True

    def _render(self) -> RenderableType:
        return screen(self._state, None if self._ended else self._console.height - 1)

    def __enter__(self) -> "Live":
        self._live.start()
        return self

    def __exit__(self, *about: object) -> None:
        self._live.stop()


def write_svg(state: State, path: Path) -> None:
    """The last screen."""
    console = Console(
        record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, highlight=False
    )
    console.print(screen(state))
    path.write_text(_FONT.sub("", console.export_svg(title="make demo")))
