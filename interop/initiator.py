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
class Begun:
    """A handshake whose initiation was made: what its response is opened with."""

    message: bytes
    index: int
    ephemeral: X25519PrivateKey
    chain: bytes
    transcript: bytes


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
        return self.begin(responder, index, time.time_ns()).message

    def begin(self, responder: str, index: int, at_ns: int) -> Begun:
        """A fresh initiation to `responder` (base64) of a time (since 1970), and its secrets."""
        theirs = b64decode(responder)
        there = X25519PublicKey.from_public_bytes(theirs)
        ephemeral = X25519PrivateKey.generate()
        public = ephemeral.public_key().public_bytes_raw()
        chain = hash_(_CONSTRUCTION)
        transcript = hash_(hash_(chain, _IDENTIFIER), theirs)
        chain = derive(chain, public)[0]
        transcript = hash_(transcript, public)
        chain, key = derive(chain, ephemeral.exchange(there))
        static = ChaCha20Poly1305(key).encrypt(bytes(12), self.public, transcript)
        transcript = hash_(transcript, static)
        chain, key = derive(chain, self.private.exchange(there))
        stamp = ChaCha20Poly1305(key).encrypt(bytes(12), _tai64n(at_ns), transcript)
        body = b"\1\0\0\0" + struct.pack("<I", index) + public + static + stamp
        mac_key = hashlib.blake2s(b"mac1----" + theirs).digest()
        mac = hashlib.blake2s(body, digest_size=16, key=mac_key).digest()
        return Begun(body + mac + bytes(16), index, ephemeral, chain, hash_(transcript, stamp))


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


def hash_(*parts: bytes) -> bytes:
    """The paper's HASH of the parts together."""
    return hashlib.blake2s(b"".join(parts)).digest()


def derive(chain: bytes, secret: bytes, count: int = 2) -> list[bytes]:
    """The paper's KDF: `count` keys of 32 bytes, the first of which is the next chaining key."""
    root, keys = hmac.digest(chain, secret, "blake2s"), [b""]
    for number in range(1, count + 1):
        keys.append(hmac.digest(root, keys[-1] + bytes([number]), "blake2s"))
    return keys[1:]


def _tai64n(at_ns: int) -> bytes:
    seconds, nanoseconds = divmod(at_ns, 10**9)
    return struct.pack(">QI", _TAI64_EPOCH + seconds, nanoseconds)
