"""One TUN queue and one pair of UDP sockets around the core: packets in both directions."""

import asyncio
import logging
from collections.abc import Set

from tun import Tun
from wgpy.device import clock
from wgpy.device.fromhost import FromHost, Turn
from wgpy.device.network import Network
from wgpy.device.options import DeviceOptions
from wgpy.device.tohost import ToHost
from wgpy.protocol import multibuffer
from wgpy.protocol.batch import PacketBatch
from wgpy.protocol.interface import Interface

_log = logging.getLogger("wgpy.device")


class DataPath:
    """Moves packets while somebody above says when; `_settle` and `_tun_gone` are his."""

    def __init__(self, tun: Tun, interface: Interface, options: DeviceOptions) -> None:
        """On a running event loop; the TUN is not read yet."""
        self._loop = asyncio.get_running_loop()
        self._tun = tun
        self._interface = interface
        self._up = False
        # The paths that were sent along in this turn, by id.
        self._reached: set[int] = set()
        cipher = multibuffer.load() if options.multibuffer else None
        if cipher is not None:
            interface.use_cipher(cipher)
        _log.info("batches are sealed by %s", "libIPSec_MB" if cipher else "OpenSSL, one by one")
        self._from_host = FromHost(tun, self._send_packets, interface.drop)
        self._to_host = ToHost(tun, interface.drop)
        self._network = Network(self._loop, interface, self._flush, self._settle, self._pause)

    def _tun_readable(self) -> None:
        try:
            turn = self._from_host.turn()
        except OSError as error:
            _log.info("interface is gone: %s", error)
            self._tun_gone()
            return
        self._turned(turn, self._reached)
        self._reached.clear()
        self._settle()

    def _send_packets(self, batch: PacketBatch) -> None:
        self._interface.send_packets(batch, clock.now())
        # The rows are used again by the next batch.
        self._flush()

    def _pause(self, pause: bool) -> None:
        """Let the host wait while a socket is full: its queue is the place to drop."""
        if pause:
            self._loop.remove_reader(self._tun.fd)
        else:
            self._loop.add_reader(self._tun.fd, self._tun_readable)

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
        """So much was read from the TUN, and left along so many paths."""

    def _tun_gone(self) -> None:
        """The interface was deleted."""
        raise NotImplementedError
