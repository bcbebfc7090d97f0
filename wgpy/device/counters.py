"""Send counters in memory that processes share; see wgpy.protocol.sharing for what they promise.

    place k, at 24 k
    | tag, 64 bit | next counter, 64 bit | the tag again once the session is confirmed, 64 bit |

A place is read and written under an exclusive record lock (fcntl), which the kernel takes from a
process that dies. What that process has left counts, so each word is written by itself, in one
store, and after each store the place is one that others may go on with:

- `take` writes the counter alone: it was moved on or not.
- `begin` writes the tag first. From there on the old session is refused, and nobody has the new one
  yet; were the counter 0 first, the old session could begin anew.
- `confirm` writes the last word alone, which may be read without the lock.
"""

import fcntl
import mmap
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from wgpy.protocol.sharing import Ticket

# The words of a place.
_WORDS = 3
_TAG, _NEXT, _CONFIRMED = range(_WORDS)
_PLACE_SIZE = 8 * _WORDS
# More sessions than that are not kept: the place of the oldest goes to the newest.
_PLACES = 1 << 16


class CounterTable:
    """The memory with all counters, as every process has it."""

    def __init__(self, fd: int) -> None:
        """Takes over the descriptor of a table that another process made."""
        self.fd = fd
        self._memory = mmap.mmap(fd, _PLACES * _PLACE_SIZE)
        # An item is read and written by one instruction; struct writes zeros first.
        self._words = memoryview(self._memory).cast("Q")

    @classmethod
    def make(cls) -> Self:
        """Raises OSError."""
        fd = os.memfd_create("wgpy-counters")
        try:
            os.ftruncate(fd, _PLACES * _PLACE_SIZE)
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        self._words.release()
        self._memory.close()
        os.close(self.fd)

    def take(self, ticket: Ticket, count: int) -> int | None:
        """The first of `count` counters; None if the place is another session's by now."""
        words, place = self._words, ticket.slot * _WORDS
        with self._locked(ticket.slot):
            if words[place + _TAG] != ticket.tag:
                return None
            first = words[place + _NEXT]
            words[place + _NEXT] = first + count
            return first

    def begin(self, ticket: Ticket) -> None:
        """Give a place to a new session, from 0 on."""
        words, place = self._words, ticket.slot * _WORDS
        with self._locked(ticket.slot):
            # The last word is an older tag, or 0: not confirmed.
            words[place + _TAG] = ticket.tag
            words[place + _NEXT] = 0

    def confirm(self, ticket: Ticket) -> None:
        """Unless the place is another session's by now."""
        words, place = self._words, ticket.slot * _WORDS
        with self._locked(ticket.slot):
            if words[place + _TAG] == ticket.tag:
                words[place + _CONFIRMED] = ticket.tag

    @contextmanager
    def _locked(self, slot: int) -> Iterator[None]:
        start = slot * _PLACE_SIZE
        fcntl.lockf(self.fd, fcntl.LOCK_EX, _PLACE_SIZE, start)
        try:
            yield
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN, _PLACE_SIZE, start)

    def is_confirmed(self, ticket: Ticket) -> bool:
        return self._words[ticket.slot * _WORDS + _CONFIRMED] == ticket.tag


class Places:
    """Who has which place: the leader's book."""

    def __init__(self, table: CounterTable) -> None:
        self._table = table
        self._tag = 0
        self._free = list(range(_PLACES - 1, -1, -1))
        self._taken: OrderedDict[int, int] = OrderedDict()

    def new_counter(self) -> "SharedCounter":
        """A counter for a new session."""
        slot = self._free.pop() if self._free else self._taken.popitem(last=False)[0]
        # Tags are not used again: who has an old one is refused.
        self._tag += 1
        ticket = Ticket(slot, self._tag)
        self._taken[slot] = ticket.tag
        self._table.begin(ticket)
        return SharedCounter(self._table, ticket, self)

    def free(self, ticket: Ticket) -> None:
        if self._taken.get(ticket.slot) == ticket.tag:
            del self._taken[ticket.slot]
            self._free.append(ticket.slot)


class SharedCounter:
    """One session's counter; `places` is None in a follower."""

    def __init__(self, table: CounterTable, ticket: Ticket, places: Places | None = None) -> None:
        self.ticket = ticket
        self._table = table
        self._places = places

    def take(self, count: int) -> int | None:
        return self._table.take(self.ticket, count)

    def confirm(self) -> None:
        self._table.confirm(self.ticket)

    @property
    def confirmed(self) -> bool:
        return self._table.is_confirmed(self.ticket)

    def free(self) -> None:
        if self._places is not None:
            self._places.free(self.ticket)
