"""The real TUN: two namespaces, a TUN in each, and what one host sends is handed to the other.

host left -- TUN -- split -- (rows) -- coalesce -- TUN -- host right
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

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

_CLONE_NEWNET = 0x40000000
_UDP_SEGMENT = 103
_TUNGETVNETHDRSZ, _TUNSETVNETHDRSZ = 0x800454D7, 0x400454D8
_ROWS = 128
_libc = ctypes.CDLL(None, use_errno=True)
ADDRESSES = {4: ("10.99.0.1", "10.99.0.2"), 6: ("fd99::1", "fd99::2")}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def ip(*arguments: str) -> str:
    argv = ["ip", *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


class Namespace:
    """A network namespace with a name, to work in."""

    def __init__(self, name: str) -> None:
        self.name = name
        ip("netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> str:
        return ip("-n", self.name, *arguments)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{self.name}") as there:
            assert _libc.setns(there.fileno(), _CLONE_NEWNET) == 0
            try:
                yield
            finally:
                assert _libc.setns(here.fileno(), _CLONE_NEWNET) == 0

    def counter(self, protocol: str, name: str) -> int:
        """One number of /proc/net/snmp."""
        with self.inside():
            lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith(f"{protocol}: "))
        return int(values[names.index(name)])

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


@pytest.fixture
def namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    made: list[Namespace] = []
    try:
        for side in "lr":
            made.append(Namespace(f"tt{os.getpid()}{side}"))
        yield made[0], made[1]
    finally:
        for namespace in made:
            namespace.remove()


def open_tun(namespace: Namespace, side: int, *, offloads: bool = True, mtu: int = 1420) -> Tun:
    """An interface that is up and has its addresses."""
    with namespace.inside():
        tun = Tun.open("tt%d", offloads=offloads)
    namespace.ip("link", "set", tun.name, "mtu", str(mtu), "up")
    namespace.ip("address", "add", f"{ADDRESSES[4][side]}/24", "dev", tun.name)
    namespace.ip("address", "add", f"{ADDRESSES[6][side]}/64", "dev", tun.name, "nodad")
    return tun


class Pump:
    """Hands packets from each TUN to the other until it is left."""

    def __init__(self, left: Tun, right: Tun, *, joins: bool) -> None:
        self.left, self.right, self._joins = left, right, joins
        self.seen: Counter[str] = Counter()
        self.errors: list[BaseException] = []
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Pump":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stopper)
        self._thread.join()
        os.close(self._stop)
        self.left.close()
        self.right.close()
        assert not self.errors

    def _run(self) -> None:
        try:
            other = {self.left.fd: (self.left, self.right), self.right.fd: (self.right, self.left)}
            while True:
                ready, _, _ = select.select([*other, self._stop], [], [])
                if self._stop in ready:
                    return
                for fd in ready:
                    self._move(*other[fd])
        except BaseException as error:
            self.errors.append(error)

    def _move(self, source: Tun, target: Tun) -> None:
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


# Its link.


@pytest.fixture
def linked(namespaces: tuple[Namespace, Namespace]) -> Iterator[tuple[Namespace, Tun, LinkMonitor]]:
    left, _ = namespaces
    with left.inside():
        tun = Tun.open("tt%d")
        link = LinkMonitor(tun)
    with contextlib.closing(tun), contextlib.closing(link):
        yield left, tun, link


def wait(link: LinkMonitor) -> None:
    """Read events until one is of this interface."""
    while True:
        assert select.select([link.fileno()], [], [], 10)[0], "no event"
        if link.read():
            return


def test_a_link_says_up_down_mtu_and_name(linked: tuple[Namespace, Tun, LinkMonitor]) -> None:
    left, tun, link = linked
    assert not link.state().up
    assert link.state().name == "tt0"
    left.ip("link", "set", "tt0", "up")
    wait(link)
    assert link.state().up
    left.ip("link", "set", "tt0", "mtu", "1300")
    wait(link)
    assert link.state().mtu == 1300
    left.ip("link", "set", "tt0", "down")
    wait(link)
    assert not link.state().up
    left.ip("link", "set", "tt0", "name", "other")
    wait(link)
    assert link.state().name == tun.name == "other"


def test_a_link_says_nothing_of_other_interfaces(
    linked: tuple[Namespace, Tun, LinkMonitor],
) -> None:
    left, _, link = linked
    link.read()
    left.ip("link", "add", "tb0", "type", "bridge")
    left.ip("link", "set", "tb0", "up")
    assert select.select([link.fileno()], [], [], 10)[0]
    assert not link.read()


def test_a_link_tells_its_addresses(linked: tuple[Namespace, Tun, LinkMonitor]) -> None:
    left, _, link = linked
    assert link.addresses() == (None, None)
    left.ip("link", "set", "tt0", "up")
    left.ip("address", "add", "fe80::9/64", "dev", "tt0")
    assert link.addresses() == (None, None)
    for address in ("10.1.0.1/24", "10.2.0.1/24", "fd01::1/64"):
        left.ip("address", "add", address, "dev", "tt0")
    wait(link)
    assert link.addresses() == (
        socket.inet_pton(socket.AF_INET, "10.1.0.1"),
        socket.inet_pton(socket.AF_INET6, "fd01::1"),
    )


def test_a_link_says_that_it_is_gone(linked: tuple[Namespace, Tun, LinkMonitor]) -> None:
    left, _, link = linked
    left.ip("link", "del", "tt0")
    with pytest.raises(OSError) as caught:
        wait(link)
    assert caught.value.errno == errno.EBADFD


def test_a_link_is_followed_into_another_namespace_and_back(
    namespaces: tuple[Namespace, Namespace], linked: tuple[Namespace, Tun, LinkMonitor]
) -> None:
    left, right = namespaces
    _, tun, link = linked
    for here, there in ((left, right), (right, left)):
        here.ip("link", "set", tun.name, "netns", there.name)
        wait(link)
        assert not link.state().up
        there.ip("link", "set", tun.name, "mtu", "1333", "up")
        wait(link)
        while not link.state().up or link.state().mtu != 1333:
            wait(link)
        link.set_mtu(1420)
        assert f"{tun.name}: " in there.ip("link", "show", tun.name)
        assert "mtu 1420" in there.ip("link", "show", tun.name)


def test_an_interface_born_in_another_namespace_is_followed(
    namespaces: tuple[Namespace, Namespace],
) -> None:
    left, _ = namespaces
    with left.inside():
        tun = Tun.open("tt%d")
    with contextlib.closing(tun), contextlib.closing(LinkMonitor(tun)) as link:
        left.ip("link", "set", "tt0", "up")
        wait(link)
        assert link.state().up


def test_events_that_were_lost_are_made_good(linked: tuple[Namespace, Tun, LinkMonitor]) -> None:
    left, _, link = linked
    flips = "".join(f"link set tt0 mtu {1300 + k}\n" for k in range(4000))
    argv = ["ip", "-n", left.name, "-batch", "-"]
    subprocess.run(argv, check=True, input=flips, text=True)
    link.read()
    assert link.state().mtu == 1300 + 3999


_WITHOUT_RIGHTS = """
import ctypes, logging, select, sys
from tun import LinkMonitor, Tun
logging.basicConfig(format="%(message)s", stream=sys.stdout)
libc = ctypes.CDLL(None, use_errno=True)

