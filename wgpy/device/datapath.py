"""A TUN's queues and one pair of UDP sockets around the core: packets in both directions."""

import asyncio
import logging
from collections.abc import Sequence, Set

from tun import Tun
from wgpy.device import clock
from wgpy.device.fromhost import FromHost, Turn
from wgpy.device.network import Network
from wgpy.device.options import DeviceOptions
from wgpy.device.steering import Steering
from wgpy.device.tohost import ToHost
from wgpy.protocol import multibuffer
from wgpy.protocol.batch import PacketBatch
from wgpy.protocol.interface import Interface

_log = logging.getLogger("wgpy.device")


class DataPath:
    """Moves packets while somebody above says when; `_settle` and `_tun_gone` are his."""

    def __init__(self, queues: Sequence[Tun], interface: Interface, options: DeviceOptions) -> None:
        """On a running event loop; the TUN is not read yet, in none of its queues."""
        self._loop = asyncio.get_running_loop()
        self._tun = queues[0]
        self._steering = Steering(queues)
        self._interface = interface
        self._up = False
        # The paths that were sent along in this turn, by id.
        self._reached: set[int] = set()
        cipher = multibuffer.load() if options.multibuffer else None
        if cipher is not None:
            interface.use_cipher(cipher)
        _log.info("batches are sealed by %s", "libIPSec_MB" if cipher else "OpenSSL, one by one")
        self._from_host = FromHost(self._steering, self._send_packets, interface.drop)
        self._to_host = ToHost(self._steering, interface.drop)
        self._network = Network(self._loop, interface, self._flush, self._settle, self._pause)

    def _read_tun(self) -> None:
        """Hear of packets from the host from now on."""
        for queue in self._steering.queues:
            self._loop.add_reader(queue.fd, self._tun_readable, queue)

    def _leave_tun(self) -> None:
        """Let them wait."""
        for queue in self._steering.queues:
            self._loop.remove_reader(queue.fd)

    def _tun_readable(self, queue: Tun) -> None:
        try:
            turn = self._from_host.turn(queue)
        except OSError as error:
            _log.info("interface is gone: %s", error)
            self._tun_gone()
            return
        if queue is self._steering.bulk:
            self._turned(turn, self._reached)
            self._reached.clear()
        if self._steering.remembers:
            self._steering.age(clock.now())
        self._settle()

    def _send_packets(self, batch: PacketBatch) -> None:
        self._interface.send_packets(batch, clock.now())
        # The rows are used again by the next batch.
        self._flush()

    def _pause(self, pause: bool) -> None:
        """Let the host wait while a socket is full: its queue is the place to drop."""
        if pause:
            self._leave_tun()
        else:
            self._read_tun()

    def _flush(self) -> None:
        """Move what the core has to give."""
        transmits = self._interface.poll_transmits()
        if transmits:
            self._reached.update(id(transmit.path) for transmit in transmits)
            self._network.send(transmits)
        packets = self._interface.poll_packets()
        if packets:
            self._to_host.write(packets)

    def _settle(self) -> None:
        """The end of every turn."""
        raise NotImplementedError

    def _turned(self, turn: Turn, reached: Set[int]) -> None:
        """So much was read from the last queue, and all since left along so many paths."""

    def _tun_gone(self) -> None:
        """The interface was deleted."""
        raise NotImplementedError
