"""One end of a session in the suite's own hands: it may send what no implementation would.

    Speaker (keys of left, any clock, any counter) ── UDP ── right, an implementation

Only what a scenario needs: it initiates, without a preshared key, and sends echo requests.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import struct
import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from interop.initiator import Begun, Initiator, derive, hash_
from interop.shell import ScenarioFailed, expect
from interop.tunnel import PORT, End
from interop.wire import DATA, RESPONSE

_NO_PRESHARED_KEY = bytes(32)
_ECHO_REQUEST, _ECHO_REPLY = 8, 0


@dataclass
class Session:
    """The keys of a session that we initiated."""

    remote_index: int
    sending: ChaCha20Poly1305
    receiving: ChaCha20Poly1305

    def seal(self, counter: int, packet: bytes) -> bytes:
        """A data message that carries `packet`, padded to 16 bytes."""
        padded = packet + bytes(-len(packet) % 16)
        header = struct.pack("<IIQ", DATA, self.remote_index, counter)
        return header + self.sending.encrypt(_nonce(counter), padded, None)

    def open(self, message: bytes) -> bytes | None:
        """What a data message carries; None if it is not of this session."""
        counter = int(struct.unpack_from("<Q", message, 8)[0])
        try:
            return self.receiving.decrypt(_nonce(counter), message[16:], None)
        except InvalidTag:
            return None


class Speaker:
    """Speaks as `me`, whose own implementation should be silent meanwhile, to `peer`."""

    _indices = itertools.count(1)

    def __init__(self, me: End, peer: End) -> None:
        self._me, self._peer = me, peer
        self._initiator = Initiator(X25519PrivateKey.from_private_bytes(b64decode(me.keys.private)))
        self._socket = me.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        me.lab.callback(self._socket.close)
        self._socket.connect((peer.outer(), PORT))
        self._session: Session | None = None

    def shakes_hands(self, at_ns: int | None = None, within: float = 2) -> bool:
        """Whether the peer answers an initiation that claims to be of that time, or of now."""
        now = time.time_ns() if at_ns is None else at_ns
        begun = self._initiator.begin(self._peer.keys.public, next(Speaker._indices), now)
        self._socket.send(begun.message)
        for message in self._messages(within):
            if message[0] == RESPONSE and message[8:12] == struct.pack("<I", begun.index):
                self._session = consume_response(self._initiator, begun, message)
                return True
        return False

    def echoes(self, counter: int, within: float = 2) -> bool:
        """Whether an echo request with this counter is answered.

        :raises ScenarioFailed: there is no session, or the answer is not padded with zeros.
        """
        if self._session is None:
            raise ScenarioFailed("no session to speak in")
        number = counter & 0xFFFF
        answer = (1, _ECHO_REPLY, number.to_bytes(2, "big"))
        me, peer = self._me.inner(), self._peer.inner()
        self._socket.send(self._session.seal(counter, _echo(me, peer, number)))
        for message in self._messages(within):
            packet = self._session.open(message) if message[0] == DATA else None
            if packet and (packet[9], packet[20], packet[26:28]) == answer:
                padding = packet[int.from_bytes(packet[2:4], "big") :]
                expect(not any(padding), "what fills a packet up to 16 bytes is not zero")
                return True
        return False

    def _messages(self, within: float) -> Iterator[bytes]:
        """What the peer sends until `within` s have passed."""
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                with contextlib.suppress(ConnectionRefusedError):
                    yield self._socket.recv(2048)


def _nonce(counter: int) -> bytes:
    return bytes(4) + counter.to_bytes(8, "little")


def consume_response(initiator: Initiator, begun: Begun, message: bytes) -> Session:
    """Paper, section 5.4.3, from the initiator's side.

    :raises ScenarioFailed: the response does not prove that its sender knows the keys.
    """
    remote = message[12:44]
    there = X25519PublicKey.from_public_bytes(remote)
    transcript = hash_(begun.transcript, remote)
    chain, _ = derive(begun.chain, remote)
    chain, _ = derive(chain, begun.ephemeral.exchange(there))
    chain, _ = derive(chain, initiator.private.exchange(there))
    chain, tau, key = derive(chain, _NO_PRESHARED_KEY, 3)
    try:
        nothing = hash_(transcript, tau)
        ChaCha20Poly1305(key).decrypt(bytes(12), message[44:60], nothing)
    except InvalidTag:
        raise ScenarioFailed("a response that its sender could not have made") from None
    sending, receiving = derive(chain, b"")
    index = int.from_bytes(message[4:8], "little")
    return Session(index, ChaCha20Poly1305(sending), ChaCha20Poly1305(receiving))


def _echo(source: str, destination: str, number: int) -> bytes:
    """An echo request over IPv4."""
    icmp = _with_checksum(struct.pack(">BBHHH", _ECHO_REQUEST, 0, 0, 1, number) + bytes(24), 2)
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    length = 20 + len(icmp)
    header = struct.pack(">BBHHHBBH", 0x45, 0, length, 0, 0, 64, 1, 0) + addresses
    return _with_checksum(header, 10) + icmp


def _with_checksum(data: bytes, at: int) -> bytes:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return b"".join((data[:at], (~total & 0xFFFF).to_bytes(2, "big"), data[at + 2 :]))
