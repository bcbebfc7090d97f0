"""The real TUN: two namespaces, a TUN in each, and what one host sends is handed to the other.

host left -- TUN -- split -- (rows) -- coalesce -- TUN -- host right
"""

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.system.tunhost import ADDRESSES, Mover, Namespace, open_tun, two_namespaces
from tests.tun.conformance import Rig, TunConformance
from tests.tun.packets import internet_sum
from tests.tun.test_split import payload_of
from tun import (
    HEADER_LEN,
    LinkMonitor,
    Tun,
    coalesce,
    finish_checksum,
    plan,
    virtio,
)

pytestmark = pytest.mark.system

_UDP_SEGMENT = 103
_TUNGETVNETHDRSZ, _TUNSETVNETHDRSZ = 0x800454D7, 0x400454D8
_ROWS = 128
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture
def namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    with two_namespaces() as pair:
        yield pair


class Pump(Mover):
    """Hands packets from each TUN to the other until it is left."""

    def __init__(self, left: Tun, right: Tun, *, joins: bool) -> None:
        super().__init__((left, right))
        self.left, self.right, self._joins = left, right, joins
        self.seen: Counter[str] = Counter()

    def move(self, source: Tun) -> None:
        target = self.left if source is self.right else self.right
        header = memoryview(bytearray(HEADER_LEN))
        packet = memoryview(bytearray(65575))
        size = source.read(header, packet)
        if header[1] == virtio.GSO_NONE:
            finish_checksum(header, packet[:size])
            rows = np.zeros((1, size), np.uint8)
            rows[0] = np.frombuffer(packet[:size], np.uint8)
            self._write(target, rows, [size])
            return
        self.seen[f"super-packet of kind {header[1] & ~virtio.GSO_ECN}"] += 1
        split = plan(header, packet[:size])
        rows = np.zeros((min(_ROWS, split.count), split.segment_size), np.uint8)
        for first in range(0, split.count, _ROWS):
            count = min(_ROWS, split.count - first)
            split.fill(rows, first, count)
            sizes = [split.segment_size] * count
            if first + count == split.count:
                sizes[-1] = split.last_size
            self._write(target, rows, sizes)

    def _write(self, target: Tun, rows: NDArray[np.uint8], sizes: list[int]) -> None:
        if not self._joins:
            for row, size in zip(rows, sizes, strict=False):
                target.write([virtio.HEADER_NONE, row[:size].data])
            return
        for group in coalesce(rows[: len(sizes)], np.array(sizes), target.offloads):
            self.seen["joined"] += group.packets > 1
            target.write(group.buffers)


def transfer(namespaces: tuple[Namespace, Namespace], version: int, data: bytes) -> bytes:
    """Send `data` by TCP from left to right; what arrives. The answer is its length."""
    left, right = namespaces
    address = ADDRESSES[version][1]
    with right.inside():
        server = socket.create_server((address, 0), family=FAMILIES[version])
    with left.inside():
        client = socket.socket(FAMILIES[version], socket.SOCK_STREAM)
    with server, client:
        client.settimeout(20)
        server.settimeout(20)
        client.connect(server.getsockname())
        connection, _ = server.accept()
        with connection:
            connection.settimeout(20)
            sender = threading.Thread(target=client.sendall, args=(data,))
            sender.start()
            received = bytearray()
            while len(received) < len(data) and (part := connection.recv(1 << 20)):
                received += part
            sender.join()
            connection.sendall(struct.pack("<Q", len(received)))
            (answer,) = struct.unpack("<Q", client.recv(8))
            assert answer == len(received)
    return bytes(received)


DATA = os.urandom(1 << 20) * 8


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("joins", [True, False], ids=["joined again", "one by one"])
@pytest.mark.parametrize("mtu", [1280, 1420, 8920, 65535])
def test_tcp_passes_as_super_packets(
    namespaces: tuple[Namespace, Namespace], version: int, joins: bool, mtu: int
) -> None:
    left, right = (open_tun(namespace, k, mtu=mtu) for k, namespace in enumerate(namespaces))
    with Pump(left, right, joins=joins) as pump:
        assert transfer(namespaces, version, DATA) == DATA
    kind = virtio.GSO_TCPV4 if version == 4 else virtio.GSO_TCPV6
    if mtu < 65535:
        assert pump.seen[f"super-packet of kind {kind}"] > 20
        assert (pump.seen["joined"] > 20) == joins
    assert not any(namespace.counter("Tcp", "InCsumErrors") for namespace in namespaces)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("offloads", [(False, True), (True, False), (False, False)])
