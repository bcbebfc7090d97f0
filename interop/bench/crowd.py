"""Many peers that start at once, each from an address of its own, and try again as real ones do.

    10.81.0.1 ... 10.81.3.232, one socket ── UDP ── the implementation that is measured

Whoever is answered with a cookie, as there is load, uses it in its next initiation, and that is due
REKEY_TIMEOUT after the one before (paper, sections 5.4.7 and 6.4).
"""

from __future__ import annotations

import hashlib
import heapq
import random
import select
import socket
import struct
import time
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
from nacl.exceptions import CryptoError

from interop.initiator import Initiator
from interop.netns import Namespace
from interop.shell import ScenarioFailed
from interop.wire import COOKIE_REPLY, RESPONSE

NETWORK = "10.81.0.0/16"
_FIRST = IPv4Address("10.81.0.1")
_ATTEMPTS = 4
_REKEY_TIMEOUT, _JITTER = 5.0, 1 / 3
# Where an initiation has its macs.
_MAC1, _MAC2 = 116, 132
_LENGTHS = {RESPONSE: 92, COOKIE_REPLY: 64}
_BUFFER = 8 << 20
# linux/socket.h and linux/in.h; Python does not name them.
_SO_RCVBUFFORCE, _IP_PKTINFO = 33, 8
_PKTINFO = struct.Struct("=I4s4s")

Address = tuple[str, int]


@dataclass(frozen=True)
class Start:
    """Seconds until all were answered, and how many were told first that there is load."""

    seconds: float
    cookies: int


@dataclass
class _Peer:
    """Where it is, and all initiations that it may need: making them is no part of the time."""

    source: bytes
    initiations: list[bytes]
    attempts: int = 0
    cookie: bytes = b""

    def next_initiation(self) -> bytes:
        message = self.initiations[self.attempts]
        self.attempts += 1
        if self.cookie:
            signed = message[:_MAC2]
            mac2 = hashlib.blake2s(signed, digest_size=16, key=self.cookie).digest()
            return signed + mac2
        return message


class Crowd:
    """Peers of one responder."""

    def __init__(self, initiators: Iterable[Initiator], responder: str) -> None:
        """`responder` is its public key (base64)."""
        self._cookie_key = hashlib.blake2s(b"cookie--" + b64decode(responder)).digest()
        self._waiting = {
            index: _Peer(
                (_FIRST + index).packed,
                [initiator.initiation(responder, index) for _ in range(_ATTEMPTS)],
            )
            for index, initiator in enumerate(initiators)
        }

    def start(self, sock: socket.socket, to: Address) -> Start:
        """Through a socket that may use all of their addresses; once.

        :raises ScenarioFailed: some are not answered, however often they try.
        """
        began = time.monotonic()
        due = [(began, index) for index in self._waiting]
        cookies = set[int]()
        while self._waiting:
            self._send_due(due, sock, to)
            patience = max(0.0, due[0][0] - time.monotonic())
            if select.select([sock], [], [], patience)[0]:
                self._consume_untrusted(sock.recv(2048), cookies)
        return Start(time.monotonic() - began, len(cookies))

    def _send_due(self, due: list[tuple[float, int]], sock: socket.socket, to: Address) -> None:
        while due[0][0] <= time.monotonic():
            _, index = heapq.heappop(due)
            peer = self._waiting.get(index)
            if peer is None:
                continue
            if peer.attempts == _ATTEMPTS:
                raise ScenarioFailed(f"{len(self._waiting)} peers were not answered")
            source = (socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(0, peer.source, bytes(4)))
            sock.sendmsg([peer.next_initiation()], [source], 0, to)
            again = time.monotonic() + _REKEY_TIMEOUT + random.uniform(0, _JITTER)
            heapq.heappush(due, (again, index))

    def _consume_untrusted(self, message: bytes, cookies: set[int]) -> None:
        kind = message[0] if message else 0
        if len(message) != _LENGTHS.get(kind):
            return
        index = int.from_bytes(message[8:12] if kind == RESPONSE else message[4:8], "little")
        peer = self._waiting.get(index)
        if peer is None:
            return
        if kind == RESPONSE:
            del self._waiting[index]
        else:
            peer.cookie = self._open_cookie(peer, message)
            cookies.add(index)

    def _open_cookie(self, peer: _Peer, message: bytes) -> bytes:
        mac1 = peer.initiations[peer.attempts - 1][_MAC1:_MAC2]
        try:
            return crypto_aead_xchacha20poly1305_ietf_decrypt(
                message[32:], mac1, message[8:32], self._cookie_key
            )
        except CryptoError:
            raise ScenarioFailed("a cookie reply that does not answer the initiation") from None


def crowd_socket(here: Namespace, gateway: str, there: Namespace) -> socket.socket:
    """A socket that may send from, and receives for, all addresses of a crowd.

    `there` reaches them by `gateway`, an address of `here`.
    """
    here.ip(f"route add local {NETWORK} dev lo")
    there.ip(f"route add {NETWORK} via {gateway}")
    sock = here.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # What comes while all is sent has to wait.
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    return sock
