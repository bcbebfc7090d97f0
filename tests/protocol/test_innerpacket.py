"""What is read of inner packets, and the ICMP errors about them."""

import struct
from ipaddress import ip_address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim import A4, A6, B4, B6, packet, pair
from wgpy.protocol.drops import DropReason
from wgpy.protocol.innerpacket import (
    check_batch,
    decapsulate_ecn,
    destination,
    inner_length_untrusted,
    source,
)
from wgpy.protocol.unreachable import Unreachables


@st.composite
def _headers(draw: st.DrawFn) -> bytes:
    """Something like an IP packet, or not."""
    size = draw(st.integers(0, 120))
    data = bytearray(draw(st.binary(min_size=size, max_size=size)))
    if data:
        data[0] = draw(st.sampled_from([0x45, 0x46, 0x60, 0x65, 0x00, 0x50]))
    if size >= 6 and draw(st.booleans()):
        at = 2 if data[0] >> 4 == 4 else 4
        length = draw(st.sampled_from([0, 19, 20, size - 40, size - 1, size, size + 1, 65535]))
        data[at : at + 2] = (max(0, length) & 0xFFFF).to_bytes(2, "big")
    return bytes(data)


@given(st.lists(_headers(), min_size=1, max_size=10), st.integers(0, 120))
def test_lengths_by_column_are_those_of_one_by_one(packets: list[bytes], last: int) -> None:
    size = max(map(len, packets))
    rows = np.zeros((len(packets), max(size, 40)), np.uint8)
    for row, data in zip(rows, packets, strict=True):
        row[: len(data)] = list(data)
    last = min(last, size)
    lengths, valid, v4 = check_batch(rows, size, last)
    for k, row in enumerate(rows):
        whole = row.tobytes()[: last if k == len(rows) - 1 else size]
        length = inner_length_untrusted(memoryview(whole))
        assert bool(valid[k]) is (length > 0)
        if length:
            assert lengths[k] == length
            assert bool(v4[k]) is (whole[0] >> 4 == 4)


@given(st.binary(max_size=100))
def test_any_bytes_have_a_length_and_a_destination_or_none(data: bytes) -> None:
    view = memoryview(data)
    assert 0 <= inner_length_untrusted(view) <= len(data)
    where = destination(view)
    assert where is None or len(where) in (4, 16)


@pytest.mark.parametrize(("src", "dst"), [(A4, B4), (A6, B6)])
def test_addresses_are_read(src: str, dst: str) -> None:
    view = memoryview(packet(src, dst))
    assert source(view) == ip_address(src).packed
    assert destination(view) == ip_address(dst).packed


def _sum_of_header(data: bytes | bytearray) -> int:
    total: int = sum(struct.unpack(">10H", data[:20]))
    return (total & 0xFFFF) + (total >> 16)


@pytest.mark.parametrize("ends", [(A4, B4), (A6, B6)])
@pytest.mark.parametrize("outer", range(4))
@pytest.mark.parametrize("inner", range(4))
def test_a_congestion_mark_is_carried_inward_as_the_kernel_does(
    ends: tuple[str, str], outer: int, inner: int
) -> None:
    data = bytearray(packet(*ends, tos=0xB8 | inner))
    before = bytes(data)
    decapsulate_ecn(outer, memoryview(data))
    if outer == 3 and inner != 0:
        assert (data[1] if ends == (A4, B4) else data[1] >> 4) & 3 == 3
    else:
        assert bytes(data) == before
    if ends == (A4, B4):
        assert data[1] >> 2 == 0xB8 >> 2
        assert _sum_of_header(data) == 0xFFFF


@pytest.mark.parametrize("ends", [(A4, B4), (A6, B6)])
@pytest.mark.parametrize("mark", range(4))
def test_the_outer_class_says_only_whether_the_packet_can_bear_a_mark(
    ends: tuple[str, str], mark: int
) -> None:
    wire, alice, bob = pair()
    alice.ping(bob, *ends)
    alice.send(packet(*ends, tos=0xB8 | mark))
    wire.run(0.1)
    # As the kernel, which sends what is marked already as ECT(0).
    assert wire.sent(4, alice)[-1].tos == (mark if mark < 3 else 2)


# Unreachable errors.


def _answer(data: bytes, now: float = 0.0) -> bytes | None:
    errors = Unreachables()
    errors.source_v4 = ip_address(A4).packed
    errors.source_v6 = ip_address(A6).packed
    return errors.answer(memoryview(data), now)


