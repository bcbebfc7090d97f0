"""The three handshake messages on the wire (sections 5.4.2, 5.4.3 and 5.4.7)."""

from dataclasses import dataclass
from struct import Struct
from typing import Any

from wgpy.protocol.constants import (
    COOKIE_REPLY_LEN,
    INITIATION_LEN,
    MAC_LEN,
    MESSAGE_COOKIE_REPLY,
    MESSAGE_INITIATION,
    MESSAGE_RESPONSE,
    RESPONSE_LEN,
)

# Type and three reserved zero bytes are one little-endian number; then sender, receiver, fields.
INITIATION = Struct("<II32s48s28s16s16s")
RESPONSE = Struct("<III32s16s16s16s")
COOKIE_REPLY = Struct("<II24s32s")
MACS_LEN = 2 * MAC_LEN


class MessageError(ValueError):
    """Bytes that are not the message they are taken for."""


@dataclass(frozen=True, slots=True)
class Initiation:
    """First message."""

    sender_index: int
    unencrypted_ephemeral: bytes
    encrypted_static: bytes
    encrypted_timestamp: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """Second message."""

    sender_index: int
    receiver_index: int
    unencrypted_ephemeral: bytes
    encrypted_nothing: bytes


@dataclass(frozen=True, slots=True)
class CookieReply:
    """A cookie for the sender of a message, encrypted for its mac1."""

    receiver_index: int
    nonce: bytes
    encrypted_cookie: bytes


def parse_initiation_untrusted(message: bytes) -> Initiation:
    """Raises MessageError."""
    fields = _unpack(INITIATION, MESSAGE_INITIATION, message)
    return Initiation(*fields[:4])


def parse_response_untrusted(message: bytes) -> Response:
    """Raises MessageError."""
    fields = _unpack(RESPONSE, MESSAGE_RESPONSE, message)
    return Response(*fields[:4])


def parse_cookie_reply_untrusted(message: bytes) -> CookieReply:
    """Raises MessageError."""
    return CookieReply(*_unpack(COOKIE_REPLY, MESSAGE_COOKIE_REPLY, message))


def _unpack(layout: Struct, kind: int, message: bytes) -> tuple[Any, ...]:
    if len(message) != layout.size:
        raise MessageError(f"{len(message)} bytes are not the {layout.size} of message {kind}")
    word, *fields = layout.unpack(message)
    if word != kind:
        raise MessageError(f"type and reserved bytes {word:#010x} are not {kind}")
    return tuple(fields)


assert (INITIATION.size, RESPONSE.size, COOKIE_REPLY.size) == (
    INITIATION_LEN,
    RESPONSE_LEN,
    COOKIE_REPLY_LEN,
)
