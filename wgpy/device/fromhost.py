"""Packets from the host: TUN reads become batches of rows, as large as arrival allows.

TUN -> scratch -> one super-packet -> its segments ------> rows of the slab -> the core
               -> packets of one size, read in a row ----'
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

from tun import BadSuperPacket, SplitPlan, Tun, finish_checksum, plan, virtio
from wgpy.device.sizes import LARGEST_PACKET, QUEUES, SEND_SLAB, TURN_BYTES, TURN_READS
from wgpy.device.steering import Steering
from wgpy.protocol.batch import Layout, PacketBatch, Slab, datagram_size
from wgpy.protocol.constants import TRANSPORT_HEADER_LEN
from wgpy.protocol.drops import DropReason

_log = logging.getLogger("wgpy.device")

# Super-packets of up to so many segments share a batch with others.
_FEW = 8
# Of a turn, as much is for each queue if all are full.
_SHARE_READS = TURN_READS // QUEUES
_SHARE_BYTES = TURN_BYTES // QUEUES


class Turn(NamedTuple):
    """What was read from one queue of the host's at once, and whether more may be there."""

    reads: int
    size: int
    super_packets: int
    stands: bool


class FromHost:
    """Reads a TUN; `send` takes each batch and is done with its slab when it returns."""

    def __init__(
        self,
        steering: Steering,
        send: Callable[[PacketBatch], None],
        drop: Callable[[DropReason], None],
    ) -> None:
        self.mtu = 0
        self._steering = steering
        self._send = send
        self._drop = drop
        self._slab = Slab(SEND_SLAB)
        self._header = memoryview(bytearray(virtio.HEADER_LEN))
        self._scratch = memoryview(bytearray(LARGEST_PACKET))
        # Packets gathered so far: rows of `_layout`, each `_size` bytes but perhaps the last.
        self._layout: Layout | None = None
        self._size = 0
        self._count = 0
        self._single_flow = False
        # The turn before found one packet, so this one's first may be alone as well.
        self._lone = False

    def turn(self, queue: Tun) -> Turn:
        """Read and send what is in a queue that is readable, within the bounds of one turn.

        OSError when the TUN is gone.
        """
        reads, size = 0, 0
        if queue is self._steering.bulk:
            for other in self._steering.early():
                before = self._read(other, _SHARE_READS, _SHARE_BYTES)
                reads += before.reads
                size += before.size
        turn = self._read(queue, TURN_READS - reads, max(TURN_BYTES - size, _SHARE_BYTES))
        self._flush()
        self._lone = reads + turn.reads == 1
        return turn

    def _read(self, queue: Tun, most: int, budget: int) -> Turn:
        """So many packets at most, and so many bytes and perhaps a packet."""
        header, scratch, read = self._header, self._scratch, queue.read
        reads, total, super_packets, stands = 0, 0, 0, True
        while reads < most and total < budget:
            try:
                size = read(header, scratch)
            except BlockingIOError:
                stands = False
                break
            reads += 1
            try:
                if header[1] != virtio.GSO_NONE:
                    super_packets += 1
                    split = plan(header, scratch[:size])
                    self._steering.sent(scratch)
                    self._cut(split)
                else:
                    if header[0] & virtio.NEEDS_CSUM:
                        finish_checksum(header, scratch[:size])
                    self._gather(scratch, size)
            except BadSuperPacket as error:
                _log.debug("packet from the host: %s", error)
                self._drop(DropReason.BAD_SUPER_PACKET)
            total += size
            if self._lone:
                # It need not wait for the read that finds nothing: 20 us where caches are cold.
                self._lone = False
                self._flush()
        return Turn(reads, total, super_packets, stands)

    def _gather(self, packet: memoryview, size: int) -> None:
        """Put one packet behind those gathered, if it fits them."""
        layout = self._room(size, 1)
        start = self._count * layout.stride + TRANSPORT_HEADER_LEN
        layout.slab.view[start : start + size] = packet[:size]
        self._gathered(1, size)

    def _cut(self, split: SplitPlan) -> None:
        """A few segments go behind those gathered as well; many are a batch by themselves."""
        if split.count > _FEW:
            self._flush()
            self._send_super_packet(split)
            return
        layout = self._room(split.segment_size, split.count)
        split.fill(layout.matrix[self._count :, TRANSPORT_HEADER_LEN:], 0, split.count)
        self._gathered(split.count, split.last_size)

    def _room(self, size: int, count: int) -> Layout:
        """Where `count` packets of `size` bytes go: behind those gathered, if they fit these."""
        layout = self._layout
        if layout is not None and self._count:
            # A shorter packet can only be the last one of a batch.
            fits = size == self._size or (size < self._size and count == 1)
            if fits and self._count + count <= layout.capacity:
                return layout
            self._flush()
        self._size = size
        self._layout = layout = self._slab.layout(datagram_size(size, self.mtu))
        return layout

    def _gathered(self, count: int, last_size: int) -> None:
        """`count` packets more, the last of which may be shorter."""
        # The first ones are of one flow if they come from one super-packet.
        self._single_flow = self._count == 0 and count > 1
        self._count += count
        if last_size < self._size:
            self._flush(last_size)

    def _flush(self, last_size: int | None = None) -> None:
        """Send what was gathered."""
        count, self._count = self._count, 0
        if count and self._layout is not None:
            last_size = last_size or self._size
            self._send_rows(self._layout, count, self._size, last_size, self._single_flow)

    def _send_super_packet(self, split: SplitPlan) -> None:
        size = split.segment_size
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