def drop(capabilities):
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    for k in range(6):
        sets[k] &= ~(capabilities >> (32 if k > 2 else 0)) & 0xFFFFFFFF
    assert libc.capset(header, sets) == 0

tun = Tun.open("tt%d")
"""
_EVERY_CAPABILITY, _CAP_NET_ADMIN, _CAP_SYS_ADMIN = 2**64 - 1, 1 << 12, 1 << 21


def run_without(capabilities: int, namespace: Namespace, rest: str) -> subprocess.Popen[str]:
    code = f"{_WITHOUT_RIGHTS}\ndrop({capabilities})\n{rest}"
    with namespace.inside():
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )


def test_without_rights_a_link_is_followed_where_it_is(
    namespaces: tuple[Namespace, Namespace],
) -> None:
    rest = "link = LinkMonitor(tun); print(link.state()); print(link.addresses())"
    with run_without(_EVERY_CAPABILITY, namespaces[0], rest) as process:
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "name='tt0'" in out


@pytest.mark.parametrize("missing", [_CAP_SYS_ADMIN, _CAP_SYS_ADMIN | _CAP_NET_ADMIN])
def test_without_rights_a_link_that_moves_away_counts_as_up(
    namespaces: tuple[Namespace, Namespace], missing: int
) -> None:
    rest = """if True:
        link = LinkMonitor(tun)
        print("ready")
        while not link.state().up:
            assert select.select([link.fileno()], [], [], 10)[0]
            link.read()
        print(link.state())
    """
    left, right = namespaces
    with run_without(missing, left, rest) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        left.ip("link", "set", "tt0", "netns", right.name)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "cannot follow tt0 into its new network namespace" in out
    assert "up=True" in out


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
