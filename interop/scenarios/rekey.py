"""New sessions: by age, by a fresh peer, after a restart."""

from __future__ import annotations

import threading
import time

from interop.counterparts.base import Implementation
from interop.netns import Lab
from interop.scenarios.registry import scenario
from interop.shell import expect
from interop.tunnel import PORT, tunnel, wait_for_handshake
from interop.wire import INITIATION, capture

_REKEY_AFTER_TIME = 120.0
_KEEPALIVE_TIMEOUT = 10.0
_REKEY_TIMEOUT = 5.0
_LATE = 3.0
"""Seconds granted to a loaded machine on top of the protocol's own times."""


@scenario(slow=True)
def rekey_by_time(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Traffic both ways for 130 s: left, who initiated, rekeys once, and no echo is lost.

    t=0    left ──── initiation ────> right        2 echoes a second from either end
    t=100                                          from right only: it is the first to send
    t=120  left ──── initiation ────> right        when the session is old, and does not initiate
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    with capture(b.namespace, lab.directory) as wire:
        lost: list[int] = []
        backwards = threading.Thread(target=lambda: lost.append(b.ping_many(a, 260, 0.5)))
        backwards.start()
        started = time.monotonic()
        lost.append(a.ping_many(b, 200, 0.5))
        backwards.join()
    expect(lost == [0, 0], f"echoes lost across the rekeying: {lost}")
    initiations = wire.messages(INITIATION)
    senders = {message.source for message in initiations}
    expect(senders == {a.outer()}, f"initiations from {senders}, not from the initiator alone")
    expect(len(initiations) == 1, f"{len(initiations)} initiations instead of one")
    age = initiations[0].at - started
    early, late = _REKEY_AFTER_TIME - _LATE, _REKEY_AFTER_TIME + _LATE
    expect(early < age < late, f"rekeyed at {age:.1f} s instead of 120")


@scenario()
def peer_added_again(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Left forgets right and learns it anew: a fresh session replaces the one right still has.

    left ── session 1 ── right
    left: wg set peer R remove; wg set peer R endpoint …
    left ── session 2 ── right (which had not expected it)
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    wait_for_handshake(a, b)
    for _ in range(3):
        before = b.handshake_time(a)
        time.sleep(1.1)
        a.configure(f"peer {b.keys.public} remove")
        a.add_peer(b, 4)
        a.ping(b)
        wait_for_handshake(a, b, newer_than=before)
        b.ping(a)
    received = int(b.show("transfer", a).split()[0])
    expect(received > 0, "right counted nothing received from left")


@scenario()
def restart_and_speak(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Left crashes, starts again and sends: its new handshake is accepted at once.

    left ── session 1 ── right
    left: killed, started, configured
    left ──── initiation (newer timestamp) ────> right
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    wait_for_handshake(a, b)
    assert a.running is not None
    a.running.crash()
    a.start()
    a.add_peer(b, 4)
    a.ping(b)
    b.ping(a)


@scenario(both_ways=False)
def both_restart(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Both crash and start again, three times: whoever speaks first gets through at once.

    left ── session ── right
    left, right: killed, started, configured
    left ──── initiation (newer timestamp) ────> right          then right, then left again
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    for speaker, listener in ((a, b), (b, a), (a, b)):
        for end in (a, b):
            assert end.running is not None
            end.running.crash()
        for end, peer in ((a, b), (b, a)):
            end.start()
            end.add_peer(peer, 4)
        speaker.ping(listener)
        listener.ping(speaker)


@scenario()
def restart_and_wait(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Right crashes and starts again; left goes on sending and finds out by itself.

    left ── session 1 ── right
    right: killed, started, configured, silent
    left ──── data ────> right (unknown index)
    left ──── initiation, 15 s after its first unanswered packet ────> right
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    wait_for_handshake(a, b)
    assert b.running is not None
    b.running.crash()
    b.start()
    b.add_peer(a)
    with capture(b.namespace, lab.directory) as wire:
        started = time.monotonic()
        lost = a.ping_many(b, 100, 0.25)
        expect(lost < 100, "no echo came back within 25 s of the restart")
        initiation = wire.wait_for("an initiation", INITIATION, a.outer(), 1)
    after = initiation.at - started
    due = _KEEPALIVE_TIMEOUT + _REKEY_TIMEOUT
    expect(due - 0.5 < after < due + _LATE, f"left initiated after {after:.1f} s instead of {due}")
    expect(b.show("endpoints", a) == f"{a.outer()}:{PORT}", "right did not learn the endpoint")
