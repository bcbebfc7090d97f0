"""What the API server has of an object of ours, between a write and the watch that tells of it."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

# Seconds until a write that was not heard of counts no more: something else was heard meanwhile,
# or the watch has missed it.
_LATEST = 30.0


class Echo(Generic[T]):
    """One object, of which others can write as well.

    A write that was answered is so at once; what the watch tells of before it has caught up is old.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard: T | None = None
        # Answered at that time, and not yet heard of.
        self._said: list[tuple[float, T]] = []
        # What we wrote last.
        self.last: T | None = None

    @property
    def now(self) -> T | None:
        """What it is; None if there is none."""
        if self._said and self._clock() - self._said[-1][0] > _LATEST:
            self._said.clear()
        return self._said[-1][1] if self._said else self._heard

    def hear(self, value: T | None) -> None:
        """What the watch tells: each value in its turn, none left out."""
        if value == self._heard:
            return
        self._heard = value
        values = [said for _, said in self._said]
        # Anything else is of other hands.
        known = values.index(value) + 1 if value in values else len(values)
        del self._said[:known]

    def wrote(self, value: T) -> None:
        """The server has answered that it is so."""
        self.last = value
        if value != self._heard or self._said:
            self._said.append((self._clock(), value))
