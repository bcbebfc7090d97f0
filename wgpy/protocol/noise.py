"""Noise IKpsk2: the handshake of sections 5.4.1 to 5.4.5, without sockets or clocks."""

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from wgpy.protocol.config import ZERO_KEY, Secret
from wgpy.protocol.constants import (
    CONSTRUCTION,
    IDENTIFIER,
    LABEL_COOKIE,
    LABEL_MAC1,
    MESSAGE_INITIATION,
    MESSAGE_RESPONSE,
    MIN_INITIATION_INTERVAL,
    TIMESTAMP_WHITENER_NS,
)
from wgpy.protocol.crypto import (
    AuthenticationError,
    dh,
    dh_generate,
    hash_,
    kdf1,
    kdf2,
    kdf3,
    open_,
    seal,
)
from wgpy.protocol.messages import INITIATION, RESPONSE, Initiation, Response

_CHAINING_KEY = hash_(CONSTRUCTION)
_HASH = hash_(_CHAINING_KEY, IDENTIFIER)
_NO_MAC = bytes(16)
_TAI64_EPOCH = 2**62 + 10


class NoiseError(Exception):
    """A handshake message that is not accepted; `reason` says why in a word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Identity:
    """A private key, and what follows from it."""

    def __init__(self, private: Secret) -> None:
        self.private = private
        self.public = dh_generate(private)
        self.mac1_key = hash_(LABEL_MAC1, self.public)
        self.cookie_key = hash_(LABEL_COOKIE, self.public)

    def __repr__(self) -> str:
        return f"Identity({self.public.hex()[:8]})"


class SessionKeys(NamedTuple):
    """What a handshake ends with (section 5.4.5)."""

    send_key: bytes
    receive_key: bytes
    is_initiator: bool
    local_index: int
    remote_index: int

    def __repr__(self) -> str:
        return f"SessionKeys({self.local_index:#x}, {self.remote_index:#x})"


@dataclass(frozen=True, slots=True, repr=False)
class OpenedInitiation:
    """An initiation that was made for us, as far as it can be checked without its peer."""

    remote_static: bytes
    remote_ephemeral: bytes
    sender_index: int
    encrypted_timestamp: bytes
    chaining_key: bytes
    hash: bytes


@dataclass(frozen=True, slots=True, repr=False)
class AcceptedInitiation:
    """An initiation whose sender is proved to be the peer, now, and not a replay."""

    remote_ephemeral: bytes
    sender_index: int
    chaining_key: bytes
    hash: bytes


@dataclass(frozen=True, slots=True, repr=False)
class _CreatedInitiation:
    """Our initiation, as far as its response needs it."""

    sender_index: int
    ephemeral_private: bytes
    chaining_key: bytes
    hash: bytes


def tai64n(unix_ns: int) -> bytes:
    """TAI64N label of a time, rounded down so that it tells little of the sender's clock."""
    seconds, nanoseconds = divmod(unix_ns, 10**9)
    nanoseconds -= nanoseconds % TIMESTAMP_WHITENER_NS
    return (_TAI64_EPOCH + seconds).to_bytes(8, "big") + nanoseconds.to_bytes(4, "big")


def open_initiation_untrusted(identity: Identity, message: Initiation) -> OpenedInitiation:
    """Find out who sent an initiation. Raises NoiseError."""
    chaining_key, transcript = kdf1(_CHAINING_KEY, message.unencrypted_ephemeral), _HASH
    transcript = hash_(transcript, identity.public)
    transcript = hash_(transcript, message.unencrypted_ephemeral)
    chaining_key, key = kdf2(chaining_key, _dh(identity.private, message.unencrypted_ephemeral))
    remote_static = _open(key, message.encrypted_static, transcript)
    return OpenedInitiation(
        remote_static,
        message.unencrypted_ephemeral,
        message.sender_index,
        message.encrypted_timestamp,
        chaining_key,
        hash_(transcript, message.encrypted_static),
    )


def _dh(private: bytes, public: bytes) -> bytes:
    shared = dh(private, public)
    if shared is None:
        raise NoiseError("low-order-point")
    return shared


def _open(key: bytes, ciphertext: bytes, transcript: bytes) -> bytes:
    try:
        return open_(key, 0, ciphertext, transcript)
    except AuthenticationError:
        raise NoiseError("bad-tag") from None


