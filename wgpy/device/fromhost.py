"""Packets from the host: TUN reads become batches of rows, as large as arrival allows.

TUN -> scratch -> one super-packet -> its segments ------> rows of the slab -> the core
               -> packets of one size, read in a row ----'
"""

import logging
from collections.abc import Callable

from tun import BadSuperPacket, Tun, finish_checksum, plan, virtio
from wgpy.device.sizes import LARGEST_PACKET, SEND_SLAB, TURN_BYTES, TURN_READS
from wgpy.protocol.batch import Layout, PacketBatch, Slab, datagram_size
from wgpy.protocol.constants import TRANSPORT_HEADER_LEN
from wgpy.protocol.drops import DropReason

_log = logging.getLogger("wgpy.device")


class FromHost:
    """Reads one TUN; `send` takes each batch and is done with its slab when it returns."""

    def __init__(
        self,
        tun: Tun,
        send: Callable[[PacketBatch], None],
        drop: Callable[[DropReason], None],
    ) -> None:
        self.mtu = 0
        self._tun = tun
        self._send = send
        self._drop = drop
        self._slab = Slab(SEND_SLAB)
        self._header = memoryview(bytearray(virtio.HEADER_LEN))
        self._scratch = memoryview(bytearray(LARGEST_PACKET))
        # Packets gathered so far: rows of `_layout`, each `_size` bytes but perhaps the last.
        self._layout: Layout | None = None
        self._size = 0
        self._count = 0

    def turn(self) -> None:
        """Read and send what is there, within the bounds of one turn.

        OSError when the TUN is gone.
        """
        header, scratch, read = self._header, self._scratch, self._tun.read
        budget = TURN_BYTES
        for _ in range(TURN_READS):
            try:
                size = read(header, scratch)
            except BlockingIOError:
                break
            try:
                if header[1] != virtio.GSO_NONE:
                    self._flush()
                    self._send_super_packet(scratch[:size])
                else:
                    if header[0] & virtio.NEEDS_CSUM:
                        finish_checksum(header, scratch[:size])
                    self._gather(scratch, size)
            except BadSuperPacket as error:
                _log.debug("packet from the host: %s", error)
                self._drop(DropReason.BAD_SUPER_PACKET)
            budget -= size
            if budget <= 0:
                break
        self._flush()

    def _gather(self, packet: memoryview, size: int) -> None:
        """Put one packet behind those gathered, if it fits them."""
        if self._count and size > self._size:
            self._flush()
        if self._count == 0:
            self._size = size
            self._layout = self._slab.layout(datagram_size(size, self.mtu))
        layout = self._layout
        assert layout is not None
        start = self._count * layout.stride + TRANSPORT_HEADER_LEN
        layout.slab.view[start : start + size] = packet[:size]
        self._count += 1
        # A shorter packet can only be the last one of a batch.
        if size < self._size or self._count == layout.capacity:
            self._flush(size)

    def _flush(self, last_size: int | None = None) -> None:
        """Send what was gathered."""
        count, self._count = self._count, 0
        if count and self._layout is not None:
            self._send_rows(self._layout, count, self._size, last_size or self._size, False)

    def _send_super_packet(self, packet: memoryview) -> None:
        split = plan(self._header, packet)
        size = split.segment_size if split.count > 1 else split.last_size
        layout = self._slab.layout(datagram_size(size, self.mtu))
        rows = layout.matrix[:, TRANSPORT_HEADER_LEN:]
        for first in range(0, split.count, layout.capacity):
            count = min(layout.capacity, split.count - first)
            split.fill(rows, first, count)
            last = split.last_size if first + count == split.count else size
            self._send_rows(layout, count, size, last, True)

    def _send_rows(
        self, layout: Layout, count: int, size: int, last_size: int, single_flow: bool
    ) -> None:
        last_datagram = layout.size if last_size == size else datagram_size(last_size, self.mtu)
        if count == 1 and last_datagram != layout.size:
            layout = self._slab.layout(last_datagram)
            size = last_size
        self._send(PacketBatch(layout, count, size, last_size, last_datagram, single_flow))
