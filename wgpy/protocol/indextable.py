"""Receiver indices: 32-bit numbers that nobody can guess."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class IndexTable(Generic[T]):
    """From index to what it stands for."""

    def __init__(self) -> None:
        self._values: dict[int, T] = {}
        self.get = self._values.get

    def __len__(self) -> int:
        return len(self._values)

    def allocate(self, random: Callable[[int], bytes], value: T) -> int:
        """A free index for `value`."""
        while True:
            index = int.from_bytes(random(4), "little")
            if index not in self._values:
                self._values[index] = value
                return index

    def replace(self, index: int, value: T) -> None:
        """Let an allocated index stand for another value."""
        self._values[index] = value

    def remove(self, index: int) -> None:
        """Free an index; nothing happens if it is free."""
        self._values.pop(index, None)
