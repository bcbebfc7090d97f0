"""Stages that the kernel has a part in: the TUN, and UDP over the loopback."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.bench.stage import Stage
from tests.system.tunhost import Namespace, open_tun
from tun import HEADER_LEN, Tun
from wgpy.device.incoming import Incoming
from wgpy.device.options import DeviceOptions
from wgpy.device.outgoing import Outgoing
from wgpy.protocol.batch import datagram_size
from wgpy.protocol.config import Endpoint
from wgpy.protocol.path import Path

# linux/if_packet.h: frames begin with a virtio-net header.
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_ETH_P_IP = 0x0800


@contextmanager
def io_stages(
    header: memoryview, super_packet: memoryview, segments: int, mtu: int
) -> Iterator[list[Stage]]:
    """With the super-packet of a host, which makes so many segments, and its virtio-net header."""
    namespace = Namespace(f"stages{os.getpid()}")
    try:
        tun = open_tun(namespace, 0, mtu=mtu)
        try:
            yield [
                *_tun_stages(namespace, tun, header, super_packet, segments),
                *_udp_stages(namespace, datagram_size(mtu, mtu), segments),
            ]
        finally:
            tun.close()
    finally:
        namespace.remove()


def _tun_stages(
    namespace: Namespace, tun: Tun, header: memoryview, super_packet: memoryview, segments: int
) -> list[Stage]:
    with namespace.inside():
        host = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    host.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, struct.pack("i", 1))
    host.bind((tun.name, _ETH_P_IP))
    frame = bytes(header) + bytes(super_packet)
    into = memoryview(bytearray(HEADER_LEN)), memoryview(bytearray(1 << 16))

    def send() -> None:
        # And nothing else, whatever the host had to say.
        with suppress(BlockingIOError):
            while tun.read(*into):
                pass
        host.send(frame)

    def read() -> None:
        assert tun.read(*into) == len(super_packet)

    return [
        Stage("Tun.read of a super-packet", segments, read, send),
        # The host has no such address, so that it is all the kernel does with it.
        Stage("Tun.write of a super-packet", segments, lambda: tun.write([header, super_packet])),
    ]


def _udp_stages(namespace: Namespace, datagram: int, segments: int) -> list[Stage]:
    with namespace.inside():
        ours, theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
    path = Path(Endpoint(*theirs.getsockname()))
    options = DeviceOptions()
    outgoing, incoming = Outgoing([ours], options), Incoming(theirs, options)
    batch, view = memoryview(bytes(segments * datagram)), memoryview(bytearray(1 << 16))

    def drain() -> None:
        while incoming.receive(view):
            pass

    def send() -> None:
        result = outgoing.send([batch], datagram, len(batch), path, 0)
        assert not result.error and not result.would_block

    def send_again() -> None:
        drain()
        send()

    def receive() -> None:
        received = incoming.receive(view)
        assert received is not None and received.size == len(batch)

    return [
        Stage("UDP send of a batch, loopback", segments, send, drain),
        Stage("UDP receive of a batch, loopback", segments, receive, send_again),
    ]
