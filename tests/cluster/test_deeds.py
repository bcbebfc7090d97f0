"""A run of chaos can be played again, and another one is another."""

from __future__ import annotations

import pytest

from tests.cluster.deeds import HARMFUL, HARMLESS, Round, rounds
from tests.cluster.test_agent_chaos import World

_NUMBERS = range(1, 7)


def _first(seed: int, count: int) -> list[Round]:
    endless = rounds(seed, _NUMBERS)
    return [next(endless) for _ in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_always_says_the_same(seed: int) -> None:
    assert _first(seed, 10) == _first(seed, 10)
    # And a longer run begins as a shorter one does.
    assert _first(seed, 10)[:3] == _first(seed, 3)


def test_each_seed_says_something_else() -> None:
    sequences = {str(_first(seed, 1)) for seed in range(20)}
    assert len(sequences) == 20


def test_a_round_is_not_the_one_before() -> None:
    assert len({str(one) for one in _first(1, 20)}) == 20


def test_every_deed_happens_to_every_node_and_the_world_knows_how() -> None:
    done = [deed for one in _first(1, 200) for deed in (*one.harmless, *one.harmful)]
    names = {*HARMLESS, *HARMFUL}
    assert {(deed.name, deed.number) for deed in done} == {
        (name, number) for name in names for number in _NUMBERS
    }
    assert all(callable(getattr(World, name)) for name in names)