class Handshake:
    """The handshakes with one peer: at most one of ours is in flight, and theirs are answered.

    DEVIATION: answering leaves ours alone, so that two initiations that cross both succeed. The
    kernel forgets its own, and waits for REKEY_TIMEOUT when both sides do.
    """

    def __init__(
        self, identity: Identity | None, remote_static: bytes, preshared_key: Secret = ZERO_KEY
    ) -> None:
        self.remote_static = remote_static
        self.preshared_key = preshared_key
        # The newest timestamp that the peer has proved, 12 bytes.
        self.latest_timestamp = bytes(12)
        self._last_consumed = -inf
        self._created: _CreatedInitiation | None = None
        self._identity: Identity | None = None
        self._static_static: bytes | None = None
        self.set_identity(identity)

    def set_identity(self, identity: Identity | None) -> None:
        """Another private key of ours: what is in flight is void."""
        self.clear()
        self._identity = identity
        self._static_static = None if identity is None else dh(identity.private, self.remote_static)

    @property
    def possible(self) -> bool:
        """Whether both sides' static keys are such that a handshake can succeed."""
        return self._static_static is not None

    @property
    def local_index(self) -> int | None:
        """The index of our initiation in flight."""
        return self._created.sender_index if self._created is not None else None

    def clear(self) -> None:
        """Forget our initiation in flight."""
        self._created = None

    def _secrets(self) -> tuple[Identity, bytes]:
        if self._identity is None or self._static_static is None:
            raise NoiseError("no-static-key")
        return self._identity, self._static_static

    # The initiator.

    def create_initiation(
        self, sender_index: int, ephemeral_private: bytes, timestamp: bytes
    ) -> bytearray:
        """The first message, 148 bytes, macs still zero. Raises NoiseError if not `possible`."""
        identity, static_static = self._secrets()
        ephemeral = dh_generate(ephemeral_private)
        transcript = hash_(hash_(_HASH, self.remote_static), ephemeral)
        chaining_key = kdf1(_CHAINING_KEY, ephemeral)
        chaining_key, key = kdf2(chaining_key, _dh(ephemeral_private, self.remote_static))
        encrypted_static = seal(key, 0, identity.public, transcript)
        transcript = hash_(transcript, encrypted_static)
        chaining_key, key = kdf2(chaining_key, static_static)
        encrypted_timestamp = seal(key, 0, timestamp, transcript)
        transcript = hash_(transcript, encrypted_timestamp)
        self._created = _CreatedInitiation(
            sender_index, ephemeral_private, chaining_key, transcript
        )
        return bytearray(
            INITIATION.pack(
                MESSAGE_INITIATION,
                sender_index,
                ephemeral,
                encrypted_static,
                encrypted_timestamp,
                _NO_MAC,
                _NO_MAC,
            )
        )

    def consume_response(self, message: Response) -> SessionKeys:
        """The answer to our initiation. Raises NoiseError, and nothing has changed."""
        identity, _ = self._secrets()
        created = self._created
        if created is None or created.sender_index != message.receiver_index:
            raise NoiseError("no-initiation")
        remote = message.unencrypted_ephemeral
        transcript = hash_(created.hash, remote)
        chaining_key = kdf1(created.chaining_key, remote)
        chaining_key = kdf1(chaining_key, _dh(created.ephemeral_private, remote))
        chaining_key = kdf1(chaining_key, _dh(identity.private, remote))
        chaining_key, tau, key = kdf3(chaining_key, self.preshared_key)
        _open(key, message.encrypted_nothing, hash_(transcript, tau))
        self._created = None
        first, second = kdf2(chaining_key, b"")
        return SessionKeys(first, second, True, created.sender_index, message.sender_index)

    # The responder.

    def consume_initiation(self, opened: OpenedInitiation, now: float) -> AcceptedInitiation:
        """An initiation of this peer. Raises NoiseError, and nothing has changed."""
        _, static_static = self._secrets()
        chaining_key, key = kdf2(opened.chaining_key, static_static)
        timestamp = _open(key, opened.encrypted_timestamp, opened.hash)
        if timestamp <= self.latest_timestamp:
            raise NoiseError("replayed-timestamp")
        if now - self._last_consumed < MIN_INITIATION_INTERVAL:
            raise NoiseError("initiation-flood")
        self.latest_timestamp = timestamp
        self._last_consumed = now
        return AcceptedInitiation(
            opened.remote_ephemeral,
            opened.sender_index,
            chaining_key,
            hash_(opened.hash, opened.encrypted_timestamp),
        )

    def create_response(
        self, accepted: AcceptedInitiation, sender_index: int, ephemeral_private: bytes
    ) -> tuple[bytearray, SessionKeys]:
        """The second message, 92 bytes, macs still zero; and the session that it begins."""
        ephemeral = dh_generate(ephemeral_private)
        transcript = hash_(accepted.hash, ephemeral)
        chaining_key = kdf1(accepted.chaining_key, ephemeral)
        chaining_key = kdf1(chaining_key, _dh(ephemeral_private, accepted.remote_ephemeral))
        chaining_key = kdf1(chaining_key, _dh(ephemeral_private, self.remote_static))
        chaining_key, tau, key = kdf3(chaining_key, self.preshared_key)
        encrypted_nothing = seal(key, 0, b"", hash_(transcript, tau))
        message = RESPONSE.pack(
            MESSAGE_RESPONSE,
            sender_index,
            accepted.sender_index,
            ephemeral,
            encrypted_nothing,
            _NO_MAC,
            _NO_MAC,
        )
        first, second = kdf2(chaining_key, b"")
        keys = SessionKeys(second, first, False, sender_index, accepted.sender_index)
        return bytearray(message), keys
