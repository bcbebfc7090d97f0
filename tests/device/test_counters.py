"""Counters in shared memory: each is given once, to one process."""

import os
import struct

from wgpy.device.counters import CounterTable, Places, SharedCounter

_PROCESSES, _TAKES = 4, 3000


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
