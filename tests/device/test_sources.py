"""When sticky sources are looked at, by a clock and routes of the test's own."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from wgpy.device import sources
from wgpy.device.sources import Sources
from wgpy.protocol.config import Endpoint
from wgpy.protocol.interface import Interface
from wgpy.protocol.path import Path, Source

_ENDPOINT = Endpoint("192.0.2.1", 51820)
_HERE = Path(_ENDPOINT, Source("192.0.2.2", 1))
_THERE = Path(_ENDPOINT, Source("198.51.100.2", 2))


class _Handle:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when, self.call = when, call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class _Loop:
    """The part of an event loop that Sources needs, under virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reader: Callable[[], None] = lambda: None
        self._handles: list[_Handle] = []

    def add_reader(self, _fd: int, call: Callable[[], None]) -> None:
        self.reader = call

    def call_later(self, delay: float, call: Callable[[], None]) -> _Handle:
        handle = _Handle(self.now + delay, call)
        self._handles.append(handle)
        return handle

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [h for h in self._handles if not h.is_cancelled and h.when <= end]:
            handle = min(due, key=lambda h: h.when)
            self._handles.remove(handle)
            self.now = handle.when
            handle.call()
        self.now = end


class _Monitor:
    """A host whose route to the peer leaves by `interface`."""

    def __init__(self) -> None:
        self.interface = 1

    def fileno(self) -> int:
        return -1

    def drain(self) -> bool:
        return True

    def still_valid(self, path: Path, fwmark: int) -> bool:
        return path.source is not None and path.source.interface == self.interface


class _Peer:
    """An interface with one peer, and how often it was looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.looks = 0

    def forget_sources(self, valid: Callable[[Path], bool]) -> None:
        self.looks += 1
        if self.path.source is not None and not valid(self.path):
            self.path = Path(self.path.endpoint)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> tuple[_Loop, _Monitor, _Peer]:
    loop, monitor, peer = _Loop(), _Monitor(), _Peer(_HERE)
    monkeypatch.setattr(sources, "RouteMonitor", lambda: monitor)
    Sources(cast(asyncio.AbstractEventLoop, loop), cast(Interface, peer))
    return loop, monitor, peer


def test_a_source_whose_route_moved_is_gone_at_once(host: tuple[_Loop, _Monitor, _Peer]) -> None:
    loop, monitor, peer = host
    monitor.interface = 2
    loop.reader()
    assert peer.path == Path(_ENDPOINT)


@pytest.mark.parametrize("underway", [0.0, 0.05, 0.25, 0.6])
def test_what_was_underway_to_the_old_source_does_not_make_it_stick(
    host: tuple[_Loop, _Monitor, _Peer], underway: float
) -> None:
    loop, monitor, peer = host
    monitor.interface = 2
    loop.reader()
    loop.sleep(underway)
    peer.path = _HERE
    loop.sleep(2)
    assert peer.path == Path(_ENDPOINT)


def test_a_change_of_other_routes_costs_two_looks(host: tuple[_Loop, _Monitor, _Peer]) -> None:
    loop, _, peer = host
    loop.reader()
    loop.sleep(10)
    assert (peer.path, peer.looks) == (_HERE, 2)


def test_a_storm_of_changes_is_looked_at_ten_times_a_second(
    host: tuple[_Loop, _Monitor, _Peer],
) -> None:
    loop, _, peer = host
    for _ in range(1000):
        loop.reader()
        loop.sleep(0.001)
    assert peer.looks <= 21


def test_a_change_between_late_looks_is_seen_at_once(
    host: tuple[_Loop, _Monitor, _Peer],
) -> None:
    loop, monitor, peer = host
    monitor.interface = 2
    loop.reader()
    loop.sleep(0.35)
    peer.path = _THERE
    monitor.interface = 1
    loop.reader()
    assert peer.path == Path(_ENDPOINT)