def test_tcp_passes_where_one_end_or_both_have_no_offloads(
    namespaces: tuple[Namespace, Namespace], version: int, offloads: tuple[bool, bool]
) -> None:
    left, right = (
        open_tun(namespace, k, offloads=offloads[k]) for k, namespace in enumerate(namespaces)
    )
    with Pump(left, right, joins=True) as pump:
        assert transfer(namespaces, version, DATA[: 1 << 20]) == DATA[: 1 << 20]
    assert (pump.seen["joined"] > 0) == (offloads == (True, True))
    assert not any(namespace.counter("Tcp", "InCsumErrors") for namespace in namespaces)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("joins", [True, False], ids=["joined again", "one by one"])
def test_udp_segments_pass_and_keep_their_bounds(
    namespaces: tuple[Namespace, Namespace], version: int, joins: bool
) -> None:
    left, right = (open_tun(namespace, k) for k, namespace in enumerate(namespaces))
    if not left.offloads.uso:
        left.close()
        right.close()
        pytest.skip("this kernel has no USO for TUN (Linux 6.2)")
    sizes = [1200] * 30 + [77]
    data = payload_of(sum(sizes))
    with Pump(left, right, joins=joins) as pump:
        with namespaces[1].inside():
            receiver = socket.socket(FAMILIES[version], socket.SOCK_DGRAM)
        with namespaces[0].inside():
            sender = socket.socket(FAMILIES[version], socket.SOCK_DGRAM)
        with receiver, sender:
            receiver.bind((ADDRESSES[version][1], 0))
            receiver.settimeout(20)
            sender.setsockopt(socket.SOL_UDP, _UDP_SEGMENT, 1200)
            sender.sendto(data, receiver.getsockname())
            found = [receiver.recv(65535) for _ in sizes]
    assert [len(datagram) for datagram in found] == sizes
    assert b"".join(found) == data
    assert pump.seen[f"super-packet of kind {virtio.GSO_UDP_L4}"] == 1
    assert (pump.seen["joined"] > 0) == joins
    assert namespaces[1].counter("Udp", "InCsumErrors") == 0


def test_a_partial_checksum_of_the_host_is_finished(
    namespaces: tuple[Namespace, Namespace],
) -> None:
    left, _ = namespaces
    tun = open_tun(left, 0)
    with contextlib.closing(tun), left.inside():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", (ADDRESSES[4][1], 9))
        header, packet = memoryview(bytearray(HEADER_LEN)), memoryview(bytearray(2000))
        while True:
            select.select([tun.fd], [], [], 10)
            size = tun.read(header, packet)
            if packet[0] == 0x45 and packet[9] == 17:
                break
    assert header[0] & virtio.NEEDS_CSUM
    finish_checksum(header, packet[:size])
    pseudo = bytes(packet[12:20]) + struct.pack(">II", size - 20, 17)
    assert internet_sum(pseudo + bytes(packet[20:size])) == 0xFFFF


# The interface.


class KernelRig(Rig):
    """The host is a namespace with a UDP socket. Its address is the one TO_HOST goes to."""

    def __init__(self, tun: Tun, namespace: Namespace, host: socket.socket) -> None:
        super().__init__(tun)
        self._namespace, self._host, self._name = namespace, host, tun.name

    def send(self, payload: bytes) -> None:
        self._host.sendto(payload, ("10.0.0.1", 9))

    def receive(self) -> bytes:
        return self._host.recv(2000)

    def set_down(self) -> None:
        self._namespace.ip("link", "set", self._name, "down")

    def delete(self) -> None:
        self._namespace.ip("link", "del", self._name)


class TestKernelTun(TunConformance):
    @contextlib.contextmanager
    def make(self, offloads: bool) -> Iterator[Rig]:
        with contextlib.ExitStack() as stack:
            namespace = Namespace(f"tt{os.getpid()}c")
            stack.callback(namespace.remove)
            with namespace.inside():
                tun = stack.enter_context(contextlib.closing(Tun.open("tt%d", offloads=offloads)))
                host = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            namespace.ip("address", "add", "10.0.0.2/24", "dev", tun.name)
            namespace.ip("link", "set", tun.name, "up")
            host.settimeout(10)
            host.bind(("10.0.0.2", 4321))
            yield KernelRig(tun, namespace, host)


def test_every_offload_of_a_present_kernel_is_taken(
    namespaces: tuple[Namespace, Namespace],
) -> None:
    with namespaces[0].inside(), contextlib.closing(Tun.open("tt%d")) as tun:
        assert tun.name == "tt0"
        # Linux since 6.2 has them all.
        assert all(getattr(tun.offloads, field) for field in tun.offloads.__slots__)


