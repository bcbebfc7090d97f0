"""Which of a TUN's queues packets come from and go to, in memory and under another clock."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim import A4, B4, packet
from tests.tun.packets import TCP, UDP, Packet
from tun.fake import FakeTun
from wgpy.device import clock
from wgpy.device.fromhost import FromHost
from wgpy.device.sizes import QUEUES
from wgpy.device.steering import Steering
from wgpy.device.tohost import ToHost
from wgpy.protocol.batch import PacketBatch, PacketRows, Slab
from wgpy.protocol.constants import TRANSPORT_HEADER_LEN
from wgpy.protocol.drops import Drops

_LONE, _STREAMS = QUEUES - 2, QUEUES - 1


class _World:
    """A TUN of several queues, and both ways through it."""

    def __init__(self, queues: int = QUEUES) -> None:
        self.now = 100.0
        self.queues = [FakeTun.open(f"fake{k}") for k in range(queues)]
        self.steering = Steering(self.queues)
        self._from_host = FromHost(self.steering, self._send, Drops().count)
        self._from_host.mtu = 1420
        self.write = ToHost(self.steering, Drops().count).write
        self.sent: list[bytes] = []

    def _send(self, batch: PacketBatch) -> None:
        for k in range(batch.count):
            size = batch.last_packet_size if k == batch.count - 1 else batch.packet_size
            row = batch.layout.row(k)
            self.sent.append(bytes(row[TRANSPORT_HEADER_LEN : TRANSPORT_HEADER_LEN + size]))

    def turn(self, queue: int) -> list[bytes]:
        """What is sent when this queue is readable."""
        self.sent.clear()
        self._from_host.turn(self.queues[queue])
        self.steering.age(self.now)
        return list(self.sent)

    def stream(self, flow: Packet, queue: int = 0) -> None:
        """The host sends a super-packet."""
        self.queues[queue].send(flow.partial(), flow.virtio(500))
        self.turn(queue)

    def waiting(self, queue: int) -> int:
        """How many the host has still in a queue."""
        count = 0
        with suppress(BlockingIOError):
            while True:
                self.queues[queue].read(memoryview(bytearray(10)), memoryview(bytearray(65575)))
                count += 1
        return count

    def queue_of(self, written: bytes) -> int:
        """The queue that a packet to the host is written to."""
        self.write([written])
        for number, queue in enumerate(self.queues):
            with suppress(BlockingIOError):
                assert queue.receive()[1] == written
                return number
        raise AssertionError("written nowhere")

    def close(self) -> None:
        self.steering.close()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[_World]:
    monkeypatch.setattr(clock, "now", lambda: 100.0)
    world = _World()
    monkeypatch.setattr(clock, "now", lambda: world.now)
    yield world
    world.close()


def _answer(flow: Packet) -> bytes:
    """An empty packet the other way: its checksums are the same."""
    data, l4 = replace(flow, payload=b"").encode(), flow.l4_offset()
    start, end = (12, 16) if flow.version == 4 else (8, 24)
    source, destination = data[start:end], data[end:l4]
    return (
        data[:start]
        + destination
        + source
        + data[l4 + 2 : l4 + 4]
        + data[l4 : l4 + 2]
        + data[l4 + 4 :]
    )


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_only_the_answers_to_super_packets_are_written_where_streams_wait(
    world: _World, version: int, protocol: int
) -> None:
    flow = Packet(bytes(3000), version=version, protocol=protocol)
    others = [
        replace(flow, source_port=4321),
        replace(flow, destination_port=22),
        replace(flow, last_address_byte=3),
        replace(flow, version=10 - version),
    ]
    assert world.queue_of(_answer(flow)) == _LONE
    world.stream(flow)
    assert world.queue_of(_answer(flow)) == _STREAMS
    assert [world.queue_of(_answer(other)) for other in others] == [_LONE] * 4
    assert world.queue_of(packet(B4, A4)) == _LONE


def test_rows_are_written_where_their_flows_wait(world: _World) -> None:
    flow = Packet(bytes(3000))
    world.stream(flow)
    packets = [_answer(flow), _answer(replace(flow, source_port=4321)), _answer(flow)]
    layout = Slab(1 << 16).layout(len(packets[0]) + 32)
    for k, one in enumerate(packets):
        layout.row(k)[16 : 16 + len(one)] = one
    world.write([PacketRows(layout, 0, np.full(3, len(packets[0])))])
    assert [world.queues[_STREAMS].receive()[1] for _ in range(2)] == [packets[0], packets[2]]
    assert world.queues[_LONE].receive()[1] == packets[1]


def test_a_flow_is_a_stream_until_it_has_sent_no_super_packet_for_a_second_or_two(
    world: _World,
) -> None:
    flow = Packet(bytes(3000))
    for _ in range(5):
        world.stream(flow, _STREAMS)
        world.now += 0.9
        assert world.queue_of(_answer(flow)) == _STREAMS
    for _ in range(12):
        world.turn(_LONE)
        world.now += 0.1
    assert world.queue_of(_answer(flow)) == _LONE


def test_after_silence_a_flow_is_none_of_the_second_before(world: _World) -> None:
    flow = Packet(bytes(3000))
    world.stream(flow)
    world.now += 60
    world.turn(_LONE)
    assert world.queue_of(_answer(flow)) == _LONE


def test_after_silence_the_first_super_packet_counts(world: _World) -> None:
    flow = Packet(bytes(3000))
    world.now += 60
    world.stream(flow)
    assert world.queue_of(_answer(flow)) == _STREAMS


def test_there_is_a_bound_and_a_stream_keeps_its_place(world: _World) -> None:
    flows = [Packet(bytes(3000), source_port=port) for port in range(1500)]
    for flow in flows:
        world.stream(flow)
    places = [world.queue_of(_answer(flow)) for flow in flows]
    assert places == [_STREAMS] * 1024 + [_LONE] * 476


def test_one_queue_is_for_everything() -> None:
    world = _World(1)
    flow = Packet(bytes(3000))
    world.stream(flow)
    assert len(world.sent) == 6
    assert world.queue_of(_answer(flow)) == 0
    world.close()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, QUEUES - 1), max_size=16))
def test_a_flow_that_moves_on_keeps_its_order(places: list[int]) -> None:
    world = _World()
    packets = [packet(A4, B4, 40 + k) for k in range(len(places))]
    for place, one in zip(sorted(places), packets, strict=True):
        world.queues[place].send(one)
    assert world.turn(_STREAMS) == packets
    world.close()


def test_an_early_queue_that_is_never_empty_leaves_most_of_a_turn_to_streams(world: _World) -> None:
    for size, queue in ((100, 0), (200, _LONE), (300, _STREAMS)):
        for _ in range(200):
            world.queues[queue].send(packet(A4, B4, size))
    sizes = Counter(map(len, world.turn(_STREAMS)))
    assert sizes == {100: 16, 200: 16, 300: 96}


def test_super_packets_of_an_early_queue_leave_room_as_well(world: _World) -> None:
    flow = Packet(bytes(60_000))
    for queue in range(QUEUES):
        for _ in range(10):
            world.queues[queue].send(flow.partial(), flow.virtio(1000))
    left = [10] * QUEUES
    world.turn(_STREAMS)
    assert [left - world.waiting(k) for k, left in enumerate(left)] == [1] * QUEUES


def test_a_lone_packet_is_sent_without_a_look_into_other_queues(world: _World) -> None:
    for queue in world.queues:
        queue.send(packet(A4, B4))
    assert len(world.turn(_LONE)) == 1
    assert len(world.turn(_STREAMS)) == QUEUES - 1
