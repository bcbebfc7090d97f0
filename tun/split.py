"""Super-packets from the host become packets: segmentation by column.

| IP | TCP or UDP | payload of many segments .............................. |
                        | IP | TCP | payload 0 |
                        | IP | TCP | payload 1 |    id, length, seq, flags, checksums
                        | IP | TCP | payl. 2 |      differ from row to row
"""

import numpy as np
from numpy.typing import NDArray

from tun import virtio
from tun.checksum import checksum, fold, row_sums, swapped
from tun.errors import BadSuperPacket

_TCP, _UDP = 6, 17
_UDP_HEADER = 8
_TCP_HEADER = 20
_FIN_PSH = 0x09
_CWR = 0x80
_CHECKSUM_OFFSET = {_TCP: 16, _UDP: 6}
_PROTOCOLS = {
    virtio.GSO_TCPV4: (4, _TCP),
    virtio.GSO_TCPV6: (6, _TCP),
    virtio.GSO_UDP_L4: (0, _UDP),
}


class SplitPlan:
    """How one super-packet is cut: `count` packets of `segment_size` bytes, the last shorter."""

    __slots__ = (
        "_header_len",
        "_l4",
        "_packet",
        "_payload",
        "_protocol",
        "count",
        "last_size",
        "segment_size",
    )

    def __init__(self, packet: memoryview, protocol: int, l4: int, header_len: int, gso: int):
        self._packet = np.frombuffer(packet, np.uint8)
        self._protocol = protocol
        self._l4 = l4
        self._header_len = header_len
        self._payload = gso
        payload = len(packet) - header_len
        self.count = max(1, -(-payload // gso))
        self.last_size = header_len + payload - (self.count - 1) * gso
        self.segment_size = header_len + gso if self.count > 1 else self.last_size

    def fill(self, rows: NDArray[np.uint8], first: int, count: int) -> None:
        """Write segments `first` .. `first + count` to rows 0 .. `count`.

        Rows are at least `segment_size` wide, contiguous each, and no part of the super-packet.
        """
        packet, header, gso = self._packet, self._header_len, self._payload
        rows = rows[:count]
        rows[:, :header] = packet[:header]
        start = header + first * gso
        whole = min(count, (len(packet) - start) // gso)
        rows[:whole, header : header + gso] = packet[start : start + whole * gso].reshape(-1, gso)
        has_last = first + count == self.count
        if whole < count:
            rows[whole, header : self.last_size] = packet[len(packet) - (self.last_size - header) :]
        if self._protocol == _TCP:
            self._number_tcp(rows, first, has_last)
        # Rows of one size are done together.
        end = count - 1 if has_last and self.last_size != self.segment_size else count
        if end:
            self._finish(rows[:end], first, self.segment_size)
        if end < count:
            self._finish(rows[end:], first + end, self.last_size)

    def _number_tcp(self, rows: NDArray[np.uint8], first: int, has_last: bool) -> None:
        """Sequence numbers and flags."""
        l4 = self._l4
        sequence = int.from_bytes(self._packet[l4 + 4 : l4 + 8].tobytes(), "big")
        numbers = np.arange(first, first + len(rows), dtype=np.uint64) * self._payload + sequence
        _column(rows, l4 + 4, ">u4")[:] = numbers & 0xFFFFFFFF
        flags = rows[:, l4 + 13]
        flags[: len(rows) - has_last] &= ~_FIN_PSH & 0xFF
        flags[first == 0 :] &= ~_CWR & 0xFF

    def _finish(self, rows: NDArray[np.uint8], first: int, size: int) -> None:
        """Lengths, ids and checksums of rows of `size` bytes."""
        l4 = self._l4
        l4_size = size - l4
        if rows[0, 0] >> 4 == 4:
            identification = int.from_bytes(self._packet[4:6].tobytes(), "big") + first
            ids = np.arange(identification, identification + len(rows)) & 0xFFFF
            _column(rows, 2, ">u2")[:] = size
            _column(rows, 4, ">u2")[:] = ids
            _column(rows, 10, "<u2")[:] = 0
            _column(rows, 10, "<u2")[:] = ~fold(row_sums(rows[:, : (rows[0, 0] & 15) * 4]))
            addresses = rows[0, 12:20]
        else:
            _column(rows, 4, ">u2")[:] = size - 40
            addresses = rows[0, 8:40]
        if self._protocol == _UDP:
            _column(rows, l4 + 4, ">u2")[:] = l4_size
        field = _column(rows, l4 + _CHECKSUM_OFFSET[self._protocol], "<u2")
        field[:] = 0
        sums = row_sums(rows[:, l4:size]) + row_sums(addresses[None, :])[0]
        checksums = ~fold(sums + np.uint64(swapped(self._protocol) + swapped(l4_size & 0xFFFF)))
        if self._protocol == _UDP:
            # Zero would mean that there is none.
            checksums[checksums == 0] = 0xFFFF
        field[:] = checksums


def _column(rows: NDArray[np.uint8], offset: int, dtype: str) -> NDArray[np.unsignedinteger]:
    width = int(dtype[-1])
    column: NDArray[np.unsignedinteger] = rows[:, offset : offset + width].view(dtype)[:, 0]
    return column


def plan(header: memoryview, packet: memoryview) -> SplitPlan:
    """Look at a super-packet and its virtio-net header. Raises BadSuperPacket."""
    _, gso_type, _, gso_size, l4, _ = virtio.unpack(header)
    kind = _PROTOCOLS.get(gso_type & ~virtio.GSO_ECN)
    if kind is None:
        raise BadSuperPacket(f"gso type {gso_type:#x} is none that was asked for")
    version, protocol = kind
    # The length of all headers is computed: hdr_len may be too small or too large.
    least = _TCP_HEADER if protocol == _TCP else _UDP_HEADER
    if len(packet) < 20 or (version and packet[0] >> 4 != version):
        raise BadSuperPacket("not the IP version that its gso type names")
    v4 = packet[0] >> 4 == 4
    ip_header = (packet[0] & 15) * 4 if v4 else 40
    if ip_header < 20 or l4 < ip_header or l4 % 2 or l4 + least > len(packet):
        raise BadSuperPacket(f"transport header at {l4} in {len(packet)} bytes")
    header_len = l4 + (packet[l4 + 12] >> 4) * 4 if protocol == _TCP else l4 + _UDP_HEADER
    if header_len < l4 + least or header_len > len(packet) or gso_size == 0:
        raise BadSuperPacket(f"headers of {header_len}, segments of {gso_size} bytes")
    return SplitPlan(packet, protocol, l4, header_len, gso_size)


def finish_checksum(header: memoryview, packet: memoryview) -> None:
    """Complete, in place, a checksum that the host left to us (NEEDS_CSUM).

    The field holds the sum of the pseudo-header. Raises BadSuperPacket.
    """
    *_, start, offset = virtio.unpack(header)
    if start + offset + 2 > len(packet):
        raise BadSuperPacket(f"checksum at {start}+{offset} in {len(packet)} bytes")
    # UDP may not say zero, and for TCP both zeros are one.
    value = checksum(packet[start:]) or 0xFFFF
    packet[start + offset : start + offset + 2] = value.to_bytes(2, "big")
