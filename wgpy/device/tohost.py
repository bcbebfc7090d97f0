"""Packets to the host: rows of one batch become as few TUN writes as the kernel's rules allow."""

import errno
import logging
from collections.abc import Callable, Sequence

from tun import coalesce, virtio
from wgpy.device.steering import Steering
from wgpy.protocol.batch import Buffer, PacketRows
from wgpy.protocol.constants import TRANSPORT_HEADER_LEN
from wgpy.protocol.drops import DropReason

_log = logging.getLogger("wgpy.device")


class ToHost:
    """Writes to a TUN; what it refuses is counted through `drop`."""

    def __init__(self, steering: Steering, drop: Callable[[DropReason, int], None]) -> None:
        self._queue_for = steering.queue_for
        self._offloads = steering.bulk.offloads
        self._drop = drop

    def write(self, packets: list[PacketRows | Buffer]) -> None:
        """Write packets in order."""
        for item in packets:
            if not isinstance(item, PacketRows):
                self._write([virtio.HEADER_NONE, item], 1)
                continue
            count = len(item.lengths)
            rows = item.layout.matrix[item.first : item.first + count, TRANSPORT_HEADER_LEN:]
            for group in coalesce(rows, item.lengths, self._offloads):
                self._write(group.buffers, group.packets)

    def _write(self, buffers: Sequence[Buffer], packets: int) -> None:
        try:
            self._queue_for(buffers[1]).write(buffers)
        except BlockingIOError:
            self._drop(DropReason.TUN_FULL, packets)
        except OSError as error:
            # EIO: the link is down. EINVAL: the kernel does not like the packet.
            if error.errno == errno.ENOBUFS or error.errno == errno.ENOMEM:
                self._drop(DropReason.TUN_FULL, packets)
                return
            _log.debug("packet to the host: %s", error)
            self._drop(DropReason.TUN_ERROR, packets)
