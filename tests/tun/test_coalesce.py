"""Packets for the host are joined by the kernel's rules, and come apart again as they were."""

import struct
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tun.packets import (
    ACK,
    CWR,
    FIN,
    PSH,
    SYN,
    TCP,
    UDP,
    URG,
    Packet,
    internet_sum,
    options_header,
    put16,
    segments_of,
)
from tests.tun.test_split import KINDS, payload_of
from tun import Group, Offloads, coalesce, virtio

ALL = Offloads(True, True, True, True, True, True)
NONE = Offloads()
_STAMP = b"\x01\x01\x08\x0a" + bytes(8)


def joined(packets: list[bytes], offloads: Offloads = ALL) -> list[Group]:
    """Coalesce rows that lie in a slab between rubbish."""
    lengths = np.array([len(packet) for packet in packets])
    slab = np.full((len(packets), 16 + (int(lengths.max()) + 15) // 16 * 16), 0xEE, np.uint8)
    for row, packet in zip(slab, packets, strict=True):
        row[16 : 16 + len(packet)] = np.frombuffer(packet, np.uint8)
    return coalesce(slab[:, 16:], lengths, offloads)


def counts(packets: list[bytes], offloads: Offloads = ALL) -> list[int]:
    return [group.packets for group in joined(packets, offloads)]


def written(group: Group) -> tuple[bytes, bytes]:
    header, *pieces = group.buffers
    # As writev, this takes nothing that has gaps.
    return bytes(header), b"".join(pieces)


def apart(groups: list[Group]) -> list[bytes]:
    found = []
    for group in groups:
        segments = segments_of(*written(group))
        assert len(segments) == group.packets
        found += segments
    return found


_PLAIN = Packet(b"")


def train(count: int, packet: Packet = _PLAIN, size: int = 100) -> list[Packet]:
    """Packets that continue each other."""
    return replace(packet, payload=payload_of(count * size)).segments(size)


def encoded(packets: list[Packet]) -> list[bytes]:
    return [packet.encode() for packet in packets]


JOINED_KINDS = ["tcp4", "tcp4 with timestamps", "tcp6", "udp4", "udp6"]


@pytest.mark.parametrize("kind", JOINED_KINDS)
@pytest.mark.parametrize(("size", "last"), [(1368, 1368), (1368, 1), (1367, 1366), (9, 3), (1, 1)])
def test_a_train_of_segments_becomes_one_super_packet(kind: str, size: int, last: int) -> None:
    packet = KINDS[kind](payload_of(43 * size + last))
    segments = encoded(packet.segments(size))
    (group,) = joined(segments)
    assert group.packets == 44
    assert written(group) == (packet.virtio(size), packet.partial())


def test_a_batch_that_is_not_worth_it_goes_one_by_one_and_unchanged() -> None:
    packets = encoded(train(3))
    groups = joined(packets)
    assert [written(group) for group in groups] == [(virtio.HEADER_NONE, p) for p in packets]


@pytest.mark.parametrize("kind", JOINED_KINDS)
def test_nothing_is_joined_that_the_kernel_does_not_take(kind: str) -> None:
    packets = encoded(KINDS[kind](payload_of(800)).segments(100))
    assert [written(g) for g in joined(packets, NONE)] == [
        (virtio.HEADER_NONE, packet) for packet in packets
    ]


def test_tcp_is_joined_by_the_offload_of_its_ip_version_only() -> None:
    only4, only6 = Offloads(True, True, tso4=True), Offloads(True, True, tso6=True)
    four, six = (encoded(train(8, Packet(b"", version=version))) for version in (4, 6))
    assert counts(four, only4) == counts(six, only6) == [8]
    assert counts(four, only6) == counts(six, only4) == [1] * 8


def test_udp_is_joined_only_with_uso() -> None:
    packets = encoded(train(8, Packet(b"", protocol=UDP)))
    assert counts(packets, Offloads(True, True, True, True)) == [1] * 8


def test_psh_ends_a_super_packet() -> None:
    packets = train(10)
    packets[4] = replace(packets[4], flags=ACK | PSH)
    groups = joined(encoded(packets))
    assert [group.packets for group in groups] == [5, 5]
    assert [written(group)[1][33] for group in groups] == [ACK | PSH, ACK]


def test_a_train_that_changes_its_timestamps_becomes_two() -> None:
    later = _STAMP[:4] + b"\1" + _STAMP[5:]
    packets = train(20, Packet(b"", tcp_options=_STAMP))
    packets[8:] = [replace(packet, tcp_options=later) for packet in packets[8:]]
    groups = joined(encoded(packets))
    assert [group.packets for group in groups] == [8, 12]
    assert apart(groups) == encoded(packets)


def test_psh_on_the_last_packet_is_kept() -> None:
    packets = train(10)
    packets[9] = replace(packets[9], flags=ACK | PSH)
    (group,) = joined(encoded(packets))
    assert written(group)[1][33] == ACK | PSH


@pytest.mark.parametrize("flags", [0, PSH, ACK | SYN, ACK | FIN, ACK | URG, ACK | CWR])
@pytest.mark.parametrize("at", [0, 4, 9])
def test_a_packet_with_another_flag_goes_alone(flags: int, at: int) -> None:
    packets = train(10)
    packets[at] = replace(packets[at], flags=flags)
    expected = {0: [1, 9], 4: [4, 1, 5], 9: [9, 1]}[at]
    assert counts(encoded(packets)) == expected


_DIFFERENCES: dict[str, dict[str, Any]] = {
    "traffic class": {"tos": 3},
    "time to live": {"ttl": 63},
    "acknowledgment": {"ack": 8},
    "window": {"window": 501},
    "options": {"tcp_options": _STAMP[:8] + b"1234"},
    "fewer options": {"tcp_options": b""},
    "source port": {"source_port": 99},
    "sequence": {"seq": 99},
}


@pytest.mark.parametrize("difference", _DIFFERENCES)
@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_that_differs_is_not_joined(difference: str, version: int) -> None:
    packets = train(10, Packet(b"", version=version, tcp_options=_STAMP))
    packets[5] = replace(packets[5], **_DIFFERENCES[difference])
    assert min(counts(encoded(packets))) == 1
    assert max(counts(encoded(packets))) <= 9
    plain = encoded(packets)
    assert sorted(apart(joined(plain))) == sorted(plain)


def test_packets_with_and_without_dont_fragment_are_not_joined() -> None:
    packets = train(10)
    packets[5] = replace(packets[5], fragment=0)
    assert counts(encoded(packets)) == [5, 1, 4]


def test_a_gap_in_the_sequence_ends_a_super_packet() -> None:
    packets = train(11)
    del packets[5]
    assert counts(encoded(packets)) == [5, 5]


def test_the_sequence_may_wrap() -> None:
    assert counts(encoded(train(10, Packet(b"", seq=2**32 - 450)))) == [10]


def test_a_shorter_packet_ends_a_super_packet_and_a_longer_one_begins_one() -> None:
    sizes = [100] * 5 + [60] + [100] * 5 + [120] * 5
    packets, seq = [], 1000
    for size in sizes:
        packets.append(Packet(payload_of(size), seq=seq))
        seq += size
    groups = joined(encoded(packets))
    assert [group.packets for group in groups] == [6, 5, 5]
    assert [virtio.unpack(written(group)[0]).gso_size for group in groups] == [100, 100, 120]


def test_no_super_packet_is_longer_than_an_ip_packet_can_be() -> None:
    packets = encoded(train(64, size=1368))
    groups = joined(packets)
    assert [group.packets for group in groups] == [47, 17]
    assert all(len(written(group)[1]) <= 65535 for group in groups)


@pytest.mark.parametrize("kind", JOINED_KINDS)
@pytest.mark.parametrize("at", [0, 5, 9])
def test_a_wrong_transport_checksum_goes_alone_and_unchanged(kind: str, at: int) -> None:
    packets = encoded(KINDS[kind](payload_of(1000)).segments(100))
    packets[at] = packets[at][:-1] + bytes([packets[at][-1] ^ 1])
    groups = joined(packets)
    assert (virtio.HEADER_NONE, packets[at]) in [written(group) for group in groups]
    assert [group.packets for group in groups] == {0: [1, 9], 5: [5, 1, 4], 9: [9, 1]}[at]


def test_a_wrong_ipv4_header_checksum_goes_alone_and_unchanged() -> None:
    packets = encoded(train(10))
    packets[5] = put16(packets[5], 10, 0x1234)
    groups = joined(packets)
    assert [group.packets for group in groups] == [5, 1, 4]
    assert written(groups[1]) == (virtio.HEADER_NONE, packets[5])


def test_udp_without_a_checksum_is_not_joined() -> None:
    packets = [put16(p, 26, 0) for p in encoded(train(8, Packet(b"", protocol=UDP)))]
    assert counts(packets) == [1] * 8


@pytest.mark.parametrize("others", [0, 1])
def test_udp_without_a_checksum_is_not_joined_even_if_its_sum_is_right(others: int) -> None:
    plain = Packet(bytes(100), protocol=UDP)
    rest = 0xFFFF - internet_sum(struct.pack(">H", plain.pseudo_sum()) + plain.l4())
    right = replace(plain, payload=bytes(98) + struct.pack(">H", rest))
    packets = [put16(right.encode(), 26, 0)] * 8
    # Another one keeps the batch from being one run.
    packets += encoded([replace(right, source_port=9)] * others)
    assert counts(packets) == [1] * len(packets)


def test_fragments_keep_their_order_among_alternating_flows() -> None:
    flows = [train(4, Packet(b"", source_port=port)) for port in (1, 2)]
    mixed = [packet for packets in zip(*flows, strict=True) for packet in packets]
    mixed[3] = replace(mixed[3], fragment=0x2000)
    mixed[6] = replace(mixed[6], fragment=0x0010)
    assert apart(joined(encoded(mixed))) == encoded(mixed)


def test_a_length_that_is_not_the_ip_headers_is_not_joined() -> None:
    packets = encoded(train(8))
    packets[3] += b"xx"
    assert 1 in counts(packets)
    assert apart(joined(packets))[3] == packets[3]


@pytest.mark.parametrize(
    "packet",
    [
        Packet(b"", fragment=0x2000),
        Packet(b"", fragment=0x0010),
        Packet(b"", ip_options=b"\x94\x04\0\0"),
        Packet(b"", version=6, extension=options_header(TCP)),
    ],
    ids=["first fragment", "fragment", "IPv4 options", "IPv6 extension header"],
)
def test_what_has_no_plain_header_is_not_joined(packet: Packet) -> None:
    packets = encoded(train(8, packet))
    assert [written(group)[1] for group in joined(packets)] == packets


def test_flows_that_alternate_are_joined_each() -> None:
    flows = [train(8, Packet(b"", source_port=port, seq=port)) for port in (1, 2, 3)]
    mixed = [packet for packets in zip(*flows, strict=True) for packet in packets]
    groups = joined(encoded(mixed))
    assert [group.packets for group in groups] == [8, 8, 8]
    assert sorted(apart(groups)) == sorted(encoded(mixed))


def test_a_train_behind_a_stranger_is_joined() -> None:
    stranger = Packet(b"", tcp_options=_STAMP + b"\x05\x0a" + bytes(10), source_port=9)
    assert counts(encoded([stranger, *train(20)])) in ([1, 20], [20, 1])


@st.composite
def batches(draw: st.DrawFn) -> list[bytes]:
    """Batches of a few flows with everything that happens to them."""
    flows = [
        replace(
            KINDS[draw(st.sampled_from(sorted(KINDS)))](b""),
            source_port=draw(st.integers(1, 2)),
            seq=draw(st.sampled_from([0, 2**32 - 300])),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]
    packets: list[bytes] = []
    for _ in range(draw(st.integers(1, 40))):
        k = draw(st.integers(0, len(flows) - 1))
        flow = flows[k]
        size = draw(st.sampled_from([50, 50, 50, 50, 20, 0, 51]))
        flags = draw(st.sampled_from([ACK] * 8 + [ACK | PSH, ACK | FIN, SYN]))
        packet = replace(flow, payload=payload_of(size), flags=flags).encode()
        if draw(st.integers(0, 15)) == 0:
            at = draw(st.integers(0, len(packet) - 1))
            packet = packet[:at] + bytes([draw(st.integers(0, 255))]) + packet[at + 1 :]
        packets.append(packet)
        gap = draw(st.sampled_from([0] * 9 + [100]))
        flows[k] = replace(
            flow, seq=(flow.seq + size + gap) % 2**32, ident=(flow.ident + 1) % 2**16
        )
    return packets


def without_id(packet: bytes) -> bytes:
    """An IPv4 packet less its id and header checksum, which a super-packet has only once."""
    if packet[0] >> 4 == 4 and len(packet) >= 20:
        return packet[:4] + packet[6:10] + packet[12:]
    return packet


@settings(max_examples=300, deadline=None)
@given(packets=batches())
def test_whatever_is_joined_comes_apart_as_it_was_and_flows_keep_their_order(
    packets: list[bytes],
) -> None:
    def by_flow(found: list[bytes]) -> dict[bytes, list[bytes]]:
        flows = defaultdict(list)
        for packet in found:
            v4 = packet[0] >> 4 == 4
            start = (packet[0] & 15) * 4 if v4 else 40
            addresses = packet[12:20] if v4 else packet[8:40]
            flows[packet[9 if v4 else 6 :][:1] + addresses + packet[start : start + 4]].append(
                without_id(packet)
            )
        return flows

    assert by_flow(apart(joined(packets))) == by_flow(packets)


@settings(max_examples=200, deadline=None)
@given(packets=st.lists(st.binary(min_size=1, max_size=120), min_size=1, max_size=12))
def test_random_bytes_pass_unchanged(packets: list[bytes]) -> None:
    assert sorted(written(group)[1] for group in joined(packets)) == sorted(packets)


@pytest.mark.parametrize("width", [1, 8, 9, 20, 27, 28, 40, 42, 44, 60])
@pytest.mark.parametrize("packet", [Packet(b""), Packet(b"", version=6)], ids=["v4", "v6"])
def test_headers_that_claim_more_than_a_row_holds_go_alone(width: int, packet: Packet) -> None:
    claims = bytearray(packet.encode())
    claims[packet.l4_offset() + 12] = 0xF0
    rows = np.tile(np.frombuffer(claims[:width], np.uint8), (8, 1))
    groups = coalesce(rows.copy(), np.full(8, rows.shape[1]), ALL)
    assert [written(group)[1] for group in groups] == [bytes(claims[:width])] * 8


def test_splitting_what_was_joined_gives_the_same_packets() -> None:
    from tests.tun.test_split import split

    for kind in JOINED_KINDS:
        packets = encoded(KINDS[kind](payload_of(5000)).segments(123))
        (group,) = joined(packets)
        assert split(*written(group)) == packets


def test_the_gso_kind_is_that_of_version_and_protocol() -> None:
    kinds = {}
    for version in (4, 6):
        for protocol in (TCP, UDP):
            (group,) = joined(encoded(train(5, Packet(b"", version=version, protocol=protocol))))
            kinds[version, protocol] = struct.unpack_from("BB", written(group)[0])
    assert kinds == {(4, TCP): (1, 1), (6, TCP): (1, 4), (4, UDP): (1, 5), (6, UDP): (1, 5)}
