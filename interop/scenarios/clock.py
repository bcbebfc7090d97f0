"""Clocks that go back: an initiation's timestamp (TAI64N) must be newer than the last one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from interop.counterparts.base import Implementation
from interop.netns import Lab
from interop.scenarios.registry import scenario
from interop.session import Speaker
from interop.shell import expect, wait_until
from interop.tunnel import tunnel, wait_for_handshake

_HOUR_NS = 3600 * 10**9
_BACK = 30.0


@scenario()
def older_timestamp(lab: Lab, left: Implementation, right: Implementation) -> None:
    """An initiation of an hour ago is not answered, one of now is, the same time again is not.

    left ── session ── right
    suite, with left's keys: initiation of 1 h ago ───x right
                             initiation of now ────────> right answers
                             another of the same time ──x right
    left, started again: initiation of now ────────────> right answers
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    assert a.running is not None
    a.running.crash()
    speaker = Speaker(a, b)
    expect(not speaker.shakes_hands(time.time_ns() - _HOUR_NS, 1), "right answered an old one")
    now = time.time_ns()
    expect(speaker.shakes_hands(now), "right did not answer a new one")
    expect(speaker.echoes(0), "right did not answer in the session of the new one")
    time.sleep(0.1)
    expect(not speaker.shakes_hands(now, 1), "right answered the same time twice")
    a.start()
    a.add_peer(b, 4)
    a.ping(b)
    b.ping(a)


@scenario(kernel="the clock of this machine is not the suite's to set", alone=True)
def clock_set_back(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The clock goes back 30 s: the session stays; left, restarted, is heard once 30 s passed.

    left ── session ── right                    clock: t
    left ── the same session ── right           clock: t - 30 s
    left (restarted) ── initiations ──x right   until the clock is at t again
    left ── session ── right
    left (restarted, clock back again) ── session ── right, who had forgotten it
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    wait_for_handshake(a, b)
    with _clock_goes_back():
        passed = time.monotonic() + _BACK
        a.ping(b)
        b.ping(a)
        assert a.running is not None
        a.running.crash()
        a.start()
        a.add_peer(b, 4)
        while time.monotonic() < passed - 2:
            expect(not a.reaches(b), "right took a timestamp that is older than the last")
        wait_until("left is heard again", lambda: a.reaches(b), _BACK + 12)
    with _clock_goes_back():
        a.running.crash()
        a.start()
        a.add_peer(b, 4)
        b.configure(f"peer {a.keys.public} remove")
        b.add_peer(a)
        a.ping(b)


@contextlib.contextmanager
def _clock_goes_back() -> Iterator[None]:
    """Of the whole machine, which therefore is a guest."""
    ahead = time.time() - time.monotonic()
    time.clock_settime(time.CLOCK_REALTIME, time.time() - _BACK)
    try:
        yield
    finally:
        time.clock_settime(time.CLOCK_REALTIME, time.monotonic() + ahead)
