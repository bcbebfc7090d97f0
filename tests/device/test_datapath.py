"""From host to host, between two TUNs in memory and over sockets on loopback."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from ipaddress import ip_network
from itertools import product

import pytest

from tests.tun.packets import PSH, TCP, UDP, Packet, segments_of
from tests.tun.test_split import payload_of
from tun.fake import FakeTun
from wgpy.device import clock
from wgpy.device.bind import Bind
from wgpy.device.datapath import DataPath
from wgpy.device.options import DeviceOptions
from wgpy.protocol.config import AllowedIPChange, Endpoint, InterfaceChange, PeerChange, Secret
from wgpy.protocol.interface import Interface
from wgpy.protocol.noise import Identity

_SWITCHES = [field.name for field in fields(DeviceOptions) if field.default is True]


class _End(DataPath):
    """A device without a link to follow."""

    def __init__(self, number: int, options: DeviceOptions, exits: ExitStack) -> None:
        tun = FakeTun.open("fake0", offloads=options.tun_offloads, uso=options.uso)
        super().__init__([tun], Interface(os.urandom, clock.wall_ns), options)
        self.host = tun
        self.key = Secret(os.urandom(32))
        self.network = ip_network(f"10.0.0.{number}/32"), ip_network(f"fd00::{number}/128")
        self._interface.mtu = self._from_host.mtu = 1420
        self._bind = Bind.open(0, 0, options)
        change = InterfaceChange(private_key=self.key, listen_port=self._bind.port)
        self._interface.configure(change, clock.now())
        self._interface.up(clock.now())
        self._network.adopt(self._bind)
        self._read_tun()
        exits.callback(self._close)

    def _close(self) -> None:
        self._network.close_sockets()
        self._leave_tun()
        self.host.close()

    def add_peer(self, peer: "_End") -> None:
        change = PeerChange(
            Identity(peer.key).public,
            endpoint=Endpoint("127.0.0.1", peer._bind.port),
            allowed_ips=tuple(map(AllowedIPChange, peer.network)),
        )
        self._interface.configure(InterfaceChange(peers=(change,)), clock.now())

    def send(self, packet: Packet, size: int) -> None:
        """The host sends a super-packet, if it may, or what a network card would make of it."""
        offloads = self.host.offloads
        if offloads.uso if packet.protocol == UDP else offloads.tso4:
            self.host.send(packet.partial(), packet.virtio(size))
            return
        for segment in packet.segments(size):
            self.host.send(segment.encode())

    @property
    def drops(self) -> dict[str, int]:
        return self._interface.snapshot().drops

    async def received(self, count: int) -> list[bytes]:
        """The host's next `count` packets."""
        found: list[bytes] = []
        deadline = time.monotonic() + 5
        while len(found) < count and time.monotonic() < deadline:
            await asyncio.sleep(0)
            found += self._written()
        return found

    def _written(self) -> Iterator[bytes]:
        while True:
            try:
                yield from segments_of(*self.host.receive())
            except BlockingIOError:
                return

    def _settle(self) -> None:
        self._flush()
        self._loop.call_soon(self._handle_timeout)

    def _handle_timeout(self) -> None:
        # A handshake is the work of a turn of its own.
        if self._interface.next_deadline() <= clock.now():
            self._interface.handle_timeout(clock.now())
            self._settle()

    def _tun_gone(self) -> None:
        raise AssertionError("it is closed here only")


@pytest.mark.parametrize("udp_gso", [True, False])
@pytest.mark.parametrize("udp_gro", [True, False])
def test_packets_pass_unchanged_in_every_combination_of_options(
    udp_gso: bool, udp_gro: bool
) -> None:
    others = [name for name in _SWITCHES if name not in ("udp_gso", "udp_gro")]
    for values in product((True, False), repeat=len(others)):
        rest = dict(zip(others, values, strict=True))
        options = DeviceOptions(udp_gso=udp_gso, udp_gro=udp_gro, key_log=None, **rest)
        asyncio.run(_pass(options))


async def _pass(options: DeviceOptions) -> None:
    with ExitStack() as exits:
        left, right = (_End(number, options, exits) for number in (1, 2))
        left.add_peer(right)
        right.add_peer(left)
        for protocol, version, (size, length) in product(
            (TCP, UDP), (4, 6), ((1360, 40_000), (700, 10_001), (1, 20), (1360, 90))
        ):
            packet = Packet(
                payload_of(length), version=version, protocol=protocol, flags=0x10 | PSH
            )
            left.send(packet, size)
            expected = [segment.encode() for segment in packet.segments(size)]
            assert await right.received(len(expected)) == expected, (options, packet)
        assert left.drops == right.drops == {}
