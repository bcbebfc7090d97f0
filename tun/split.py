"""A super-packet of the host becomes its segments, as a network card would cut it.

    plan             which header is which, checked: nothing that the host says is believed
    SplitPlan.fill   payload in one copy, one header for all rows, then what differs as columns
    finish_checksum  the same for a packet that is no super-packet: only its checksum is open

Sources: the kernel's inet_gso_segment, ipv6_gso_segment, tcp_gso_segment and
__udp_gso_segment; virtio 1.2, section 5.1.6.
"""

from functools import lru_cache
from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tun import virtio
from tun.checksum import checksum, ones_complement_sum, row_sums, swapped
from tun.errors import BadSuperPacket

_TCP, _UDP = 6, 17
_FIN_PSH, _CWR = 0x09, 0x80
_EXTENSIONS = frozenset((0, 43, 60))  # hop-by-hop, routing, destination options
_IPV4_LEN, _IPV6_LEN, _TCP_LEN, _UDP_LEN = 20, 40, 20, 8
_LARGEST_LENGTH = 0xFFFF
# Offsets of the checksum in the transport header.
_CHECKSUM = {_TCP: 16, _UDP: 6}
_U16, _U32 = Struct(">H"), Struct(">I")
_BE16, _BE32, _LE16 = np.dtype(">u2"), np.dtype(">u4"), np.dtype("<u2")
# Beyond that a plan's columns are not worth keeping (each of them is 8 bytes a segment).
_COUNT_KEPT = 2048


class _Columns(NamedTuple):
    """What depends only on sizes: uint64, one for each segment."""

    number: NDArray[np.uint64]
    sequence: NDArray[np.uint64]  # payload bytes before the segment
    length: NDArray[np.uint64]  # of the packet
    l4_length: NDArray[np.uint64]  # of the transport header and payload; swapped


