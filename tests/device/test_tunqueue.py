"""How long the TUN's queue is, under a clock of the test's own."""

import asyncio
import errno
from collections.abc import Callable, Iterator

import pytest

from wgpy.device import clock
from wgpy.device.fromhost import Turn
from wgpy.device.tunqueue import TunQueue


class _World:
    """A clock, a loop as far as it is asked, and the interface."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lengths: list[int] = []
        self.error = 0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.loop = asyncio.new_event_loop()
        self.loop.call_later = self._call_later  # type: ignore[assignment, method-assign]
        self.queue = TunQueue(self.loop, self._set_length)

    def _call_later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        self.timers.append((self.now + delay, call))
        return asyncio.TimerHandle(self.now + delay, call, (), self.loop)

    def _set_length(self, length: int) -> None:
        if self.error:
            raise OSError(self.error, "refused")
        self.lengths.append(length)

    def turns(
        self,
        seconds: float,
        *,
        reads: int = 12,
        size: int = 40_000,
        lone: int = 0,
        peers: int = 4,
        stands: bool = False,
    ) -> None:
        """Turns of 2 ms one after the other; of what each reads, `lone` are no super-packets.

        A dozen fills a short queue by half, and says nothing of a long one.
        """
        for number in range(round(seconds / 0.002)):
            self.wait(0.002)
            self.queue.turned(Turn(reads, size * reads, reads - lone, stands), {number % peers})

    def wait(self, seconds: float) -> None:
        self.now += seconds
        due = [call for at, call in self.timers if at <= self.now]
        self.timers = [(at, call) for at, call in self.timers if at > self.now]
        for call in due:
            call()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[_World]:
    world = _World()
    monkeypatch.setattr(clock, "now", lambda: world.now)
    world.queue.begin()
    yield world
    world.queue.close()
    world.loop.close()


def test_a_queue_that_gets_empty_stays_long(world: _World) -> None:
    world.turns(2)
    assert world.lengths == [1000]


def test_what_stands_in_line_is_refused_and_so_the_host_sends_much_at_a_time(
    world: _World,
) -> None:
    world.turns(0.1, stands=True)
    assert world.lengths == [1000, 24]
    # One turn empties it, and it is half full at the next one.
    world.turns(60)
    assert world.lengths == [1000, 24]


def test_few_peers_are_served_well_by_a_long_one(world: _World) -> None:
    world.turns(1, peers=3, stands=True)
    assert world.lengths == [1000]


def test_packets_that_do_not_heed_it_are_not_lost_for_it(world: _World) -> None:
    """As on a machine where others work as well."""
    world.turns(1, reads=64, lone=50, stands=True)
    assert world.lengths == [1000]
    world.turns(0.1, reads=64, lone=10, stands=True)
    assert world.lengths == [1000, 24]
    world.turns(0.1, reads=64, lone=60, stands=True)
    assert world.lengths == [1000, 24, 1000]


def test_those_who_stay_small_in_a_short_queue_have_a_long_one(world: _World) -> None:
    world.turns(0.9, size=4_000, stands=True)
    assert world.lengths == [1000, 24]
    world.turns(0.3, size=4_000, stands=True)
    assert world.lengths == [1000, 24, 1000]
    # They need time to grow, and then keep it.
    world.turns(2.0, size=4_000, stands=True)
    world.turns(60, size=11_000, stands=True)
    assert world.lengths == [1000, 24, 1000]


def test_those_who_stay_small_in_a_long_queue_too_see_the_short_way_again(world: _World) -> None:
    world.turns(1.2, size=4_000, stands=True)
    world.turns(2.8, size=4_000, stands=True)
    assert world.lengths == [1000, 24, 1000]
    world.turns(0.3, size=4_000, stands=True)
    assert world.lengths == [1000, 24, 1000, 24]
    world.turns(60, size=20_000, stands=True)
    assert world.lengths == [1000, 24, 1000, 24]


def test_it_is_long_again_when_nothing_stands_in_line(world: _World) -> None:
    world.turns(2, stands=True)
    assert world.lengths == [1000, 24]
    world.turns(0.002, reads=10)
    world.wait(0.6)
    assert world.lengths == [1000, 24, 1000]
    world.wait(10)
    world.turns(0.2, stands=True)
    assert world.lengths == [1000, 24, 1000, 24]


def test_what_was_found_best_is_known_the_next_time(world: _World) -> None:
    world.turns(1.2, size=4_000, stands=True)
    assert world.lengths == [1000, 24, 1000]
    world.wait(10)
    world.turns(1, size=4_000, stands=True)
    assert world.lengths == [1000, 24, 1000]


def test_a_burst_now_and_then_is_no_standing_in_line(world: _World) -> None:
    for _ in range(50):
        world.turns(0.002, reads=20, stands=True)
        world.turns(0.098)
    assert world.lengths == [1000]


def test_who_reads_nothing_most_of_the_time_looks_at_no_clock(
    world: _World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: pytest.fail("a clock for a lone packet"))
    for _ in range(10):
        world.queue.turned(Turn(1, 100, 0, False), {0})


def test_what_somebody_else_has_set_stays(world: _World) -> None:
    world.queue.is_set_to(1000)
    world.queue.is_set_to(5000)
    world.turns(0.2, stands=True)
    assert world.lengths == [1000]


def test_an_interface_of_others_is_left_alone(world: _World) -> None:
    queue = TunQueue(world.loop, world._set_length)
    world.lengths.clear()
    for number in range(100):
        world.now += 0.002
        queue.turned(Turn(64, 64 * 40_000, 64, True), {number % 4})
    assert world.lengths == []
    assert not world.timers


def test_who_may_not_change_it_tries_once(world: _World) -> None:
    world.error = errno.EPERM
    world.turns(0.2, stands=True)
    world.error = 0
    world.turns(0.2, stands=True)
    assert world.lengths == [1000]
