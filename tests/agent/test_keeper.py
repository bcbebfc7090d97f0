"""When a resource is looked at again."""

from __future__ import annotations

from math import inf

from agent.keeper import Keeper
from agent.network.base import NetworkError


class Thing:
    """It is what it was told last, unless somebody alters it; it can be out of order."""

    name = "thing"

    def __init__(self) -> None:
        self.value = 0
        self.asked = 0
        self.trouble = ""

    def reconcile(self, desired: int) -> list[str]:
        self.asked += 1
        if self.trouble:
            raise NetworkError(self.trouble, "mend it", ("half of it",))
        changed = [f"it is {desired}, it was {self.value}"] if desired != self.value else []
        self.value = desired
        return changed

    def remove(self) -> None:
        """Nothing to remove."""


class Rig:
    def __init__(self) -> None:
        self.now = 100.0
        self.thing = Thing()
        self.keeper = Keeper[int](self.thing, lambda: self.now)


def test_nothing_is_done_before_anything_is_desired() -> None:
    rig = Rig()
    rig.keeper.look()
    assert rig.keeper.turn() is None
    assert not rig.keeper.settled
    assert rig.keeper.due_at == inf


def test_it_is_brought_about_once_and_again_when_something_else_is_desired() -> None:
    rig = Rig()
    rig.keeper.want(1)
    first = rig.keeper.turn()
    assert first is not None
    assert (first.changed, first.drift) == (("it is 1, it was 0",), False)
    assert rig.keeper.settled
    rig.keeper.want(1)
    assert rig.keeper.turn() is None
    rig.keeper.want(2)
    assert not rig.keeper.settled
    second = rig.keeper.turn()
    assert second is not None
    assert (second.changed, second.drift) == (("it is 2, it was 1",), False)


def test_what_others_have_altered_is_drift() -> None:
    rig = Rig()
    rig.keeper.want(1)
    rig.keeper.turn()
    rig.thing.value = 7
    assert rig.keeper.turn() is None
    rig.keeper.look()
    found = rig.keeper.turn()
    assert found is not None
    assert (found.changed, found.drift) == (("it is 1, it was 7",), True)


def test_it_is_drift_also_where_the_alteration_has_changed_what_is_desired() -> None:
    rig = Rig()
    rig.keeper.want(1)
    rig.keeper.turn()
    rig.keeper.look(altered=True)
    rig.keeper.want(2)
    found = rig.keeper.turn()
    assert found is not None
    assert found.drift
    rig.keeper.want(3)
    found = rig.keeper.turn()
    assert found is not None
    assert not found.drift


def test_a_failure_is_tried_again_later_and_later_whatever_happens_meanwhile() -> None:
    rig = Rig()
    rig.thing.trouble = "no"
    rig.keeper.want(1)
    outcome = rig.keeper.turn()
    assert outcome is not None
    assert outcome.changed == ("half of it",)
    assert outcome.error is rig.keeper.error
    waits = []
    for _ in range(9):
        rig.keeper.look()
        assert rig.keeper.turn() is None
        waits.append(rig.keeper.due_at - rig.now)
        rig.now = rig.keeper.due_at
        assert rig.keeper.turn() is not None
        assert not rig.keeper.settled
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    rig.thing.trouble = ""
    rig.now = rig.keeper.due_at
    assert rig.keeper.turn() is not None
    assert rig.keeper.settled
    assert rig.keeper.error is None
    rig.thing.trouble = "no"
    rig.keeper.look()
    rig.keeper.turn()
    assert rig.keeper.due_at == rig.now + 0.5


def test_a_new_wish_is_tried_at_once_after_a_failure() -> None:
    rig = Rig()
    rig.thing.trouble = "no"
    rig.keeper.want(1)
    rig.keeper.turn()
    rig.thing.trouble = ""
    rig.keeper.want(2)
    assert rig.keeper.turn() is not None
    assert rig.keeper.settled
