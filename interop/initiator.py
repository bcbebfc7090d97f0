"""Many initiators at once: handshake initiations that a responder accepts (paper, section 5.4.2).

For measuring responders only: what they answer is counted, not opened.
"""

from __future__ import annotations

import hashlib
import hmac
import select
import socket
import struct
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
_IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
_RESPONSE = struct.Struct("<I4xI")
# TAI is ahead of UTC by so much, and its labels begin at 2^62.
_TAI64_EPOCH = (1 << 62) + 10


@dataclass(frozen=True)
class Initiator:
    """One peer that exists only as a key pair."""

    private: X25519PrivateKey

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    @property
    def public_text(self) -> str:
        return b64encode(self.public).decode()

    def initiation(self, responder: str, index: int) -> bytes:
        """A fresh initiation to `responder` (base64), 148 bytes."""
        theirs = b64decode(responder)
        there = X25519PublicKey.from_public_bytes(theirs)
        ephemeral = X25519PrivateKey.generate()
        public = ephemeral.public_key().public_bytes_raw()
        chain = _hash(_CONSTRUCTION)
        transcript = _hash(_hash(chain, _IDENTIFIER), theirs)
        chain = _derive(chain, public)[0]
        transcript = _hash(transcript, public)
        chain, key = _derive(chain, ephemeral.exchange(there))
        static = ChaCha20Poly1305(key).encrypt(bytes(12), self.public, transcript)
        transcript = _hash(transcript, static)
        chain, key = _derive(chain, self.private.exchange(there))
        stamp = ChaCha20Poly1305(key).encrypt(bytes(12), _tai64n(), transcript)
        body = b"\1\0\0\0" + struct.pack("<I", index) + public + static + stamp
        mac_key = hashlib.blake2s(b"mac1----" + theirs).digest()
        return body + hashlib.blake2s(body, digest_size=16, key=mac_key).digest() + bytes(16)


def new_initiators(count: int) -> list[Initiator]:
    return [Initiator(X25519PrivateKey.generate()) for _ in range(count)]


def responses_per_second(sock: socket.socket, initiations: list[bytes], window: int) -> float:
    """Send all through a connected UDP socket, at most `window` unanswered; how fast they were.

    `initiations[k]` has the index k + 1. Unanswered ones are given up after a second of silence.
    """
    waiting: set[int] = set()
    answered, sent = 0, 0
    started = time.monotonic()
    last = started
    while answered < len(initiations):
        while sent < len(initiations) and len(waiting) < window:
            sock.send(initiations[sent])
            sent += 1
            waiting.add(sent)
        if not select.select([sock], [], [], 1.0)[0]:
            break
        message = sock.recv(2048)
        if len(message) == 92:
            kind, index = _RESPONSE.unpack_from(message)
            if kind == 2 and index in waiting:
                waiting.discard(index)
                answered += 1
                last = time.monotonic()
    return answered / (last - started) if answered else 0.0


def _hash(*parts: bytes) -> bytes:
    return hashlib.blake2s(b"".join(parts)).digest()


def _derive(chain: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """KDF2."""
    root = hmac.digest(chain, secret, "blake2s")
    first = hmac.digest(root, b"\1", "blake2s")
    return first, hmac.digest(root, first + b"\2", "blake2s")


def _tai64n() -> bytes:
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return struct.pack(">QI", _TAI64_EPOCH + seconds, nanoseconds)
