"""The suite's reader of captured frames."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from interop.netns import Namespace
from interop.wire import COOKIE_REPLY, DATA, INITIATION, Capture, _message_untrusted

_ETHERNET = bytes(12)


def _udp(payload: bytes) -> bytes:
    return struct.pack(">HHHH", 1111, 2222, 8 + len(payload), 0) + payload


def _v4(payload: bytes, traffic_class: int = 0) -> bytes:
    udp = _udp(payload)
    head = struct.pack(">BBHIBBH", 0x45, traffic_class, 20 + len(udp), 0, 61, 17, 0)
    return _ETHERNET + b"\x08\x00" + head + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + udp


def _v6(payload: bytes, traffic_class: int = 0) -> bytes:
    udp = _udp(payload)
    head = struct.pack(">IHBB", 6 << 28 | traffic_class << 20, len(udp), 17, 62)
    addresses = bytes(15) + b"\1" + bytes(15) + b"\2"
    return _ETHERNET + b"\x86\xdd" + head + addresses + udp


def test_a_datagram_over_v4_is_read_with_its_addresses_ports_and_class() -> None:
    message = _message_untrusted(0.0, _v4(b"\4\0\0\0" + bytes(28), traffic_class=0x8B))
    assert message is not None
    assert (message.source, message.destination) == ("10.0.0.1", "10.0.0.2")
    assert (message.source_port, message.destination_port) == (1111, 2222)
    assert (message.traffic_class, message.hop_limit, message.kind) == (0x8B, 61, DATA)
    assert not message.dont_fragment


def test_a_datagram_over_v6_is_read_with_its_addresses_ports_and_class() -> None:
    message = _message_untrusted(0.0, _v6(b"\3\0\0\0" + bytes(60), traffic_class=0x8B))
    assert message is not None
    assert (message.source, message.destination) == ("::1", "::2")
    assert (message.traffic_class, message.hop_limit, message.kind) == (0x8B, 62, COOKIE_REPLY)


def test_mac2_of_an_initiation_is_seen_in_its_last_sixteen_bytes_only() -> None:
    plain = _message_untrusted(0.0, _v4(b"\1\0\0\0" + b"x" * 128 + bytes(16)))
    cookie = _message_untrusted(0.0, _v4(b"\1\0\0\0" + b"x" * 128 + bytes(15) + b"\1"))
    assert plain is not None
    assert cookie is not None
    assert (plain.kind, plain.has_mac2, cookie.has_mac2) == (INITIATION, False, True)


def test_reserved_bytes_that_are_set_are_no_message() -> None:
    assert _message_untrusted(0.0, _v4(b"\4\0\0\1" + bytes(28))) is None


@given(st.binary(max_size=200))
def test_any_frame_is_read_without_an_exception(frame: bytes) -> None:
    _message_untrusted(0.0, frame)
    for header in (_v4(b""), _v6(b"")):
        _message_untrusted(0.0, header[: 14 + len(frame) % 60] + frame)


class _Busy:
    """As much of a namespace and its socket as a capture uses; packets come all the time."""

    def __init__(self, readable: int) -> None:
        self.fileno = lambda: readable

    def socket(self, *_: int) -> _Busy:
        return self

    def recv(self, _: int) -> bytes:
        time.sleep(0.001)
        return b"frame"

    def setsockopt(self, *_: int) -> None: ...
    def bind(self, *_: object) -> None: ...
    def close(self) -> None: ...


@contextmanager
def _readable() -> Iterator[int]:
    """A descriptor that is readable, and stays so."""
    reading, writing = os.pipe()
    os.close(writing)
    yield reading
    os.close(reading)


def test_a_capture_ends_where_packets_never_do() -> None:
    with _readable() as descriptor:
        capture = Capture(cast(Namespace, _Busy(descriptor)))
        capture.close()
    assert capture.frames[0][1] == b"frame"
