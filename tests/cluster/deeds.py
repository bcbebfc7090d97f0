"""What happens in a run of chaos, and in which order: all of it comes from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HARMLESS = ("restart_agent", "rotate", "cut_watches", "restart_launcher")
"""What traffic must not notice."""
HARMFUL = (
    "kill_daemon",
    "delete_link",
    "flush",
    "delete_object",
    "partition",
    "recreate",
    "reboot",
)
"""What it may notice on that node, for as long as it lasts."""
_WEATHER = ("clear", "late", "late", "lossy")


@dataclass(frozen=True)
class Deed:
    """Done to one node; `chance` is the seed of what it leaves to chance itself."""

    name: str
    number: int
    chance: int


@dataclass(frozen=True)
class Round:
    """First what nobody may notice, then what only one node may, in a weather of two nodes."""

    weather: str
    nodes: tuple[int, ...]
    chance: int
    harmless: tuple[Deed, ...]
    harmful: tuple[Deed, ...]


def rounds(seed: int, numbers: Sequence[int]) -> Iterator[Round]:
    """Of nodes of these numbers, without end."""
    chance = random.Random(seed)
    while True:
        yield Round(
            chance.choice(_WEATHER),
            tuple(chance.sample(numbers, 2)),
            chance.getrandbits(32),
            tuple(_deeds(chance, HARMLESS, numbers, chance.randint(2, 5))),
            tuple(_deeds(chance, HARMFUL, numbers, chance.randint(1, 3))),
        )


def _deeds(
    chance: random.Random, names: Sequence[str], numbers: Sequence[int], count: int
) -> Iterator[Deed]:
    for _ in range(count):
        yield Deed(chance.choice(names), chance.choice(numbers), chance.getrandbits(32))
