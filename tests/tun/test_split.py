"""Super-packets of the host are cut as a network card would cut them."""

import contextlib
import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tun.packets import (
    ACK,
    CWR,
    ECE,
    FIN,
    PSH,
    TCP,
    UDP,
    Packet,
    internet_sum,
    options_header,
    put16,
)
from tun import BadSuperPacket, finish_checksum, plan, virtio

_STAMP = b"\x01\x01\x08\x0a" + bytes(range(8))

KINDS: dict[str, Callable[[bytes], Packet]] = {
    "tcp4": lambda payload: Packet(payload),
    "tcp4 with timestamps": lambda payload: Packet(payload, tcp_options=_STAMP),
    "tcp4 with IP options": lambda payload: Packet(payload, ip_options=b"\x94\x04\0\0"),
    "tcp6": lambda payload: Packet(payload, version=6, tcp_options=_STAMP),
    "tcp6 behind a hop-by-hop header": lambda payload: Packet(
        payload, version=6, extension=options_header(TCP)
    ),
    "udp4": lambda payload: Packet(payload, protocol=UDP),
    "udp6": lambda payload: Packet(payload, version=6, protocol=UDP),
    "udp6 behind a hop-by-hop header": lambda payload: Packet(
        payload, version=6, protocol=UDP, extension=options_header(UDP, 16)
    ),
}


def payload_of(size: int) -> bytes:
    return bytes(k * 7 % 251 for k in range(size))


def split(header: bytes, packet: bytes, step: int = 128, stride: int = 0) -> list[bytes]:
    """All segments, `step` at a time, in rows full of rubbish."""
    made = plan(memoryview(header), memoryview(packet))
    width = max(made.segment_size, made.last_size)
    slab = np.full((step, width + stride), 0xEE, np.uint8)
    found = []
    for first in range(0, made.count, step):
        count = min(step, made.count - first)
        made.fill(slab[:, stride:], first, count)
        sizes = [made.segment_size] * count
        if first + count == made.count:
            sizes[-1] = made.last_size
        found += [slab[k, stride : stride + size].tobytes() for k, size in enumerate(sizes)]
    return found


def expected(packet: Packet, size: int) -> list[bytes]:
    return [segment.encode() for segment in packet.segments(size)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("payload", "size"), [(4104, 1368), (4103, 1368), (1369, 1368), (65_000, 1367), (100, 101)]
)
def test_segments_are_those_of_the_reference(kind: str, payload: int, size: int) -> None:
    packet = KINDS[kind](payload_of(payload))
    assert split(packet.virtio(size), packet.partial()) == expected(packet, size)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    payload=st.binary(min_size=1, max_size=3000),
    size=st.integers(8, 1400),
    step=st.sampled_from([1, 2, 7, 128]),
    stride=st.sampled_from([0, 16, 33]),
    flags=st.integers(0, 255),
    seq=st.integers(2**32 - 4000, 2**32 - 1) | st.integers(0, 2**32 - 1),
    ident=st.integers(0xFFF0, 0xFFFF) | st.integers(0, 0xFFFF),
    tos=st.integers(0, 255),
)
def test_any_super_packet_is_cut_as_the_reference_cuts_it(
    kind: str,
    payload: bytes,
    size: int,
    step: int,
    stride: int,
    flags: int,
    seq: int,
    ident: int,
    tos: int,
) -> None:
    packet = replace(KINDS[kind](payload), flags=flags, seq=seq, ident=ident, tos=tos)
    assert split(packet.virtio(size), packet.partial(), step, stride) == expected(packet, size)


def test_only_the_last_segment_has_fin_and_psh_and_only_the_first_has_cwr() -> None:
    packet = Packet(payload_of(300), flags=ACK | FIN | PSH | CWR | ECE)
    flags = [segment[33] for segment in split(packet.virtio(100), packet.partial())]
    assert flags == [ACK | ECE | CWR, ACK | ECE, ACK | ECE | FIN | PSH]


