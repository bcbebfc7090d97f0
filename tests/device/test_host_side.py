"""The host's side of a device, on a TUN in memory."""

import errno
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim import A4, B4, packet
from tests.tun.packets import Packet
from tun import virtio
from tun.fake import FakeTun
from tun.linux import Buffer
from wgpy.device.fromhost import FromHost, Turn
from wgpy.device.steering import Steering
from wgpy.device.tohost import ToHost
from wgpy.protocol.batch import PacketBatch, PacketRows, Slab
from wgpy.protocol.constants import TRANSPORT_HEADER_LEN
from wgpy.protocol.drops import DropReason, Drops


class _Collector:
    """What FromHost sends, copied before the slab is used again."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.single_flow: list[bool] = []
        self.drops = Drops()

    def send(self, batch: PacketBatch) -> None:
        rows = []
        for k in range(batch.count):
            size = batch.last_packet_size if k == batch.count - 1 else batch.packet_size
            row = batch.layout.row(k)
            rows.append(bytes(row[TRANSPORT_HEADER_LEN : TRANSPORT_HEADER_LEN + size]))
        assert batch.last_packet_size <= batch.packet_size
        self.batches.append(rows)
        self.single_flow.append(batch.single_flow)


def _from_host(tun: FakeTun) -> tuple[FromHost, _Collector]:
    collector = _Collector()
    reader = FromHost(Steering([tun]), collector.send, collector.drops.count)
    reader.mtu = 1420
    return reader, collector


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(20, 1500), min_size=1, max_size=60))
def test_packets_of_any_sizes_are_sent_in_order_and_unchanged(sizes: list[int]) -> None:
    tun = FakeTun.open("fake0")
    reader, collector = _from_host(tun)
    packets = [packet(A4, B4, size) for size in sizes]
    for one in packets:
        tun.send(one)
    reader.turn(tun)
    assert [p for batch in collector.batches for p in batch] == packets
    tun.close()


def test_packets_of_one_size_are_one_batch_and_a_shorter_one_ends_it() -> None:
    tun = FakeTun.open("fake0")
    reader, collector = _from_host(tun)
    for size in (100, 100, 100, 60, 100, 200):
        tun.send(packet(A4, B4, size))
    reader.turn(tun)
    assert [[len(p) for p in batch] for batch in collector.batches] == [
        [100, 100, 100, 60],
        [100],
        [200],
    ]


_PAYLOADS = st.tuples(st.sampled_from([460, 500]), st.integers(1, 6000))


@settings(max_examples=200, deadline=None)
@given(st.lists(_PAYLOADS | st.sampled_from([40, 499, 500, 540]), min_size=1, max_size=30))
def test_super_packets_and_others_are_sent_in_order_and_as_segments(
    given: list[int | tuple[int, int]],
) -> None:
    tun = FakeTun.open("fake0")
    reader, collector = _from_host(tun)
    expected: list[bytes] = []
    for number, one in enumerate(given):
        if isinstance(one, int):
            expected.append(packet(A4, B4, one))
            tun.send(expected[-1])
        else:
            gso_size, size = one
            whole = Packet(bytes(size), version=4 + 2 * (number % 2), seq=number)
            expected += (segment.encode() for segment in whole.segments(gso_size))
            tun.send(whole.partial(), whole.virtio(gso_size))
    reader.turn(tun)
    assert [p for batch in collector.batches for p in batch] == expected
    assert collector.drops == {}
    tun.close()


def test_small_super_packets_of_several_flows_are_one_batch() -> None:
    tun = FakeTun.open("fake0")
    reader, collector = _from_host(tun)
    for flow, size in enumerate((1000, 1500, 500, 700, 10_000, 1000)):
        whole = Packet(bytes(size), source_port=flow)
        tun.send(whole.partial(), whole.virtio(500))
    assert reader.turn(tun) == Turn(6, 14_940, 6, False)
    assert [len(batch) for batch in collector.batches] == [2 + 3 + 1 + 2, 20, 2]
    assert collector.single_flow == [False, True, True]
    tun.close()


def test_one_that_comes_alone_leaves_before_it_is_seen_that_nothing_follows() -> None:
    tun = FakeTun.open("fake0")
    reader, collector = _from_host(tun)

    def turn(count: int) -> list[int]:
        """How many are sent together."""
        before = len(collector.batches)
        for _ in range(count):
            tun.send(packet(A4, B4, 100))
        reader.turn(tun)
        return [len(batch) for batch in collector.batches[before:]]

    assert turn(3) == [3]
    assert turn(1) == [1]
    assert turn(1) == [1]
    # This turn's first one might have been alone again; it costs a send more, once.
    assert turn(3) == [1, 2]
    assert turn(3) == [3]
    tun.close()


def test_a_turn_is_bounded() -> None:
    tun = FakeTun.open("fake0")
    reader, collector = _from_host(tun)
    for _ in range(300):
        tun.send(packet(A4, B4, 40))
    assert reader.turn(tun) == Turn(128, 128 * 40, 0, True)
    assert sum(map(len, collector.batches)) == 128
    assert reader.turn(tun) == Turn(128, 128 * 40, 0, True)
    assert reader.turn(tun) == Turn(44, 44 * 40, 0, False)
    assert sum(map(len, collector.batches)) == 300


def test_a_damaged_super_packet_is_counted_and_the_next_packet_passes() -> None:
    tun = FakeTun.open("fake0")
    reader, collector = _from_host(tun)
    header = virtio.Header(virtio.NEEDS_CSUM, virtio.GSO_TCPV4, 40, 1000, 9000, 16)
    tun.send(packet(A4, B4, 3000), header.pack())
    good = packet(A4, B4, 100)
    tun.send(good)
    reader.turn(tun)
    assert collector.drops == {DropReason.BAD_SUPER_PACKET: 1}
    assert collector.batches == [[good]]


def test_a_deleted_interface_raises() -> None:
    tun = FakeTun.open("fake0")
    reader, _ = _from_host(tun)
    tun.delete()
    with pytest.raises(OSError, match="bad state"):
        reader.turn(tun)


class _Refusing(FakeTun):
    """A TUN whose writes fail."""

    error = 0

    def write(self, buffers: Sequence[Buffer]) -> None:
        raise OSError(self.error, "refused")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EAGAIN, DropReason.TUN_FULL),
        (errno.ENOBUFS, DropReason.TUN_FULL),
        (errno.ENOMEM, DropReason.TUN_FULL),
        (errno.EIO, DropReason.TUN_ERROR),
        (errno.EINVAL, DropReason.TUN_ERROR),
    ],
)
def test_what_the_tun_refuses_is_counted_packet_by_packet(number: int, reason: DropReason) -> None:
    tun = _Refusing.open("fake0")
    tun.error = number
    drops = Drops()
    layout = Slab(1 << 16).layout(64 + 32)
    for k in range(3):
        layout.row(k)[16:80] = packet(A4, B4, 64)
    rows = PacketRows(layout, 0, np.full(3, 64))
    ToHost(Steering([tun]), drops.count).write([rows, packet(A4, B4)])
    assert drops == {reason: 4}


def test_rows_and_single_packets_reach_the_host_in_order() -> None:
    tun = FakeTun.open("fake0")
    layout = Slab(1 << 16).layout(64 + 32)
    packets = [packet(A4, B4, 64) for _ in range(3)]
    for k, one in enumerate(packets):
        layout.row(k)[16:80] = one
    last = packet(A4, B4, 90)
    rows = PacketRows(layout, 1, np.full(2, 64))
    ToHost(Steering([tun]), Drops().count).write([rows, last])
    assert [tun.receive()[1] for _ in range(3)] == [*packets[1:], last]
