"""Handshake, data, preshared keys."""

from __future__ import annotations

from interop.counterparts.base import Implementation
from interop.keys import new_preshared_key
from interop.netns import Lab
from interop.scenarios.registry import scenario
from interop.shell import expect
from interop.tunnel import End, ends, tunnel, wait_for_handshake
from interop.wire import COOKIE_REPLY, DATA, INITIATION, RESPONSE, capture

_MARK = "77677079706c61696e74657874"
"""The text `wgpyplaintext`: ping repeats it through its payload."""


@scenario()
def handshake(lab: Lab, left: Implementation, right: Implementation) -> None:
    """A first packet makes left initiate; the wire shows exactly what the paper says.

    left ──── initiation (148) ───> right
         <──── response (92) ──────
         ──── data (confirms) ────>
         <─────── data ────────────
    """
    a, b = tunnel(lab, left, right)
    with capture(b.namespace, lab.directory) as wire:
        a.ping(b)
        wait_for_handshake(a, b)
        b.ping(a)
    first, *_ = wire.messages()
    expect(first.kind == INITIATION and first.source == a.outer(), "left did not speak first")
    initiations, responses = wire.messages(INITIATION), wire.messages(RESPONSE)
    expect(len(initiations) == 1, f"{len(initiations)} initiations instead of one")
    expect(len(responses) == 1, f"{len(responses)} responses instead of one")
    expect(len(first.payload) == 148, f"an initiation of {len(first.payload)} bytes")
    expect(len(responses[0].payload) == 92, f"a response of {len(responses[0].payload)} bytes")
    expect(not wire.messages(COOKIE_REPLY), "a cookie reply without load")
    expect(not first.has_mac2 and not responses[0].has_mac2, "mac2 without a cookie")
    for message in wire.messages(DATA):
        length = len(message.payload)
        expect(length % 16 == 0, f"data of {length} bytes: not padded to 16")


@scenario()
def data_over_v4(lab: Lab, left: Implementation, right: Implementation) -> None:
    """IPv4 and IPv6 inside IPv4, several sizes; nothing of it readable on the wire.

    left ══ v4 or v6 (ping, 0 to 1372 bytes) ══ right
         ──────────── UDP over v4 ────────────
    """
    _data(lab, left, right, outer=4)


@scenario()
def data_over_v6(lab: Lab, left: Implementation, right: Implementation) -> None:
    """IPv4 and IPv6 inside IPv6, several sizes; nothing of it readable on the wire.

    left ══ v4 or v6 (ping, 0 to 1372 bytes) ══ right
         ──────────── UDP over v6 ────────────
    """
    _data(lab, left, right, outer=6)


def _data(lab: Lab, left: Implementation, right: Implementation, outer: int) -> None:
    a, b = tunnel(lab, left, right, outer)
    with capture(b.namespace, lab.directory) as wire:
        for inner in (4, 6):
            for size in (0, 1, 16, 100, 1372):
                a.ping(b, inner, f"-s {size} -p {_MARK}")
                b.ping(a, inner, f"-s {size} -p {_MARK}")
    seen = {message.source for message in wire.messages(DATA)}
    expect(seen == {a.outer(outer), b.outer(outer)}, f"outer v{outer}, but data from {seen}")
    expect(not wire.holds(bytes.fromhex(_MARK)), "an inner packet went in the clear")


@scenario()
def psk_present(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The same preshared key at both ends: the handshake completes.

    left (psk K) ──── handshake, data ──── right (psk K)
    """
    a, b = ends(lab, left, right)
    psk = new_preshared_key()
    b.add_peer(a, psk=psk)
    a.add_peer(b, 4, psk=psk)
    a.ping(b)
    b.ping(a)
    wait_for_handshake(a, b)


@scenario()
def psk_mismatch(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Different preshared keys: no session, no data; once they agree, both work.

    left (psk K) ──── initiation ────> right (psk L)
         x<──── response (refused) ───
    left (psk K) ──── handshake, data ──── right (psk K)
    """
    _mismatch(lab, left, right, new_preshared_key())


@scenario()
def psk_at_one_end(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Only left has a preshared key: no session, no data; once right has it too, both work.

    left (psk K) ──── initiation ────> right (none)
         x<──── response (refused) ───
    left (psk K) ──── handshake, data ──── right (psk K)
    """
    _mismatch(lab, left, right, None)


def _mismatch(lab: Lab, left: Implementation, right: Implementation, at_right: str | None) -> None:
    a, b = ends(lab, left, right)
    psk = new_preshared_key()
    b.add_peer(a, psk=at_right)
    a.add_peer(b, 4, psk=psk)
    with capture(b.namespace, lab.directory) as wire:
        expect(not a.reaches(b, within=3), "data passed although the preshared keys differ")
        expect(wire.messages(RESPONSE), "right cannot know yet that the keys differ, and answers")
        expect(not wire.messages(DATA), "data on the wire although the preshared keys differ")
    _no_handshake(a, b)
    b.configure(f"peer {a.keys.public} preshared-key /dev/stdin", stdin=psk)
    a.ping(b, within=15)
    wait_for_handshake(a, b)


def _no_handshake(a: End, b: End) -> None:
    for end, peer in ((a, b), (b, a)):
        name = end.implementation.name
        expect(end.handshake_time(peer) == 0, f"{name} reports a handshake that failed")
