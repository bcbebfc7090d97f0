"""Paths that take less than the interface thinks: path-MTU messages, fragments, changed MTUs."""

from __future__ import annotations

import threading
import time

from interop.counterparts.base import Implementation
from interop.netns import Lab
from interop.router import routed_pair
from interop.scenarios.bulk import transfer
from interop.scenarios.registry import scenario
from interop.shell import expect
from interop.tunnel import End, tunnel
from interop.wire import capture

_NARROW = 1280
_BYTES = 1 << 16
"""Not more: wireguard-go with offloads loses every batch whose pieces have outgrown the path."""
_ICMPV6, _TOO_BIG = 58, 2
_MTUS = (1280, 1420, 1300, 1400, 576)


@scenario()
def narrow_path_v4(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Beyond a router the path takes 1280 bytes: full packets get through, if not at once.

    left ══ 1420 ═════════════════ right
         ── 1500 ── router ── 1280 ──

    The kernel allows fragments outside, and the router makes them. Who sets don't-fragment is
    told by the router what fits, loses that packet, and lets its own host make the fragments.
    """
    _narrow(lab, left, right, outer=4)


@scenario()
def narrow_path_v6(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The same over IPv6, where no router makes fragments: left's host does, once it was told.

    left ══ 1420 ═════════════════ right
         ── 1500 ── router ── 1280 ──
         <─ Packet Too Big ─
    """
    for frame in _narrow(lab, left, right, outer=6):
        if frame[12:14] == b"\x86\xdd" and frame[20] == _ICMPV6 and frame[54] == _TOO_BIG:
            return
    expect(False, "the path was not narrow: nothing was too big")


def _narrow(lab: Lab, left: Implementation, right: Implementation, outer: int) -> list[bytes]:
    """The frames on left's side of the router."""
    a, b, router = routed_pair(lab, left, right, outer_mtu=_NARROW)
    b.add_peer(a)
    a.add_peer(b, outer)
    a.ping(b)
    with capture(router, lab.directory, "eth1") as wire:
        first = a.reaches(b, more=f"-M do -s {1420 - 28}")
        allowed = not any(m.dont_fragment for m in wire.messages(source=a.outer(outer)))
        expect(first or not allowed, "a packet was lost that the router could have fragmented")
        _full_packets(a, b)
        transfer(a, b, 4, forwards=True, backwards=True, length=_BYTES)
    return [frame for _, frame in wire.frames]


def _full_packets(a: End, b: End) -> None:
    for inner, headers in ((4, 28), (6, 48)):
        a.ping(b, inner, f"-M do -s {1420 - headers}")
        b.ping(a, inner, f"-M do -s {1420 - headers}")


@scenario()
def larger_than_the_interface(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Echoes of 4,000 and 65,000 bytes go as inner fragments; those that may not are refused.

    left ══ 1420: fragments of 1420 bytes, put together by the hosts ══ right
    """
    a, b = tunnel(lab, left, right)
    for inner in (4, 6):
        for size in (4000, 65000):
            a.ping(b, inner, f"-s {size}")
            b.ping(a, inner, f"-s {size}")
    expect(not a.reaches(b, more="-M do -s 1400"), "a packet of 1428 bytes through 1420")
    a.ping(b, more="-M do -s 1392")


@scenario(both_ways=False, alone=True)
def mtu_changes_under_traffic(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The MTU of both ends goes up and down during a TCP transfer: every byte arrives.

    left ══ TCP, 8 MiB each way ══ right
    MTU 1280, 1420, 1300, 1400, 576, and again, 5 times a second
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    ending = threading.Event()

    def change() -> None:
        while not ending.is_set():
            for mtu in _MTUS:
                for end in (a, b):
                    end.namespace.ip(f"link set {end.interface} mtu {mtu}")
                time.sleep(0.2)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        transfer(a, b, 4, forwards=True, backwards=True)
    finally:
        ending.set()
        changing.join()
    for end in (a, b):
        end.namespace.ip(f"link set {end.interface} mtu 1420")
    a.ping(b, more="-M do -s 1392")
