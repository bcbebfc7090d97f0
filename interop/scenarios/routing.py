"""Cryptokey routing: who may say what, and where packets go."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack

from interop.counterparts.base import Implementation
from interop.echoes import Echoes
from interop.keys import new_key_pair
from interop.netns import Lab, add_address
from interop.scenarios.registry import scenario
from interop.shell import expect
from interop.tunnel import End, ends, tunnel, wait_for_handshake
from interop.wire import DATA, INITIATION, RESPONSE, Capture, capture

_NOTICED = 20.0
"""Seconds within which two ends must have found a common session: 15, and a retry."""


@scenario()
def foreign_source(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Left sends from an inner address that right does not grant it: right delivers nothing.

    left 10.90.0.1, 10.90.0.66 ── session ── right (allowed: 10.90.0.1 only)
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    add_address(a.namespace, a.interface, "10.90.0.66/24")
    inner = Capture(b.namespace, b.interface)
    answered = _answers(a, f"ping -n -c 3 -i 0.2 -W 1 -I 10.90.0.66 {b.inner()}")
    inner.close()
    expect(not answered, "right answered an address that is not left's")
    expect(not inner.frames, "right delivered a packet whose source is not left's")
    a.ping(b)


@scenario()
def unknown_peer(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Right does not know left: it stays silent on the wire.

    left ──── initiation ────> right (no such peer)
    """
    a, b = ends(lab, left, right)
    a.add_peer(b, 4)
    with capture(b.namespace, lab.directory) as wire:
        expect(not a.reaches(b, within=2), "an echo from right, which does not know left")
        expect(wire.messages(INITIATION), "left did not initiate")
        answers = [m for m in wire.messages() if m.source == b.outer()]
        expect(not answers, f"right answered a stranger: types {[m.kind for m in answers]}")


@scenario()
def peer_removed(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Right forgets left under traffic and falls silent at once; known again, both speak.

    left ══ echoes, 5 a second ══ right
    left ── data, initiations ──x right                 wg set peer L remove
    left ══ echoes, 5 a second ══ right, who initiates   wg set peer L endpoint …
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    wait_for_handshake(a, b)
    with ExitStack() as running:
        Echoes(running, a, b)
        b.configure(f"peer {a.keys.public} remove")
        time.sleep(0.5)  # what was on its way when it happened
        with capture(b.namespace, lab.directory) as wire:
            wire.wait_for("left's traffic", DATA, a.outer(), 10, count=10)
        said = [m.kind for m in wire.messages(source=b.outer())]
        expect(not said, f"right spoke to a peer that was removed: types {said}")
        b.add_peer(a, 4)
        b.ping(a, within=12)
        a.ping(b, within=12)


@scenario()
def private_key_changes(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Left takes another private key: the old session ends; once right knows it, a new begins.

    left (key 1) ══ echoes, 5 a second ══ right
    left (key 2) ── x ─────────────────── right (knows key 1)
    left (key 2) ══ echoes, 5 a second ══ right (knows key 2)
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    wait_for_handshake(a, b)
    with ExitStack() as running:
        Echoes(running, a, b)
        old, a.keys = a.keys, new_key_pair()
        a.configure("private-key /dev/stdin", stdin=a.keys.private)
        expect(not a.reaches(b, within=2), "the session outlived its private key")
        b.configure(f"peer {old.public} remove")
        b.add_peer(a)
        a.ping(b, within=12)
        b.ping(a)


@scenario()
def allowed_ips_move(lab: Lab, left: Implementation, right: Implementation) -> None:
    """A prefix moves to another peer and back under traffic: packets follow, then return.

    left ══ echoes, 5 a second ══ right         10.90.0.2/32 at right
    left ── (a peer that is not there)          moved: nothing reaches right
    left ══ echoes, 5 a second ══ right         moved back: right answers again
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    other = new_key_pair().public
    with ExitStack() as running:
        Echoes(running, a, b)
        for _ in range(3):
            a.configure(f"peer {other} allowed-ips {b.inner()}/32")
            expect(not a.reaches(b, within=1), "a prefix has two owners")
            expect(a.show("allowed-ips", b) == f"{b.inner(6)}/128", "right kept what it lost")
            a.ping(b, 6)
            a.configure(f"peer {b.keys.public} allowed-ips {b.inner()}/32,{b.inner(6)}/128")
            a.ping(b)


@scenario()
def simultaneous_initiation(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Both ends begin at the same moment, three times: echoes pass both ways each time.

    left ──── initiation ────>  <──── initiation ──── right

    Where neither response is of use any more, the retry after 5 s comes through; where the two
    ends took different sessions, they notice after 15 s.
    """
    a, b = tunnel(lab, left, right)
    b.add_peer(a, 4)
    for _ in range(3):
        for end, peer in ((a, b), (b, a)):
            end.configure(f"peer {peer.keys.public} remove")
            end.add_peer(peer, 4)
        go = threading.Barrier(2)
        failures: list[str] = []

        def begin(end: End, peer: End, go: threading.Barrier, failures: list[str]) -> None:
            go.wait()
            deadline = time.monotonic() + _NOTICED
            while not end.reaches(peer):
                if time.monotonic() > deadline:
                    failures.append(end.implementation.name)
                    return

        threads = [
            threading.Thread(target=begin, args=(*p, go, failures)) for p in ((a, b), (b, a))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expect(not failures, f"no answer to {failures} after a crossing of initiations")


@scenario()
def replayed_messages(lab: Lab, left: Implementation, right: Implementation) -> None:
    """All that left ever sent is sent once more: no answer, nothing delivered, nothing counted.

    left ── initiation, data … ──> right
    (the same once more, from left's own address and port)
    """
    a, b = tunnel(lab, left, right)
    with capture(b.namespace, lab.directory) as wire:
        for _ in range(5):
            a.ping(b)
    sent = [m for m in wire.messages() if m.source == a.outer()]
    time.sleep(0.5)
    received = b.show("transfer", a).split()[0]
    inner = Capture(b.namespace, b.interface)
    with (
        capture(b.namespace, lab.directory) as wire,
        a.namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw,
    ):
        for message in sent:
            header = b"".join(
                value.to_bytes(2, "big")
                for value in (message.source_port, 51820, 8 + len(message.payload), 0)
            )
            raw.sendto(header + message.payload, (b.outer(), 0))
        time.sleep(1)
    inner.close()
    expect(not inner.frames, "a replayed packet was delivered")
    expect(not wire.messages(RESPONSE), "a replayed initiation was answered")
    expect(b.show("transfer", a).split()[0] == received, "replayed packets were counted as data")
    a.ping(b)


def _answers(end: End, words: str) -> bool:
    """Whether a command inside succeeds."""
    return end.namespace.run("sh", "-c", f"{words} >/dev/null && echo yes || true") == "yes\n"
