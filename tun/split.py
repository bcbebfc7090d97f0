"""A super-packet of the host becomes its segments, as a network card would cut it.

    plan             which header is which, checked: nothing that the host says is believed
    SplitPlan.fill   payload in one copy, one header for all rows, then what differs as columns
    finish_checksum  the same for a packet that is no super-packet: only its checksum is open

Sources: the kernel's inet_gso_segment, ipv6_gso_segment, tcp_gso_segment and
__udp_gso_segment; virtio 1.2, section 5.1.6.
"""

from functools import lru_cache
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from tun import virtio
from tun.checksum import DOWNWARDS, UPWARDS, checksum, ones_complement_sum, row_sums, swapped
from tun.errors import BadSuperPacket

_TCP, _UDP = 6, 17
_FIN_PSH, _CWR = 0x09, 0x80
_EXTENSIONS = frozenset((0, 43, 60))  # hop-by-hop, routing, destination options
_IPV4_LEN, _IPV6_LEN, _TCP_LEN, _UDP_LEN = 20, 40, 20, 8
_LARGEST_LENGTH = 0xFFFF
# Offsets of the checksum in the transport header.
_CHECKSUM = {_TCP: 16, _UDP: 6}
_U16, _U32, _LE = Struct(">H"), Struct(">I"), Struct("<H")
_BE16, _BE32, _LE16 = np.dtype(">u2"), np.dtype(">u4"), np.dtype("<u2")
_ONES = np.uint64(0xFFFF)


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
        is_last = first + count == self.count
        full = count - 1 if is_last else count
        start, end = data + first * gso_size, data + (first + full) * gso_size
        packet = np.frombuffer(self._packet, np.uint8)
        rows = rows[:count, : self.segment_size]
        rows[:full, data:] = packet[start:end].reshape(full, gso_size)
        header = self._common_header(self.segment_size)
        rows[:, :data] = np.frombuffer(header, np.uint8)
        if is_last:
            rows[-1, data : self.last_size] = packet[end:]
            if self.last_size != self.segment_size:
                rows[-1, :data] = np.frombuffer(self._common_header(self.last_size), np.uint8)
                rows[-1, self.last_size :] = 0
        if self._version == 4:
            self._number_ipv4(rows, header, first)
            if self.last_size != self.segment_size and is_last:
                self._finish_ipv4(rows[-1, :l4].data)
        if self._protocol == _TCP:
            self._fill_tcp(rows, first, is_last)
        # The field holds what the sum lacks: see _common_header.
        sums = row_sums(rows[:, l4:])
        sums %= _ONES
        field = l4 + _CHECKSUM[self._protocol]
        column = rows[:, field : field + 2].view(_LE16)[:, 0]
        np.subtract(0xFFFE if self._protocol == _TCP else 0xFFFF, sums, column, casting="unsafe")

    def _common_header(self, size: int) -> bytearray:
        """The headers of a segment of `size` bytes in the middle.

        The IPv4 checksum is zero. The other has the pseudo-header's sum, and in TCP one less:
        so its complement, 0xfffe less the remainder, becomes 0 and never 0xffff. In UDP zero would
        say that there is no checksum: it becomes its twin 0xffff (RFC 768).
        """
        header, l4 = bytearray(self._packet[: self._data]), self._l4
        partial = swapped((self._address_sum + size - l4) % 0xFFFF)
        if self._version == 4:
            _U16.pack_into(header, 2, size)
            _U16.pack_into(header, 10, 0)
        else:
            _U16.pack_into(header, 4, size - _IPV6_LEN)
        if self._protocol == _TCP:
            header[l4 + 13] &= ~(_FIN_PSH | _CWR)
            partial = (partial - 1) % 0xFFFF
        else:
            _U16.pack_into(header, l4 + 4, size - l4)
        _LE.pack_into(header, l4 + _CHECKSUM[self._protocol], partial)
        return header

    def _number_ipv4(self, rows: NDArray[np.uint8], header: bytearray, first: int) -> None:
        """Ids that count up, and so checksums that count down."""
        count = len(rows)
        ident = (_U16.unpack_from(header, 4)[0] + first) & 0xFFFF
        _U16.pack_into(header, 4, ident)
        idents = UPWARDS[ident : ident + count]
        rows[:, 4:6].view(_BE16)[:, 0] = idents
        total = ones_complement_sum(header[: self._l4]) - 1
        if ident + count <= 0x10000:
            sums = DOWNWARDS[total : total + count]
        else:
            # 0xffff and the 0 after it are the same number in this arithmetic.
            sums = 0xFFFE - (idents.astype(np.int64) + (total - ident)) % 0xFFFF
        rows[:, 10:12].view(_BE16)[:, 0] = sums

    @staticmethod
    def _finish_ipv4(header: memoryview) -> None:
        header[10:12] = b"\0\0"
        _U16.pack_into(header, 10, checksum(header))

    def _fill_tcp(self, rows: NDArray[np.uint8], first: int, is_last: bool) -> None:
        l4, packet, size = self._l4, self._packet, self._gso_size
        start = _U32.unpack_from(packet, l4 + 4)[0] + first * size
        # The column is cut to 32 bits, as the numbers wrap.
        rows[:, l4 + 4 : l4 + 8].view(_BE32)[:, 0] = _sequence(len(rows), size) + start
        flags = packet[l4 + 13]
        if first == 0:
            rows[0, l4 + 13] |= flags & _CWR
        if is_last:
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
def _sequence(count: int, gso_size: int) -> NDArray[np.int64]:
    """Payload bytes before each of `count` segments."""
    return np.arange(count) * gso_size
