"""The TUN in memory keeps what the real one promises."""

import contextlib
from collections.abc import Iterator

from tests.tun.conformance import Rig, TunConformance
from tests.tun.packets import UDP, Packet
from tests.tun.test_split import payload_of, split
from tun import virtio
from tun.fake import FakeTun


class FakeRig(Rig):
    tun: FakeTun

    def send(self, payload: bytes) -> None:
        packet = Packet(payload, protocol=UDP)
        if self.tun.offloads.checksum:
            self.tun.send(packet.partial(), packet.virtio())
        else:
            self.tun.send(packet.encode())

    def receive(self) -> bytes:
        return self.tun.receive()[1][28:]

    def set_down(self) -> None:
        self.tun.set_up(False)

    def delete(self) -> None:
        self.tun.delete()


class TestFakeTun(TunConformance):
    @contextlib.contextmanager
    def make(self, offloads: bool) -> Iterator[Rig]:
        with contextlib.closing(FakeTun.open("fake%d", offloads=offloads)) as tun:
            yield FakeRig(tun)


def test_a_super_packet_passes_both_ways() -> None:
    packet = Packet(payload_of(60_000))
    with contextlib.closing(FakeTun.open("fake0")) as tun:
        tun.send(packet.partial(), packet.virtio(1400))
        header, read = memoryview(bytearray(10)), memoryview(bytearray(65575))
        size = tun.read(header, read)
        assert len(split(bytes(header), bytes(read[:size]))) == 43
        tun.write([header, read[:size]])
        assert tun.receive() == (packet.virtio(1400), packet.partial())
        assert virtio.unpack(bytes(header)).gso_size == 1400
