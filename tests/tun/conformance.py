"""What every TUN does, the kernel's and the one in memory."""

import contextlib
import errno
import select
from abc import ABC, abstractmethod
from collections.abc import Iterator

import pytest

from tests.tun.packets import UDP, Packet
from tun import HEADER_LEN, Tun, finish_checksum, virtio

# From the TUN's side to the host, and the host's ports.
TO_HOST = Packet(b"to the host", protocol=UDP, destination_port=4321)


class Rig(ABC):
    """A TUN that is up, and its host."""

    def __init__(self, tun: Tun) -> None:
        self.tun = tun

    @abstractmethod
    def send(self, payload: bytes) -> None:
        """The host sends a UDP datagram through the TUN."""

    @abstractmethod
    def receive(self) -> bytes:
        """The payload of the next datagram that the host gets from port 4321."""

    @abstractmethod
    def set_down(self) -> None: ...

    @abstractmethod
    def delete(self) -> None: ...


class TunConformance(ABC):
    @abstractmethod
    def make(self, offloads: bool) -> contextlib.AbstractContextManager[Rig]: ...

    @pytest.fixture(params=[True, False], ids=["offloads", "no offloads"])
    def rig(self, request: pytest.FixtureRequest) -> Iterator[Rig]:
        with self.make(request.param) as rig:
            yield rig

    def read(self, tun: Tun) -> tuple[bytes, bytes]:
        """The next UDP packet, waited for through the descriptor."""
        header, packet = memoryview(bytearray(b"\xee" * HEADER_LEN)), memoryview(bytearray(65575))
        while True:
            assert select.select([tun.fd], [], [], 10)[0], "no packet"
            size = tun.read(header, packet)
            if packet[0] == 0x45 and packet[9] == UDP:
                return bytes(header), bytes(packet[:size])

    def test_reading_does_not_wait(self, rig: Rig) -> None:
        header, packet = memoryview(bytearray(HEADER_LEN)), memoryview(bytearray(65575))
        with pytest.raises(BlockingIOError):
            while True:
                rig.tun.read(header, packet)

    def test_a_packet_of_the_host_is_read_with_its_header(self, rig: Rig) -> None:
        rig.send(b"from the host")
        header, packet = self.read(rig.tun)
        view = memoryview(bytearray(packet))
        assert virtio.unpack(header).gso_type == virtio.GSO_NONE
        if rig.tun.offloads.vnet_header:
            assert virtio.unpack(header).flags == virtio.NEEDS_CSUM
        else:
            assert header == virtio.HEADER_NONE
        finish_checksum(memoryview(header), view)
        assert packet[28:] == b"from the host"
        source, destination = packet[20:22], packet[22:24]
        ports = int.from_bytes(source, "big"), int.from_bytes(destination, "big")
        expected = Packet(
            b"from the host",
            protocol=UDP,
            source_port=ports[0],
            destination_port=ports[1],
        )
        # Addresses are the other way round, which no sum sees.
        assert view[26:28] == expected.encode()[26:28]

    def test_packets_are_read_one_by_one_in_order(self, rig: Rig) -> None:
        for k in range(5):
            rig.send(bytes(100 + k))
        assert [len(self.read(rig.tun)[1]) - 28 for _ in range(5)] == [100, 101, 102, 103, 104]

    def test_a_packet_in_pieces_reaches_the_host(self, rig: Rig) -> None:
        packet = memoryview(TO_HOST.encode())
        rig.tun.write([virtio.HEADER_NONE, packet[:20], bytearray(packet[20:30]), packet[30:]])
        assert rig.receive() == b"to the host"

    def test_writing_to_a_link_that_is_down_fails_and_reading_finds_nothing(self, rig: Rig) -> None:
        rig.set_down()
        with pytest.raises(OSError) as caught:
            rig.tun.write([virtio.HEADER_NONE, TO_HOST.encode()])
        assert caught.value.errno == errno.EIO
        self.test_reading_does_not_wait(rig)

    def test_a_deleted_interface_says_so_in_everything(self, rig: Rig) -> None:
        rig.delete()
        assert select.select([rig.tun.fd], [], [], 10)[0]
        header, packet = memoryview(bytearray(HEADER_LEN)), memoryview(bytearray(2000))
        for attempt in (
            lambda: rig.tun.read(header, packet),
            lambda: rig.tun.write([virtio.HEADER_NONE, TO_HOST.encode()]),
            lambda: rig.tun.name,
        ):
            with pytest.raises(OSError) as caught:
                attempt()
            assert caught.value.errno == errno.EBADFD

    def test_a_tun_may_be_closed_twice(self, rig: Rig) -> None:
        rig.tun.close()
        rig.tun.close()
        assert rig.tun.fd == -1