def test_the_ipv4_id_counts_up_and_wraps() -> None:
    packet = Packet(payload_of(300), ident=0xFFFE)
    found = split(packet.virtio(100), packet.partial())
    assert found == expected(packet, 100)
    assert [struct.unpack_from(">H", segment, 4)[0] for segment in found] == [0xFFFE, 0xFFFF, 0]


def test_a_udp_checksum_that_comes_out_as_zero_is_sent_as_ffff() -> None:
    # The last two bytes of each segment make its sum 0xffff.
    plain = Packet(bytes(100), protocol=UDP)
    rest = 0xFFFF - internet_sum(struct.pack(">H", plain.pseudo_sum()) + plain.l4())
    packet = Packet((bytes(98) + struct.pack(">H", rest)) * 2, protocol=UDP)
    found = split(packet.virtio(100), packet.partial())
    assert [segment[26:28] for segment in found] == [b"\xff\xff", b"\xff\xff"]


def test_a_tcp_checksum_that_comes_out_as_zero_is_sent_as_zero() -> None:
    plain = Packet(bytes(100))
    rest = 0xFFFF - internet_sum(struct.pack(">H", plain.pseudo_sum()) + plain.l4())
    packet = Packet(bytes(98) + struct.pack(">H", rest))
    (found,) = split(packet.virtio(200), packet.partial())
    assert found[36:38] == b"\0\0"


def test_the_ecn_kind_of_super_packet_is_taken() -> None:
    packet = Packet(payload_of(300), flags=ACK | CWR)
    header = packet.virtio(100, virtio.GSO_TCPV4 | virtio.GSO_ECN)
    assert split(header, packet.partial()) == expected(packet, 100)


def test_the_header_length_of_the_host_is_not_believed() -> None:
    packet = Packet(payload_of(300))
    header = virtio.unpack(packet.virtio(100))._replace(hdr_len=300).pack()
    assert split(header, packet.partial()) == expected(packet, 100)


def test_nothing_is_written_beyond_the_segment_size() -> None:
    packet = Packet(payload_of(250))
    made = plan(memoryview(packet.virtio(100)), memoryview(packet.partial()))
    slab = np.full((5, 200), 0xEE, np.uint8)
    made.fill(slab[1:4, 16:], 0, made.count)
    assert (slab[[0, 4]] == 0xEE).all()
    assert (slab[:, :16] == 0xEE).all()
    assert (slab[:, 16 + made.segment_size :] == 0xEE).all()


_GOOD = Packet(payload_of(300))
_BAD = {
    "a kind never asked for": {"gso_type": virtio.GSO_UDP},
    "an unknown kind": {"gso_type": 77},
    "no partial checksum": {"flags": 0},
    "the checksum of another protocol": {"csum_offset": 6},
    "segments of no bytes": {"gso_size": 0},
    "IPv6 said, IPv4 found": {"gso_type": virtio.GSO_TCPV6},
    "a checksum before the transport header": {"csum_start": 10},
    "a checksum behind the end": {"csum_start": 400},
}


@pytest.mark.parametrize("change", _BAD)
def test_a_wrong_virtio_header_is_refused(change: str) -> None:
    header = virtio.unpack(_GOOD.virtio(100))._replace(**_BAD[change]).pack()
    with pytest.raises(BadSuperPacket):
        plan(memoryview(header), memoryview(_GOOD.partial()))


_WRONG = {
    "a first fragment": replace(_GOOD, fragment=0x2000).partial(),
    "a later fragment": replace(_GOOD, fragment=0x0010).partial(),
    "an IPv4 header of 16 bytes": b"\x44" + _GOOD.partial()[1:],
    "a TCP header of 16 bytes": _GOOD.partial()[:32] + b"\x40" + _GOOD.partial()[33:],
    "a TCP header longer than the packet": _GOOD.partial()[:32] + b"\xf0" + bytes(20),
    "another protocol": _GOOD.partial()[:9] + b"\x11" + _GOOD.partial()[10:],
    "IPv5": b"\x55" + _GOOD.partial()[1:],
    "no payload": replace(_GOOD, payload=b"").partial(),
}


