"""Keepalives: passive and persistent, seen on the wire with their times."""

from __future__ import annotations

import itertools
import socket
import time

from interop.counterparts.base import Implementation
from interop.netns import Lab
from interop.scenarios.registry import scenario
from interop.shell import expect
from interop.tunnel import End, tunnel
from interop.wire import DATA, Message, capture

_KEEPALIVE = 32
"""Bytes of a data message that carries nothing."""
_PASSIVE = 10.0


@scenario()
def passive_keepalive(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Right receives and has nothing to say: after 10 s of that it sends an empty packet, once.

    left ── data, at 0 s ──> right
         <── empty, at 10 s ──
    """
    a, b = tunnel(lab, left, right)
    after = seconds_until_keepalive(lab, a, b)
    expect(-0.1 < after - _PASSIVE < 1, f"a keepalive after {after:.2f} s, not 10")


def seconds_until_keepalive(lab: Lab, a: End, b: End) -> float:
    """From `a`'s data, which nobody answers, to `b`'s keepalive, after which both are silent."""
    a.ping(b)
    with (
        b.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener,
        a.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker,
    ):
        listener.bind((b.inner(), 9000))
        time.sleep(1)
        with capture(a.namespace, lab.directory) as wire:
            speaker.sendto(b"no answer wanted", (b.inner(), 9000))
            data = wire.wait_for("the data itself", DATA, a.outer(), 2)
            answer = wire.wait_for("a keepalive", DATA, b.outer(), 14)
            time.sleep(3)
    expect(len(answer.payload) == _KEEPALIVE, f"{len(answer.payload)} bytes instead of 32")
    count = len(wire.messages(DATA, b.outer()))
    expect(count == 1, f"{count} keepalives instead of one")
    expect(len(wire.messages(DATA, a.outer())) == 1, "a keepalive was answered")
    return answer.at - data.at


@scenario()
def persistent_keepalive(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Left was told to speak every 2 s: it does, handshake included, without any traffic.

    left ── handshake, then empty at 0, 2, 4, 6 s ──> right
    """
    a, b = tunnel(lab, left, right)
    gaps = keepalive_gaps(lab, a, b)
    text = ", ".join(f"{gap:.2f}" for gap in gaps)
    expect(all(1.7 < gap < 2.5 for gap in gaps), f"keepalives {text} s apart instead of 2")


def keepalive_gaps(lab: Lab, a: End, b: End) -> list[float]:
    """Seconds between the empty packets that `a` sends when told to every 2 s."""
    with capture(b.namespace, lab.directory) as wire:
        a.configure(f"peer {b.keys.public} persistent-keepalive 2")
        wire.wait_for("the fourth keepalive", DATA, a.outer(), 15, count=4)
    keepalives = wire.messages(DATA, a.outer())
    _all_empty(keepalives)
    expect(not wire.messages(DATA, b.outer()), "keepalives were answered")
    return [later.at - at.at for at, later in itertools.pairwise(keepalives)][1:]


def _all_empty(messages: list[Message]) -> None:
    sizes = {len(message.payload) for message in messages}
    expect(sizes == {_KEEPALIVE}, f"data of {sizes} bytes although nobody sent anything")
