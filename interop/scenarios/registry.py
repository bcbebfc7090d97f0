"""Scenarios by name. A scenario is a function of a lab and of two implementations.

Left initiates unless the docstring says otherwise. A scenario that is not symmetric is
played twice, with the implementation under test on the left and then on the right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from interop.counterparts.base import Counterpart, Implementation, Stack
from interop.counterparts.kernel import Kernel
from interop.netns import Lab

Play = Callable[[Lab, Implementation, Implementation], None]
StackPlay = Callable[[Lab, Implementation, Stack], None]


class DoesNotApply(Exception):
    """This kind of counterpart cannot take part in this scenario; the message says why."""


@dataclass(frozen=True)
class Scenario:
    """A scenario with the side that the implementation under test takes."""

    name: str
    summary: str
    slow: bool
    """Lasts minutes, as one of the protocol's own timeouts does."""
    alone: bool
    """Takes all of a processor, so that nothing is played beside it but what only waits."""
    kernel: bool
    """Only against a kernel, which has a machine of its own."""
    play: Callable[[Lab, Implementation, Counterpart], None]
    """With the implementation under test, and the other.

    :raises DoesNotApply: not with this kind of counterpart.
    :raises ScenarioFailed: one of the two did not do what it should.
    """


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    *, both_ways: bool = True, slow: bool = False, alone: bool = False, kernel: str = ""
) -> Callable[[Play], Play]:
    """Register a function under its name; `-left` and `-right` tell where ours stands.

    :param kernel: why it is only for kernels, if it is.
    """

    def fit(theirs: Counterpart) -> Implementation:
        if kernel and not isinstance(theirs, Kernel):
            raise DoesNotApply(kernel)
        return _with_interface(theirs)

    def register(play: Play) -> Play:
        def ours_left(lab: Lab, ours: Implementation, theirs: Counterpart) -> None:
            play(lab, ours, fit(theirs))

        def ours_right(lab: Lab, ours: Implementation, theirs: Counterpart) -> None:
            play(lab, fit(theirs), ours)

        name, summary = _describe(play)
        for side, sided in (("-left", ours_left), ("-right", ours_right)):
            if both_ways:
                full = name + side
            elif sided is ours_left:
                full = name
            else:
                continue
            SCENARIOS[full] = Scenario(full, summary, slow, alone, bool(kernel), sided)
        return play

    return register


def stack_scenario(*, slow: bool = False) -> Callable[[StackPlay], StackPlay]:
    """Register a function for counterparts that bring their own TCP/IP stack."""

    def register(play: StackPlay) -> StackPlay:
        def against_a_stack(lab: Lab, ours: Implementation, theirs: Counterpart) -> None:
            if not isinstance(theirs, Stack):
                raise DoesNotApply(f"{theirs.name} has no TCP/IP stack of its own")
            play(lab, ours, theirs)

        name, summary = _describe(play)
        SCENARIOS[name] = Scenario(name, summary, slow, False, False, against_a_stack)
        return play

    return register


def _with_interface(counterpart: Counterpart) -> Implementation:
    if not isinstance(counterpart, Implementation):
        raise DoesNotApply(f"{counterpart.name} makes no interface")
    return counterpart


def _describe(play: Play | StackPlay) -> tuple[str, str]:
    return play.__name__.replace("_", "-"), (play.__doc__ or "").strip().splitlines()[0]
