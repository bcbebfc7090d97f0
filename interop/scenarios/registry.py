"""Scenarios by name. A scenario is a function of a lab and of two implementations.

Left initiates unless the docstring says otherwise. A scenario that is not symmetric is
played twice, with the implementation under test on the left and then on the right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from interop.counterparts.base import Implementation
from interop.netns import Lab

Play = Callable[[Lab, Implementation, Implementation], None]


@dataclass(frozen=True)
class Scenario:
    """A scenario with the side that the implementation under test takes."""

    name: str
    play: Play
    ours_left: bool
    slow: bool
    """Lasts minutes, as one of the protocol's own timeouts does."""

    @property
    def summary(self) -> str:
        return (self.play.__doc__ or "").strip().splitlines()[0]


SCENARIOS: dict[str, Scenario] = {}


def scenario(*, both_ways: bool = True, slow: bool = False) -> Callable[[Play], Play]:
    """Register a function under its name; `-left` and `-right` tell where ours stands."""

    def register(play: Play) -> Play:
        base = play.__name__.replace("_", "-")
        for side in ("left", "right") if both_ways else ("left",):
            name = f"{base}-{side}" if both_ways else base
            SCENARIOS[name] = Scenario(name, play, side == "left", slow)
        return play

    return register


def play(case: Scenario, lab: Lab, ours: Implementation, theirs: Implementation) -> None:
    """Play one scenario with both implementations on their sides."""
    case.play(lab, *((ours, theirs) if case.ours_left else (theirs, ours)))
