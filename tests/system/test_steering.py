"""Where the kernel lets the host's flows wait: the real TUN, and no cipher in between.

host left -- several queues -- FromHost -- ToHost -- one queue -- host right
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from tests.system.test_tun import DATA, FAMILIES, transfer
from tests.system.tunhost import (
    ADDRESSES,
    Mover,
    Namespace,
    configure,
    open_tun,
    two_namespaces,
)
from tun import Tun, virtio
from wgpy.device import clock
from wgpy.device.fromhost import FromHost
from wgpy.device.sizes import QUEUES
from wgpy.device.steering import Steering
from wgpy.device.tohost import ToHost
from wgpy.protocol.batch import PacketBatch, PacketRows
from wgpy.protocol.drops import Drops

pytestmark = pytest.mark.system

_LONE, _STREAMS = QUEUES - 2, QUEUES - 1


class _Counting(Tun):
    """Counts what is read."""

    packets = 0
    super_packets = 0

    def read(self, header: memoryview, packet: memoryview) -> int:
        size = super().read(header, packet)
        self.packets += 1
        self.super_packets += header[1] != virtio.GSO_NONE
        return size


class _Path(Mover):
    """Hands packets over in both directions until it is left; `queues` are those of the left."""

    def __init__(self, queues: list[_Counting], right: Tun) -> None:
        super().__init__((*queues, right))
        self.queues = queues
        self._steering, others = Steering(queues), Steering([right])
        self._from_left = _joined(self._steering, others)
        self._from_right = _joined(others, self._steering)
        self._right = right

    def move(self, source: Tun) -> None:
        from_host = self._from_right if source is self._right else self._from_left
        from_host.turn(source)
        self._steering.age(clock.now())


def _joined(here: Steering, there: Steering) -> FromHost:
    to_host = ToHost(there, Drops().count)

    def send(batch: PacketBatch) -> None:
        lengths = np.full(batch.count, batch.packet_size)
        lengths[-1] = batch.last_packet_size
        to_host.write([PacketRows(batch.layout, 0, lengths)])

    from_host = FromHost(here, send, Drops().count)
    from_host.mtu = 1420
    return from_host


@contextmanager
def _path(left: Namespace, right: Namespace) -> Iterator[_Path]:
    with left.inside():
        queues = _Counting.open_queues("tt%d", QUEUES)
    configure(left, queues[0], 0)
    with _Path(queues, open_tun(right, 1)) as path:
        yield path


@pytest.fixture
def namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    with two_namespaces() as pair:
        yield pair


@pytest.mark.parametrize("version", [4, 6])
def test_a_stream_waits_in_its_own_queue_after_a_round_trip(
    namespaces: tuple[Namespace, Namespace], version: int
) -> None:
    with _path(*namespaces) as path:
        assert transfer(namespaces, version, DATA) == DATA
        counts = [queue.super_packets for queue in path.queues]
    # What is sent before the first answer is ten segments.
    assert counts[_STREAMS] > 50 and sum(counts[:_STREAMS]) < 5, counts


@pytest.mark.parametrize("version", [4, 6])
def test_questions_and_answers_wait_in_another(
    namespaces: tuple[Namespace, Namespace], version: int
) -> None:
    with _path(*namespaces) as path:
        for _ in range(20):
            _ask(namespaces, version, 10)
        counts = [queue.packets for queue in path.queues]
    # Only the first packet of each goes by its hash: into one of all the queues.
    assert counts[_LONE] >= 20 * 9 and counts[_STREAMS] < 20, counts


def _ask(namespaces: tuple[Namespace, Namespace], version: int, times: int) -> None:
    """As many datagrams from a new port of the left, each with an answer."""
    left, right = namespaces
    with right.inside():
        answering = socket.socket(FAMILIES[version], socket.SOCK_DGRAM)
    with left.inside():
        asking = socket.socket(FAMILIES[version], socket.SOCK_DGRAM)
    with answering, asking:
        for sock in (answering, asking):
            sock.settimeout(5)
        answering.bind((ADDRESSES[version][1], 0))
        asking.connect(answering.getsockname())
        for _ in range(times):
            asking.send(b"?")
            _, address = answering.recvfrom(10)
            answering.sendto(b"!", address)
            assert asking.recv(10) == b"!"
