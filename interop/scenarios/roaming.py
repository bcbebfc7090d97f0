"""Either end moves; forged packets move nobody."""

from __future__ import annotations

import os
import socket
import struct

from interop.counterparts.base import Implementation
from interop.netns import Lab, add_address
from interop.scenarios.registry import scenario
from interop.shell import expect, wait_until
from interop.tunnel import PORT, End, ends_on_a_switch, tunnel
from interop.wire import DATA, capture

_MOVED = {4: "10.80.0.1{n}", 6: "fd80::1{n}"}


@scenario()
def roaming_over_v4(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Left's address changes, then its port, then right's address: the other follows each time.

    left 10.80.0.1  ──> 10.80.0.11 ──> :51999
    right 10.80.0.2 ─────────────────> 10.80.0.12
    """
    _roam(lab, left, right, outer=4)


@scenario()
def roaming_over_v6(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The same over IPv6.

    left fd80::1  ──> fd80::11 ──> :51999
    right fd80::2 ───────────────> fd80::12
    """
    _roam(lab, left, right, outer=6)


def _roam(lab: Lab, left: Implementation, right: Implementation, outer: int) -> None:
    a, b = tunnel(lab, left, right, outer)
    a.ping(b)
    _follows(b, a, a.endpoint(outer))
    moved = _move(a, outer)
    _speaks(a, b)
    _follows(b, a, _endpoint(moved, PORT))
    b.ping(a)
    a.configure("listen-port 51999")
    a.ping(b)
    _follows(b, a, _endpoint(moved, 51999))
    b.ping(a)
    moved = _move(b, outer)
    _speaks(b, a)
    _follows(a, b, _endpoint(moved, PORT))
    a.ping(b)


@scenario()
def from_v4_to_v6_and_back(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Left is told right's other address while the tunnel stands: no echo is lost.

    left ── session over v4 ── right
    left: wg set peer R endpoint [fd80::2]:51820
    left ── the same session over v6 ── right          and back, three times
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    for outer in (6, 4) * 3:
        a.configure(f"peer {b.keys.public} endpoint {b.endpoint(outer)}")
        a.ping(b)
        _follows(b, a, a.endpoint(outer))
        b.ping(a)


def _speaks(mover: End, peer: End) -> None:
    """The mover gets through again (`source_address_disappears` is stricter)."""
    wait_until(f"{mover.implementation.name} gets through", lambda: mover.reaches(peer), 20)


@scenario()
def source_address_disappears(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The address that left's packets came from goes away: the very next packet takes another.

    left 10.80.0.1, 10.80.0.11 ── session ── right
    left            10.80.0.11 ── the same session, no echo lost ── right       over v4, v6
    """
    for outer in (4, 6):
        with Lab(lab.directory) as room:
            a, b = tunnel(room, left, right, outer)
            a.ping(b)
            _move(a, outer)
            a.ping(b)
            b.ping(a)


def _move(end: End, version: int) -> str:
    """The outer address goes and another comes; returns the new one."""
    bits = 24 if version == 4 else 64
    new = _MOVED[version].format(n=end.number)
    add_address(end.namespace, "eth0", f"{new}/{bits}")
    end.namespace.ip(f"address delete {end.outer(version)}/{bits} dev eth0")
    if version == 4 and new not in end.namespace.ip("-4 address show dev eth0"):
        add_address(end.namespace, "eth0", f"{new}/{bits}")  # went with its primary address
    return new


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _follows(end: End, peer: End, endpoint: str) -> None:
    wait_until(
        f"{end.implementation.name} follows to {endpoint}",
        lambda: end.show("endpoints", peer) == endpoint,
        5,
    )


@scenario()
def forged_packets_move_nobody(lab: Lab, left: Implementation, right: Implementation) -> None:
    """A stranger who read the receiver index sends data of its own, and replays left's.

    left ─────┐
              ├── bridge ── right: its endpoint for left stays 10.80.0.1
    stranger ─┘   (10.80.0.9)
    """
    stranger = lab.namespace("stranger")
    a, b = ends_on_a_switch(lab, left, right, stranger)
    add_address(stranger, "eth0", "10.80.0.9/24")
    b.add_peer(a)
    a.add_peer(b, 4)
    with capture(b.namespace, lab.directory) as wire:
        a.ping(b)
        a.ping(b)
        real = wire.wait_for("data from left", DATA, a.outer(), 5, count=2)
    forged = struct.pack("<IIQ", 4, real.receiver, 1000) + os.urandom(48)
    with stranger.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for datagram in (forged, real.payload, real.payload[:-1], forged[:31]) * 50:
            out.sendto(datagram, (b.outer(), PORT))
    b.ping(a)
    endpoint = b.show("endpoints", a)
    expect(endpoint == f"{a.outer()}:{PORT}", f"right was led to {endpoint}")
