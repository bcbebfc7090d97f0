"""Peers that start at once: told that there is load, they come again with their cookie."""

from __future__ import annotations

import os
import socket
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest

from interop.bench import crowd
from interop.bench.crowd import Crowd
from interop.initiator import new_initiators
from interop.shell import ScenarioFailed
from wgpy.protocol.config import Endpoint
from wgpy.protocol.cookie import CookieChecker, source_bytes

_PEERS = 40
_TIMEOUT = 0.5


class _Responder:
    """Answers a fifth at once and a fifth the second time; of the others it wants a cookie."""

    def __init__(self, checker: CookieChecker) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.silent = False
        self.attempts = Counter[int]()
        self.sources = set[str]()
        self._checker = checker

    def run(self) -> None:
        while message := self.sock.recvfrom(2048):
            data, address = message
            if not data:
                return
            assert self._checker.check_mac1(data)
            self.sources.add(address[0])
            if answer := self._answer(data, source_bytes(Endpoint(*address))):
                self.sock.sendto(answer, address)

    def _answer(self, message: bytes, source: bytes) -> bytes:
        index = int.from_bytes(message[4:8], "little")
        self.attempts[index] += 1
        response = b"\2\0\0\0" + bytes(4) + message[4:8] + bytes(80)
        if self.silent:
            return b""
        match index % 5:
            case 0:
                return response
            case 1:
                return response if self.attempts[index] == 2 else b""
        now = time.monotonic()
        if self._checker.check_mac2(message, source, now):
            return response
        return self._checker.create_reply(message, source, now)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers on the loopback, and not as patient as real ones."""
    monkeypatch.setattr(crowd, "_FIRST", IPv4Address("127.81.0.1"))
    monkeypatch.setattr(crowd, "_REKEY_TIMEOUT", _TIMEOUT)
    monkeypatch.setattr(crowd, "_JITTER", 0.02)


@contextmanager
def _responding() -> Iterator[tuple[_Responder, Crowd, socket.socket]]:
    key = os.urandom(32)
    responder = _Responder(CookieChecker(key, os.urandom))
    thread = threading.Thread(target=responder.run, daemon=True)
    thread.start()
    with responder.sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            yield responder, Crowd(new_initiators(_PEERS), b64encode(key).decode()), sock
        finally:
            sock.sendto(b"", responder.sock.getsockname())
            thread.join(10)


@pytest.mark.usefixtures("soon")
def test_each_tries_until_it_is_answered_and_no_longer() -> None:
    with _responding() as (responder, peers, sock):
        start = peers.start(sock, responder.sock.getsockname())
    # Indices 2, 3 and 4 of each five.
    assert start.cookies == _PEERS * 3 // 5
    assert _TIMEOUT <= start.seconds < 2 * _TIMEOUT
    assert responder.attempts == {k: 1 + (k % 5 > 0) for k in range(_PEERS)}
    assert len(responder.sources) == _PEERS


@pytest.mark.usefixtures("soon")
def test_who_never_answers_is_no_result() -> None:
    with _responding() as (responder, peers, sock):
        responder.silent = True
        with pytest.raises(ScenarioFailed, match="40 peers were not answered"):
            peers.start(sock, responder.sock.getsockname())
    assert set(responder.attempts.values()) == {4}