def test_nothing_is_asked_for_without_offloads(namespaces: tuple[Namespace, Namespace]) -> None:
    with namespaces[0].inside(), contextlib.closing(Tun.open("tt%d", offloads=False)) as tun:
        assert not any(getattr(tun.offloads, field) for field in tun.offloads.__slots__)


@pytest.mark.parametrize("offloads", [True, False])
@pytest.mark.parametrize("header", [True, False])
def test_an_inherited_descriptor_is_taken_as_it_is(
    namespaces: tuple[Namespace, Namespace], header: bool, offloads: bool
) -> None:
    left, _ = namespaces
    with left.inside(), contextlib.closing(Tun.open("tt%d", offloads=header)) as first:
        os.set_blocking(first.fd, True)
        inherited = os.dup(first.fd)
        os.set_inheritable(inherited, True)
        second = Tun.from_fd(inherited, offloads=offloads)
        with contextlib.closing(second):
            assert second.name == first.name
            assert second.offloads.vnet_header == header
            assert second.offloads.tso4 == (header and offloads)
            assert not os.get_blocking(second.fd)
            assert not os.get_inheritable(second.fd)


@pytest.mark.parametrize("offloads", [True, False])
def test_an_inherited_descriptor_with_a_longer_header_gets_ours(
    namespaces: tuple[Namespace, Namespace], offloads: bool
) -> None:
    left, _ = namespaces
    with left.inside(), contextlib.closing(Tun.open("tt%d")) as first:
        fcntl.ioctl(first.fd, _TUNSETVNETHDRSZ, struct.pack("i", 12))
        with contextlib.closing(Tun.from_fd(os.dup(first.fd), offloads=offloads)):
            size = fcntl.ioctl(first.fd, _TUNGETVNETHDRSZ, bytes(4))
    assert struct.unpack("i", size) == (HEADER_LEN,)


def test_a_descriptor_that_is_no_tun_is_refused() -> None:
    with open(os.devnull) as file, pytest.raises(OSError, match="is not an attached TUN"):
        Tun.from_fd(file.fileno())


def test_a_name_that_another_process_has_is_refused(
    namespaces: tuple[Namespace, Namespace],
) -> None:
    with (
        namespaces[0].inside(),
        contextlib.closing(Tun.open("tt7")),
        pytest.raises(OSError, match="tt7: another process has it") as caught,
    ):
        Tun.open("tt7")
    assert caught.value.errno == errno.EBUSY


def test_several_queues_are_those_of_a_new_interface(
    namespaces: tuple[Namespace, Namespace],
) -> None:
    """The kernel would let anyone add some to those of another process."""
    with namespaces[0].inside(), contextlib.ExitStack() as exits:
        queues = [exits.enter_context(contextlib.closing(q)) for q in Tun.open_queues("tt7", 3)]
        assert {queue.name for queue in queues} == {"tt7"}
        assert "numqueues 3" in namespaces[0].ip("-d", "link", "show", "tt7")
        with pytest.raises(OSError, match="tt7: another process has it") as caught:
            Tun.open_queues("tt7", 2)
    assert caught.value.errno == errno.EBUSY
    assert "tt7" not in namespaces[0].ip("link", "show")


@pytest.mark.parametrize("name", ["", "sixteen-bytes-xx", "a/b", "lo"])
def test_a_name_that_cannot_be_is_refused(
    namespaces: tuple[Namespace, Namespace], name: str
) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    with namespaces[0].inside(), pytest.raises(OSError, match="name"):
        Tun.open(name)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_an_interface_vanishes_with_its_descriptor(
    namespaces: tuple[Namespace, Namespace],
) -> None:
    left, _ = namespaces
    open_tun(left, 0).close()
    assert "tt0" not in left.ip("link", "show")


def test_limits_of_super_packets_are_kept_by_the_host(
    namespaces: tuple[Namespace, Namespace],
) -> None:
    left, right = (open_tun(namespace, k) for k, namespace in enumerate(namespaces))
    with namespaces[0].inside():
        link = LinkMonitor(left)
    link.set_gso_limits(20000, 12)
    link.close()
    largest = []
    read = left.read

    def watch(header: memoryview, packet: memoryview) -> int:
        size = read(header, packet)
        largest.append(size)
        return size

    left.read = watch  # type: ignore[method-assign]
    with Pump(left, right, joins=True):
        assert transfer(namespaces, 4, DATA[: 1 << 20]) == DATA[: 1 << 20]
    assert 10000 < max(largest) <= 20000