class SplitPlan:
    """How one super-packet becomes `count` packets; made by `plan`.

    `segment_size`: bytes of each packet but the last, which has `last_size`, headers included.
    """

    __slots__ = (
        "_address_sum", "_data", "_gso_size", "_l4", "_packet", "_protocol", "_version",
        "count", "last_size", "segment_size",
    )  # fmt: skip

    def __init__(
        self, packet: memoryview, version: int, protocol: int, l4: int, data: int, gso_size: int
    ) -> None:
        payload = len(packet) - data
        self.count = -(-payload // gso_size)
        self.segment_size = data + gso_size
        self.last_size = data + payload - (self.count - 1) * gso_size
        self._packet = packet
        self._version = version
        self._protocol = protocol
        self._l4 = l4
        self._data = data
        self._gso_size = gso_size
        # The pseudo-header's sum, as the host left it in the checksum field, without the length:
        # of addresses and protocol. So the kernel does it; with a routing header the destination
        # is not the one in the IPv6 header.
        partial = _U16.unpack_from(packet, l4 + _CHECKSUM[protocol])[0]
        self._address_sum = (partial - (len(packet) - l4)) % 0xFFFF

    def fill(self, rows: NDArray[np.uint8], first: int, count: int) -> None:
        """Write segments first .. first + count to the first rows, from column 0 on.

        `rows`: uint8 (>= count, >= segment_size), not overlapping the packet. What is left of a
        shorter last segment's row, up to segment_size, becomes zero.
        """
        data, gso_size, l4 = self._data, self._gso_size, self._l4
        rows = rows[:count, : self.segment_size]
        is_last = first + count == self.count
        full = count - 1 if is_last else count
        start, end = data + first * gso_size, data + (first + full) * gso_size
        packet = np.frombuffer(self._packet, np.uint8)
        rows[:full, data:] = packet[start:end].reshape(full, gso_size)
        rows[:, :data] = np.frombuffer(self._common_header(), np.uint8)
        if is_last:
            rows[-1, data : self.last_size] = packet[end:]
            rows[-1, self.last_size :] = 0
            self._put_lengths(rows[-1].data, self.last_size)

        columns = self._columns()
        part = slice(first, first + count)
        if self._version == 4:
            self._fill_ipv4(rows, columns.number[part], columns.length[part])
        if self._protocol == _TCP:
            self._fill_tcp(rows, columns.sequence[part], first == 0, is_last)
        sums = row_sums(rows[:, l4:])
        sums += columns.l4_length[part]
        sums += np.uint64(swapped(self._address_sum))
        field = l4 + _CHECKSUM[self._protocol]
        column = rows[:, field : field + 2].view(_LE16)[:, 0]
        if self._protocol == _TCP:
            sums -= 1
            column[:] = 0xFFFE - sums % 0xFFFF
        else:
            # Zero says that there is no checksum: it becomes its twin 0xffff (RFC 768).
            column[:] = 0xFFFF - sums % 0xFFFF

    def _common_header(self) -> bytearray:
        """The headers of a segment in the middle, all checksums zero."""
        header, l4 = bytearray(self._packet[: self._data]), self._l4
        self._put_lengths(header, self.segment_size)
        if self._version == 4:
            _U16.pack_into(header, 10, 0)
        if self._protocol == _TCP:
            header[l4 + 13] &= ~(_FIN_PSH | _CWR)
        _U16.pack_into(header, l4 + _CHECKSUM[self._protocol], 0)
        return header

    def _put_lengths(self, header: bytearray | memoryview, size: int) -> None:
        if self._version == 4:
            _U16.pack_into(header, 2, size)
        else:
            _U16.pack_into(header, 4, size - _IPV6_LEN)
        if self._protocol == _UDP:
            _U16.pack_into(header, self._l4 + 4, size - self._l4)

    def _columns(self) -> _Columns:
        make = _columns if self.count <= _COUNT_KEPT else _columns.__wrapped__
        return make(self.count, self._l4, self._data, self._gso_size, self.last_size)

    def _fill_ipv4(
        self, rows: NDArray[np.uint8], number: NDArray[np.uint64], length: NDArray[np.uint64]
    ) -> None:
        packet = self._packet
        (ident,) = _U16.unpack_from(packet, 4)
        idents = number + np.uint64(ident)
        idents &= np.uint64(0xFFFF)
        rows[:, 4:6].view(_BE16)[:, 0] = idents
        # All words that are the same in every row. Not zero: it has the version.
        same = ones_complement_sum(packet[:2])
        same = ones_complement_sum(packet[6:10], same)
        same = ones_complement_sum(packet[12 : self._l4], same)
        idents += length
        idents += np.uint64(same - 1)
        rows[:, 10:12].view(_BE16)[:, 0] = 0xFFFE - idents % 0xFFFF

    def _fill_tcp(
        self, rows: NDArray[np.uint8], sequence: NDArray[np.uint64], first: bool, last: bool
    ) -> None:
        l4, packet = self._l4, self._packet
        (start,) = _U32.unpack_from(packet, l4 + 4)
        rows[:, l4 + 4 : l4 + 8].view(_BE32)[:, 0] = sequence + np.uint64(start)
        flags = packet[l4 + 13]
        if first:
            rows[0, l4 + 13] |= flags & _CWR
        if last:
            rows[-1, l4 + 13] |= flags & _FIN_PSH


def plan(header: memoryview, packet: memoryview) -> SplitPlan:
    """Check a super-packet and its virtio-net header. Raises BadSuperPacket.

    `packet` is read by `SplitPlan.fill` and must stay as it is until then.
    """
    flags, kind, _, gso_size, l4, field = virtio.unpack(header)
    kind &= ~virtio.GSO_ECN
    if not flags & virtio.NEEDS_CSUM:
        raise BadSuperPacket("super-packet without a partial checksum")
    if kind not in (virtio.GSO_TCPV4, virtio.GSO_TCPV6, virtio.GSO_UDP_L4):
        raise BadSuperPacket(f"unknown kind of super-packet: {kind}")
    version, protocol, found = _transport(packet)
    if version != {virtio.GSO_TCPV4: 4, virtio.GSO_TCPV6: 6}.get(kind, version):
        raise BadSuperPacket(f"IPv{version} in a super-packet of kind {kind}")
    if protocol != (_UDP if kind == virtio.GSO_UDP_L4 else _TCP):
        raise BadSuperPacket(f"protocol {protocol} in a super-packet of kind {kind}")
    if l4 != found or field != _CHECKSUM[protocol]:
        raise BadSuperPacket(f"checksum at {l4} + {field} of protocol {protocol} at {found}")
    # hdr_len is not looked at: for forwarded packets it may be anything.
    data = l4 + _UDP_LEN
    if protocol == _TCP:
        if len(packet) < l4 + _TCP_LEN:
            raise BadSuperPacket(f"{len(packet)} bytes end within the TCP header")
        data = l4 + (packet[l4 + 12] >> 4) * 4
        if data < l4 + _TCP_LEN:
            raise BadSuperPacket(f"a TCP header of {data - l4} bytes")
    if gso_size == 0 or len(packet) <= data:
        raise BadSuperPacket(f"{len(packet) - data} bytes in segments of {gso_size}")
    # One segment is as long as it is, whatever the host says.
    gso_size = min(gso_size, len(packet) - data)
    if data + gso_size > _LARGEST_LENGTH:
        raise BadSuperPacket(f"segments of {gso_size} bytes are too large")
    return SplitPlan(packet, version, protocol, l4, data, gso_size)


def finish_checksum(header: memoryview, packet: memoryview) -> None:
    """Complete a partial checksum in place. Raises BadSuperPacket if it is out of bounds."""
    flags, _, _, _, start, field = virtio.unpack(header)
    if not flags & virtio.NEEDS_CSUM:
        return
    if start + field + 2 > len(packet):
        raise BadSuperPacket(f"checksum at {start} + {field} in {len(packet)} bytes")
    # Its field holds the pseudo-header's sum. Never zero, as in the kernel's skb_checksum_help.
    _U16.pack_into(packet, start + field, checksum(packet[start:]) or 0xFFFF)


def _transport(packet: memoryview) -> tuple[int, int, int]:
    """IP version, transport protocol, and where it starts. Raises BadSuperPacket."""
    if len(packet) >= _IPV4_LEN and packet[0] >> 4 == 4:
        start = (packet[0] & 15) * 4
        if start < _IPV4_LEN or packet[6] & 0x3F or packet[7]:
            raise BadSuperPacket("IPv4 header too short, or a fragment")
        return 4, packet[9], start
    if len(packet) >= _IPV6_LEN and packet[0] >> 4 == 6:
        protocol, start = packet[6], _IPV6_LEN
        while protocol in _EXTENSIONS and start + 8 <= len(packet):
            protocol, start = packet[start], start + (packet[start + 1] + 1) * 8
        return 6, protocol, start
    raise BadSuperPacket(f"{len(packet)} bytes that are no IP packet")


@lru_cache(64)
def _columns(count: int, l4: int, data: int, gso_size: int, last_size: int) -> _Columns:
    number = np.arange(count, dtype=np.uint64)
    length = np.full(count, data + gso_size, np.uint64)
    length[-1] = last_size
    l4_length = (length - np.uint64(l4)).astype(np.uint16).byteswap().astype(np.uint64)
    return _Columns(number, number * np.uint64(gso_size), length, l4_length)
