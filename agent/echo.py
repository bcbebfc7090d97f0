"""What the API server has of an object of ours, between a write and the watch that tells of it."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Echo(Generic[T]):
    """One object, of which others can write as well.

    A write that was answered is so at once; what the watch tells of before it has caught up is old.
    """

    def __init__(self) -> None:
        self._heard: T | None = None
        # Answered, and not yet heard of.
        self._said: list[T] = []
        # What we wrote last.
        self.last: T | None = None

    def now(self, heard: T | None) -> T | None:
        """What it is; `heard` is what the watch has told last."""
        if heard != self._heard:
            self._heard = heard
            if heard in self._said:
                del self._said[: self._said.index(heard) + 1]
            else:
                self._said.clear()
        return self._said[-1] if self._said else heard

    def wrote(self, value: T) -> None:
        """The server has answered that it is so."""
        self.last = value
        if value != self._heard or self._said:
            self._said.append(value)
