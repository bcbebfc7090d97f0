"""Sections 5.4.2, 5.4.3 and 5.4.7: where each field lies on the wire, and what is no message."""

from collections.abc import Callable
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.protocol.messages import (
    MessageError,
    parse_cookie_reply_untrusted,
    parse_initiation_untrusted,
    parse_response_untrusted,
)

# Type, size, parser, and (field, offset, length) as the paper draws them; indices little endian.
_INITIATION = (
    1,
    148,
    parse_initiation_untrusted,
    (
        ("sender_index", 4, 4),
        ("unencrypted_ephemeral", 8, 32),
        ("encrypted_static", 40, 48),
        ("encrypted_timestamp", 88, 28),
    ),
)
_RESPONSE = (
    2,
    92,
    parse_response_untrusted,
    (
        ("sender_index", 4, 4),
        ("receiver_index", 8, 4),
        ("unencrypted_ephemeral", 12, 32),
        ("encrypted_nothing", 44, 16),
    ),
)
_COOKIE_REPLY = (
    3,
    64,
    parse_cookie_reply_untrusted,
    (("receiver_index", 4, 4), ("nonce", 8, 24), ("encrypted_cookie", 32, 32)),
)
Fields = tuple[tuple[str, int, int], ...]
each_message = pytest.mark.parametrize(
    ("kind", "size", "parse", "fields"),
    [_INITIATION, _RESPONSE, _COOKIE_REPLY],
    ids=["initiation", "response", "cookie-reply"],
)


@each_message
@given(data=st.data())
def test_every_field_is_read_from_its_place(
    kind: int, size: int, parse: Callable[[bytes], object], fields: Fields, data: st.DataObject
) -> None:
    message = bytes([kind, 0, 0, 0]) + data.draw(st.binary(min_size=size - 4, max_size=size - 4))
    parsed = parse(message)
    for name, offset, length in fields:
        raw = message[offset : offset + length]
        expected = int.from_bytes(raw, "little") if name.endswith("index") else raw
        assert getattr(parsed, name) == expected
    assert len(astuple(parsed)) == len(fields)  # type: ignore[call-overload]


@each_message
def test_every_truncation_and_every_longer_message_is_refused(
    kind: int, size: int, parse: Callable[[bytes], object], fields: Fields
) -> None:
    whole = bytes([kind, 0, 0, 0]) + bytes(2000)
    parse(whole[:size])
    for length in range(2004):
        if length != size:
            with pytest.raises(MessageError, match=str(length)):
                parse(whole[:length])


@each_message
def test_every_other_type_and_reserved_byte_is_refused(
    kind: int, size: int, parse: Callable[[bytes], object], fields: Fields
) -> None:
    for position in range(4):
        for value in range(256):
            message = bytearray([kind, 0, 0, 0]).ljust(size, b"x")
            if message[position] == value:
                continue
            message[position] = value
            with pytest.raises(MessageError):
                parse(bytes(message))