def test_an_icmp_error_quotes_the_packet_and_is_well_formed() -> None:
    data = packet(A4, "10.9.9.9", 1400)
    answer = _answer(data)
    assert answer is not None
    assert len(answer) == 576
    assert struct.unpack(">H", answer[2:4])[0] == 576
    assert _sum_of_header(answer) == 0xFFFF
    assert answer[12:20] == ip_address(A4).packed * 2
    assert answer[20:22] == bytes([3, 1])
    total = sum(struct.unpack(f">{(576 - 20) // 2}H", answer[20:]))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert answer[28:] == data[: 576 - 28]


def test_an_icmpv6_error_quotes_the_packet_and_is_well_formed() -> None:
    data = packet(A6, "fd00::99", 1400)
    answer = _answer(data)
    assert answer is not None
    assert len(answer) == 1280
    assert answer[6] == 58
    assert answer[40:42] == bytes([1, 3])
    pseudo = answer[8:40] + struct.pack(">II", 1240, 58)
    total = sum(struct.unpack(f">{(40 + 1240) // 2}H", pseudo + answer[40:]))
    total = (total & 0xFFFF) + (total >> 16)
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert answer[48:] == data[: 1280 - 48]


def _icmp(kind: int, *, v6: bool = False) -> bytes:
    data = bytearray(packet(*((A6, "fd00::99") if v6 else (A4, "10.9.9.9")), 100))
    data[6 if v6 else 9] = 58 if v6 else 1
    data[40 if v6 else 20] = kind
    return bytes(data)


def test_errors_are_not_answered_but_echoes_are() -> None:
    for kind in (3, 4, 5, 11, 12):
        assert _answer(_icmp(kind)) is None
    assert _answer(_icmp(8)) is not None
    for kind in (1, 2, 3, 4, 127):
        assert _answer(_icmp(kind, v6=True)) is None
    assert _answer(_icmp(128, v6=True)) is not None


@pytest.mark.parametrize(
    ("src", "dst"),
    [
        ("0.0.0.0", "10.9.9.9"),
        ("224.0.0.1", "10.9.9.9"),
        ("255.255.255.255", "10.9.9.9"),
        (A4, "224.0.0.251"),
        (A4, "255.255.255.255"),
        ("::", "fd00::99"),
        ("ff02::1", "fd00::99"),
        (A6, "ff02::fb"),
    ],
)
def test_nobody_and_everybody_get_no_answer(src: str, dst: str) -> None:
    assert _answer(packet(src, dst)) is None


def test_later_fragments_get_no_answer() -> None:
    data = bytearray(packet(A4, "10.9.9.9"))
    data[6:8] = (100).to_bytes(2, "big")
    assert _answer(bytes(data)) is None


def test_answers_are_rate_limited_in_all_and_for_each_target() -> None:
    errors = Unreachables()
    errors.source_v4 = ip_address(A4).packed
    own = memoryview(packet(A4, "10.9.9.9"))
    assert sum(errors.answer(own, 0.0) is not None for _ in range(100)) == 50
    assert sum(errors.answer(own, 0.1) is not None for _ in range(100)) == 50
    other = memoryview(packet("10.0.0.77", "10.9.9.9"))
    assert sum(errors.answer(other, 10.0) is not None for _ in range(20)) == 6
    assert sum(errors.answer(other, 11.0) is not None for _ in range(20)) == 1


# Routing loops.


def test_our_own_datagram_that_comes_back_through_the_interface_is_dropped() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    alice.peer(bob, "0.0.0.0/0")
    for looped in (wire.sent(4, alice)[-1], wire.sent(1, alice)[-1]):
        inner = bytearray(packet("192.0.2.1", "192.0.2.2", 28 + len(looped.payload)))
        inner[9] = 17
        inner[20:28] = struct.pack(">HHHH", 51820, 51820, 8 + len(looped.payload), 0)
        inner[28:] = looped.payload
        count = len(wire.log)
        alice.send(bytes(inner))
        if looped.type == 4:
            assert len(wire.log) == count
            assert alice.drops[DropReason.ROUTING_LOOP] >= 1


def test_other_udp_to_the_same_host_is_no_loop() -> None:
    _wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    alice.peer(bob, "0.0.0.0/0")
    bob.peer(alice, "192.0.2.1/32")
    inner = bytearray(packet("192.0.2.1", "192.0.2.2", 200))
    inner[9] = 17
    inner[20:28] = struct.pack(">HHHH", 4000, 51820, 180, 0)
    before = len(bob.received)
    alice.send(bytes(inner))
    _wire.run(0.1)
    assert len(bob.received) == before + 1
