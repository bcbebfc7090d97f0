"""Under load: cookies."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from base64 import b64decode
from typing import Self

from interop.counterparts.base import Implementation
from interop.netns import Lab, Namespace, add_address
from interop.relay import ADDRESS
from interop.scenarios.loss import LoseFirst, through_a_relay
from interop.scenarios.registry import scenario
from interop.shell import ScenarioFailed, expect, wait_until
from interop.tunnel import PORT, End, ends_on_a_switch, wait_for_handshake
from interop.wire import COOKIE_REPLY, INITIATION, RESPONSE, capture

_UDP_SEGMENT = 103
_IN_ONE_CALL = 64
_BURST = 20
"""Calls in one burst: 1280 initiations, more than the handshake queues of any kind hold."""
_PAUSE = 0.3
"""Seconds between bursts: the load is held up, and a real initiation finds room between."""
_WORK = 80
"""A slow (emulated) machine pauses this many times what one burst costs to make."""
_ATTEMPTS = 12
_RETRY = 5.0


@scenario(alone=True)
def cookie_under_load(lab: Lab, left: Implementation, right: Implementation) -> None:
    """A stranger floods right with initiations whose mac1 is right; left still gets its session.

    stranger ─── initiations, mac1 valid ──┐
                                           ├── bridge ── right (under load)
    left ──── initiation ──────────────────┤
         <─── cookie reply ────────────────┤
         ──── initiation with mac2 ────────┤
         <─── response ────────────────────┘
    """
    stranger = lab.namespace("stranger")
    a, b = ends_on_a_switch(lab, left, right, stranger)
    add_address(stranger, "eth0", "10.80.0.9/24")
    b.add_peer(a)
    a.add_peer(b, 4)
    with capture(a.namespace, lab.directory) as wire, Flood(stranger, b):
        for _ in range(_ATTEMPTS):
            reached = a.reaches(b, within=5)
            asked = bool(wire.messages(COOKIE_REPLY, b.outer()))
            if reached and asked:
                break
            if not asked:  # it slipped in between two bursts: once more
                a.configure(f"peer {b.keys.public} remove")
                a.add_peer(b, 4)
        cookies = wire.messages(COOKIE_REPLY, b.outer())
        expect(cookies, "right never sent a cookie reply to left")
        expect(len(cookies[0].payload) == 64, f"a cookie reply of {len(cookies[0].payload)} bytes")
        with_cookie = [message for message in wire.messages(INITIATION) if message.has_mac2]
        expect(with_cookie, "left got a cookie and sent no initiation with mac2")
        expect(with_cookie[0].at > cookies[0].at, "mac2 before the cookie came")
        answers = [m for m in wire.messages(RESPONSE) if m.at > with_cookie[0].at]
        expect(answers, "right did not answer the initiation that carried mac2")
    wait_for_handshake(a, b)
    b.ping(a)


@scenario(alone=True)
def lost_cookie_reply(lab: Lab, left: Implementation, right: Implementation) -> None:
    """Right is flooded, and its first cookie reply to left is lost: left asks again and gets in.

    stranger ─── initiations, mac1 valid ───────────> right (under load)
    left ──── initiation ────────> relay ───────────> right
                               x── relay <── cookie ──
         ──── initiation, 5 s later ────────────────> right, and so on as under load
    """
    with (
        through_a_relay(lab, left, right) as (a, b, relay),
        capture(a.namespace, lab.directory) as wire,
    ):
        relay.policy = loss = LoseFirst(COOKIE_REPLY)
        with Flood(relay.namespace, b):
            for _ in range(_ATTEMPTS):
                a.reaches(b, within=3)
                if loss.lost:
                    break
                a.configure(f"peer {b.keys.public} remove")  # it slipped in between two bursts
                a.add_peer(b)
                a.configure(f"peer {b.keys.public} endpoint {ADDRESS}:{PORT}")
            expect(loss.lost, "right never sent a cookie reply to left")
            wait_until("left gets in", lambda: a.reaches(b), 30)
        wait_for_handshake(a, b)
        b.ping(a)
    *_, before, last = (message.at for message in wire.messages(INITIATION, a.outer()))
    expect(last - before > _RETRY - 0.1, f"initiated again after {last - before:.2f} s, not 5")


class Flood:
    """Initiations that only mac1 tells from noise, in bursts, until the block ends."""

    def __init__(self, source: Namespace, target: End) -> None:
        self._socket = source.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 148)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        self._socket.connect((target.outer(), PORT))
        started = time.monotonic()
        self._calls = [
            b"".join(_initiation(target.keys.public) for _ in range(_IN_ONE_CALL))
            for _ in range(_BURST)
        ]
        self._pause = max(_PAUSE, _WORK * (time.monotonic() - started))
        self._ending = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                for call in self._calls:
                    self._socket.send(call)
                self._ending.wait(self._pause)
        except OSError as error:
            self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join()
        self._socket.close()
        if self._error is not None:
            raise ScenarioFailed(f"the flood could not be sent: {self._error}")


def _initiation(responder: str) -> bytes:
    """Random where it is encrypted, with mac1 for the responder's public key (paper, 5.4.4)."""
    body = b"\1\0\0\0" + os.urandom(112)
    key = hashlib.blake2s(b"mac1----" + b64decode(responder)).digest()
    return body + hashlib.blake2s(body, digest_size=16, key=key).digest() + bytes(16)
