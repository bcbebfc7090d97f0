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
        count: int,
        reads: int,
        seconds: float,
        *,
        lone: int = 0,
        peers: int = 4,
        stands: bool = True,
    ) -> None:
        """Turns one after the other, each of which takes `seconds`; `lone` are no super-packets."""
        for number in range(count):
            self.wait(seconds)
            self.queue.turned(Turn(reads, 0, reads - lone, stands), {number % peers})

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
    world.turns(1000, 128, 0.01, stands=False)
    assert world.lengths == [1000]


def test_what_stands_in_line_is_a_millisecond_of_work(world: _World) -> None:
    # 64 in 2 ms: 32 in one.
    world.turns(100, 64, 0.002)
    assert world.lengths == [1000, 32]


def test_it_is_never_too_short_for_a_burst(world: _World) -> None:
    world.turns(100, 1, 0.001)
    assert world.lengths == [1000, 24]


def test_few_peers_are_served_well_by_a_long_one(world: _World) -> None:
    world.turns(100, 64, 0.002, peers=3)
    assert world.lengths == [1000]


def test_what_is_quickly_read_keeps_it_long(world: _World) -> None:
    world.turns(1000, 128, 0.0001)
    assert world.lengths == [1000]


def test_packets_that_do_not_heed_it_are_not_lost_for_it(world: _World) -> None:
    """As on a machine where others work as well."""
    world.turns(100, 128, 0.02, lone=100)
    assert world.lengths == [1000]
    world.turns(100, 64, 0.002, lone=10)
    assert world.lengths == [1000, 32]
    world.turns(100, 64, 0.002, lone=60)
    assert world.lengths == [1000, 32, 1000]


def test_it_is_changed_again_only_when_the_work_is_another(world: _World) -> None:
    world.turns(100, 64, 0.002)
    world.turns(100, 70, 0.002)
    assert world.lengths == [1000, 32]
    world.turns(200, 128, 0.001)
    # The first of these was measured with some of those.
    assert world.lengths[:2] == [1000, 32]
    assert world.lengths[2:] == [pytest.approx(128, rel=0.1)]


def test_it_is_long_again_when_nothing_stands_in_line(world: _World) -> None:
    world.turns(1000, 64, 0.002)
    assert world.lengths == [1000, 32]
    world.turns(1, 10, 0.002, stands=False)
    world.wait(0.6)
    assert world.lengths == [1000, 32, 1000]
    world.wait(10)
    world.turns(100, 64, 0.002)
    assert world.lengths == [1000, 32, 1000, 32]


def test_a_gap_between_two_bursts_is_no_slow_reading(world: _World) -> None:
    """Time counts only while something waits."""
    for _ in range(50):
        world.turns(1, 128, 0.1)
        world.turns(1, 20, 0.0005, stands=False)
    assert world.lengths == [1000]


def test_what_somebody_else_has_set_stays(world: _World) -> None:
    world.queue.is_set_to(1000)
    world.queue.is_set_to(5000)
    world.turns(100, 64, 0.002)
    assert world.lengths == [1000]


def test_an_interface_of_others_is_left_alone(world: _World) -> None:
    queue = TunQueue(world.loop, world._set_length)
    world.lengths.clear()
    for number in range(100):
        world.now += 0.002
        queue.turned(Turn(64, 0, 64, True), {number % 4})
    assert world.lengths == []
    assert not world.timers


def test_who_may_not_change_it_tries_once(world: _World) -> None:
    world.error = errno.EPERM
    world.turns(100, 64, 0.002)
    world.error = 0
    world.turns(100, 64, 0.002)
    assert world.lengths == [1000]
