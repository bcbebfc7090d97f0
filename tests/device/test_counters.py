"""Counters in shared memory: each is given once, to one process, whoever dies."""

import mmap
import os
import random
import signal
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from tests.device.stepping import steps_of
from wgpy.device.counters import CounterTable, Places, SharedCounter
from wgpy.protocol.sharing import Ticket

_PROCESSES, _TAKES = 4, 3000
_KILLING_SECONDS = 1.5
_PLACE = struct.Struct("QQQ")


@pytest.fixture
def table() -> Iterator[CounterTable]:
    table = CounterTable.make()
    yield table
    table.close()


def test_processes_that_take_at_once_never_get_the_same() -> None:
    table = CounterTable.make()
    counter = Places(table).new_counter()
    reads = []
    for _ in range(_PROCESSES):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            with os.fdopen(write, "wb") as out:
                for number in range(_TAKES):
                    first = counter.take(1 + number % 3)
                    assert first is not None
                    out.write(struct.pack("<QQ", first, 1 + number % 3))
            os._exit(0)
        os.close(write)
        reads.append((child, read))
    taken: list[int] = []
    for child, read in reads:
        with os.fdopen(read, "rb") as data:
            for first, count in struct.iter_unpack("<QQ", data.read()):
                taken += range(first, first + count)
        assert os.waitpid(child, 0)[1] == 0
    assert sorted(taken) == list(range(_PROCESSES * _TAKES * 2))
    table.close()


def test_another_process_sees_the_same_table() -> None:
    table = CounterTable.make()
    counter = Places(table).new_counter()
    other = CounterTable(os.dup(table.fd))
    assert counter.take(5) == 0
    assert SharedCounter(other, counter.ticket).take(2) == 5
    assert counter.take(1) == 7
    other.close()
    table.close()


def test_a_place_that_was_freed_is_given_anew_and_its_old_holder_is_refused() -> None:
    table = CounterTable.make()
    places = Places(table)
    old = places.new_counter()
    assert old.take(10) == 0
    old.free()
    new = places.new_counter()
    assert new.ticket.slot == old.ticket.slot
    assert old.take(1) is None
    assert new.take(1) == 0
    # Freed twice, or after the place was given away: nothing happens to its new holder.
    old.free()
    assert places.new_counter().ticket.slot != new.ticket.slot
    table.close()


def test_a_confirmation_is_seen_by_all_and_only_of_that_session() -> None:
    table = CounterTable.make()
    places = Places(table)
    old = places.new_counter()
    other = CounterTable(os.dup(table.fd))
    assert not SharedCounter(other, old.ticket).confirmed
    old.confirm()
    assert SharedCounter(other, old.ticket).confirmed
    assert old.take(3) == 0
    assert old.confirmed
    old.free()
    new = places.new_counter()
    old.confirm()
    assert not new.confirmed
    other.close()
    table.close()


def _place(table: CounterTable, ticket: Ticket) -> tuple[int, int, int]:
    """Tag, next counter, tag of the confirmed session, as they are in memory."""
    tag, following, confirmed = _PLACE.unpack(os.pread(table.fd, 24, ticket.slot * 24))
    return tag, following, confirmed


def _states(
    table: CounterTable, ticket: Ticket, call: Callable[[], object]
) -> list[tuple[int, int, int]]:
    """What a place is during a call, one after the other: who dies in it leaves one of these."""
    seen = [_place(table, ticket)]
    for _ in steps_of(call):
        if (now := _place(table, ticket)) != seen[-1]:
            seen.append(now)
    return seen


def test_who_takes_changes_the_counter_alone_and_at_once(table: CounterTable) -> None:
    counter = Places(table).new_counter()
    counter.confirm()
    counter.take(0x1_0000_0001)
    tag = counter.ticket.tag
    # Every byte of the counter changes: were they written one by one, it would be seen.
    count = 0x0101_0101_0101_0101 - 0x1_0000_0001
    assert _states(table, counter.ticket, lambda: counter.take(count)) == [
        (tag, 0x1_0000_0001, tag),
        (tag, 0x0101_0101_0101_0101, tag),
    ]


def test_who_dies_in_giving_a_place_to_another_session_leaves_it_to_none(
    table: CounterTable,
) -> None:
    places = Places(table)
    old = places.new_counter()
    old.confirm()
    old.take(300)
    tag = old.ticket.tag
    new = Ticket(old.ticket.slot, tag + 1)
    # The old session never sees a counter that it had, nor the new one that it is confirmed.
    assert _states(table, new, lambda: table.begin(new)) == [
        (tag, 300, tag),
        (tag + 1, 300, tag),
        (tag + 1, 0, tag),
    ]


def test_who_confirms_changes_that_word_alone(table: CounterTable) -> None:
    counter = Places(table).new_counter()
    counter.take(300)
    tag = counter.ticket.tag
    assert _states(table, counter.ticket, counter.confirm) == [(tag, 300, 0), (tag, 300, tag)]


class _Taker:
    """A process that takes until it is killed, and marks what it got in memory that all see."""

    def __init__(self, counter: SharedCounter, given: mmap.mmap) -> None:
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._take(counter, given)
            finally:
                os._exit(1)

    def _take(self, counter: SharedCounter, given: mmap.mmap) -> None:
        while (first := counter.take(2)) is not None and given[first : first + 2] == b"\0\0":
            given[first : first + 2] = b"\1\1"

    def kill(self) -> bool:
        """Whether it still took: the place was not lost, and no counter given twice."""
        os.kill(self._pid, signal.SIGKILL)
        return os.WIFSIGNALED(os.waitpid(self._pid, 0)[1])


# One alone is more often between two stores, many are more often in each other's way.
@pytest.mark.parametrize("number", [1, 3])
def test_processes_that_are_killed_while_they_take_leave_no_counter_to_be_given_twice(
    table: CounterTable, number: int
) -> None:
    counter = Places(table).new_counter()
    # More than anybody takes in that time.
    with mmap.mmap(-1, 1 << 24) as given:
        takers = [_Taker(counter, given) for _ in range(number)]
        end = time.monotonic() + _KILLING_SECONDS
        try:
            while time.monotonic() < end:
                time.sleep(random.random() * 0.001)
                assert takers.pop(0).kill()
                takers.append(_Taker(counter, given))
        finally:
            took = [taker.kill() for taker in takers]
        assert all(took)
        first = counter.take(1)
        assert first is not None
        # They did take, and the counter is behind all that they got.
        assert 1000 < first < len(given)
        assert given.rfind(b"\1") < first