@pytest.mark.parametrize("packet", _WRONG)
def test_a_packet_that_is_no_super_packet_is_refused(packet: str) -> None:
    with pytest.raises(BadSuperPacket):
        plan(memoryview(_GOOD.virtio(100)), memoryview(_WRONG[packet]))


def test_a_chain_of_ipv6_headers_that_leads_elsewhere_is_refused() -> None:
    packet = Packet(payload_of(300), version=6, extension=options_header(UDP))
    with pytest.raises(BadSuperPacket):
        plan(memoryview(packet.virtio(100)), memoryview(packet.partial()))


def test_segments_longer_than_an_ip_packet_are_refused() -> None:
    packet = Packet(bytes(65_530))
    with pytest.raises(BadSuperPacket):
        plan(memoryview(packet.virtio(65_530)), memoryview(packet.partial()))


def test_one_segment_needs_no_more_room_than_it_has_bytes() -> None:
    packet = Packet(payload_of(300))
    made = plan(memoryview(packet.virtio(1400)), memoryview(packet.partial()))
    assert (made.count, made.segment_size, made.last_size) == (1, 340, 340)
    assert split(packet.virtio(1400), packet.partial()) == [packet.encode()]


@pytest.mark.parametrize("size", range(40))
def test_a_super_packet_that_ends_within_its_headers_is_refused(size: int) -> None:
    with pytest.raises(BadSuperPacket):
        plan(memoryview(_GOOD.virtio(100)), memoryview(_GOOD.partial()[:size]))


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_damaged_super_packet_is_refused_or_split_within_bounds(data: st.DataObject) -> None:
    packet = KINDS[data.draw(st.sampled_from(sorted(KINDS)))](payload_of(500))
    whole = bytearray(packet.virtio(100) + packet.partial())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, packet.header_length() + 9))
        whole[at] = data.draw(st.integers(0, 255))
    whole = whole[: data.draw(st.integers(10, len(whole)))]
    try:
        found = split(bytes(whole[:10]), bytes(whole[10:]))
    except BadSuperPacket:
        return
    assert all(len(segment) <= 0xFFFF for segment in found)


@settings(max_examples=300, deadline=None)
@given(header=st.binary(min_size=10, max_size=10), packet=st.binary(max_size=200))
def test_random_bytes_are_refused_or_finished_within_bounds(header: bytes, packet: bytes) -> None:
    for work in (
        lambda: split(header, packet),
        lambda: finish_checksum(memoryview(header), memoryview(bytearray(packet))),
    ):
        with contextlib.suppress(BadSuperPacket):
            work()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 3, 1001])
def test_a_partial_checksum_is_finished(kind: str, size: int) -> None:
    packet = KINDS[kind](payload_of(size))
    view = memoryview(bytearray(packet.partial()))
    finish_checksum(memoryview(packet.virtio()), view)
    assert view == packet.encode()


def test_a_partial_checksum_that_comes_out_as_zero_becomes_ffff() -> None:
    plain = Packet(bytes(2), protocol=UDP)
    rest = 0xFFFF - internet_sum(struct.pack(">H", plain.pseudo_sum()) + plain.l4())
    packet = Packet(struct.pack(">H", rest), protocol=UDP)
    view = memoryview(bytearray(packet.partial()))
    finish_checksum(memoryview(packet.virtio()), view)
    assert view == put16(packet.partial(), 26, 0xFFFF)


def test_a_partial_checksum_out_of_bounds_is_refused() -> None:
    packet = bytearray(_GOOD.partial()[:37])
    with pytest.raises(BadSuperPacket):
        finish_checksum(memoryview(_GOOD.virtio()), memoryview(packet))
