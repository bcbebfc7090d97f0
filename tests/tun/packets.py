"""Packets for the tests, built and checked byte by byte: the reference for the column-wise code."""

import struct
from dataclasses import dataclass, replace

from tun import virtio

FIN, SYN, PSH, ACK, URG, ECE, CWR = 0x01, 0x02, 0x08, 0x10, 0x20, 0x40, 0x80
TCP, UDP = 6, 17
_V4 = b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02"
_V6 = b"\xfd" + bytes(14) + b"\x01", b"\xfd" + bytes(14) + b"\x02"


def internet_sum(data: bytes) -> int:
    """RFC 1071, a word at a time."""
    if len(data) % 2:
        data += b"\0"
    total = 0
    for k in range(0, len(data), 2):
        total += data[k] << 8 | data[k + 1]
        total = (total & 0xFFFF) + (total >> 16)
    return total


def put16(data: bytes, offset: int, value: int) -> bytes:
    return data[:offset] + struct.pack(">H", value) + data[offset + 2 :]


@dataclass(frozen=True)
class Packet:
    """One TCP or UDP packet, field by field."""

    payload: bytes
    version: int = 4
    protocol: int = TCP
    seq: int = 1000
    ack: int = 7
    flags: int = ACK
    ident: int = 100
    ttl: int = 64
    tos: int = 0
    fragment: int = 0x4000
    ip_options: bytes = b""
    extension: bytes = b""
    tcp_options: bytes = b""
    window: int = 500
    source_port: int = 1234
    destination_port: int = 80
    last_address_byte: int = 2

    def l4_offset(self) -> int:
        return 20 + len(self.ip_options) if self.version == 4 else 40 + len(self.extension)

    def header_length(self) -> int:
        return self.l4_offset() + (20 + len(self.tcp_options) if self.protocol == TCP else 8)

    def addresses(self) -> tuple[bytes, bytes]:
        source, destination = _V4 if self.version == 4 else _V6
        return source, destination[:-1] + bytes([self.last_address_byte])

    def l4(self) -> bytes:
        """The transport header and payload, checksum zero."""
        ports = struct.pack(">HH", self.source_port, self.destination_port)
        if self.protocol == UDP:
            return ports + struct.pack(">HH", 8 + len(self.payload), 0) + self.payload
        offset = (20 + len(self.tcp_options)) // 4 << 4
        fixed = struct.pack(">IIBBHHH", self.seq, self.ack, offset, self.flags, self.window, 0, 0)
        return ports + fixed + self.tcp_options + self.payload

    def pseudo_sum(self) -> int:
        source, destination = self.addresses()
        return internet_sum(
            source + destination + struct.pack(">II", len(self.l4()), self.protocol)
        )

    def checksum_offset(self) -> int:
        return 16 if self.protocol == TCP else 6

    def ip(self) -> bytes:
        """The network header with its checksum."""
        source, destination = self.addresses()
        length = len(self.l4())
        if self.version == 4:
            head = struct.pack(
                ">BBHHHBBH",
                0x40 | self.l4_offset() // 4,
                self.tos,
                (self.l4_offset() + length) & 0xFFFF,
                self.ident,
                self.fragment,
                self.ttl,
                self.protocol,
                0,
            )
            head += source + destination + self.ip_options
            return put16(head, 10, 0xFFFF - internet_sum(head))
        following = bytes([0 if self.extension else self.protocol])
        head = struct.pack(">IH", 6 << 28 | self.tos << 20, (len(self.extension) + length) & 0xFFFF)
        return head + following + bytes([self.ttl]) + source + destination + self.extension

    def encode(self) -> bytes:
        """The packet with all checksums."""
        l4 = self.l4()
        check = 0xFFFF - internet_sum(struct.pack(">H", self.pseudo_sum()) + l4)
        if self.protocol == UDP and check == 0:
            check = 0xFFFF
        return self.ip() + put16(l4, self.checksum_offset(), check)

    def partial(self) -> bytes:
        """As the host hands it over: the checksum field holds the pseudo-header's sum."""
        return self.ip() + put16(self.l4(), self.checksum_offset(), self.pseudo_sum())

    def virtio(self, gso_size: int = 0, gso_type: int | None = None) -> bytes:
        """The virtio-net header for `partial`; a super-packet with `gso_size`."""
        if gso_type is None:
            gso_type = virtio.GSO_NONE
            if gso_size and self.protocol == UDP:
                gso_type = virtio.GSO_UDP_L4
            elif gso_size:
                gso_type = virtio.GSO_TCPV4 if self.version == 4 else virtio.GSO_TCPV6
        return virtio.Header(
            virtio.NEEDS_CSUM,
            gso_type,
            self.header_length(),
            gso_size,
            self.l4_offset(),
            self.checksum_offset(),
        ).pack()

    def segments(self, size: int) -> list["Packet"]:
        """What the network card would send for a super-packet of `size` bytes a segment."""
        starts = range(0, len(self.payload), size)
        found = []
        for k, start in enumerate(starts):
            flags = self.flags
            if start != starts[0]:
                flags &= ~CWR
            if start != starts[-1]:
                flags &= ~(FIN | PSH)
            found.append(
                replace(
                    self,
                    payload=self.payload[start : start + size],
                    flags=flags,
                    seq=(self.seq + start) % 2**32,
                    ident=(self.ident + k) % 2**16,
                )
            )
        return found


def options_header(protocol: int, length: int = 8) -> bytes:
    """An IPv6 hop-by-hop header of padding before `protocol`."""
    return bytes([protocol, length // 8 - 1, 1, length - 4]) + bytes(length - 4)


def segments_of(header: bytes, packet: bytes) -> list[bytes]:
    """Segment any written group again, as the kernel would: reference for coalescing."""
    h = virtio.unpack(header)
    if not h.flags & virtio.NEEDS_CSUM:
        return [packet]
    protocol = TCP if h.csum_offset == 16 else UDP
    version = packet[0] >> 4
    l4 = h.csum_start
    data = l4 + (packet[l4 + 12] >> 4) * 4 if protocol == TCP else l4 + 8
    source, destination = (
        (packet[12:16], packet[16:20]) if version == 4 else (packet[8:24], packet[24:40])
    )
    whole = internet_sum(source + destination + struct.pack(">II", len(packet) - l4, protocol))
    assert struct.unpack_from(">H", packet, l4 + h.csum_offset)[0] == whole, "partial checksum"
    if version == 4:
        assert internet_sum(packet[: (packet[0] & 15) * 4]) == 0xFFFF, "IPv4 checksum"
        assert struct.unpack_from(">H", packet, 2)[0] == len(packet)
    else:
        assert struct.unpack_from(">H", packet, 4)[0] == len(packet) - 40
    size = h.gso_size or len(packet) - data
    payload = packet[data:]
    (ident,), (seq,) = struct.unpack_from(">H", packet, 4), struct.unpack_from(">I", packet, l4 + 4)
    found = []
    starts = range(0, len(payload), size) if payload else range(1)
    for k, start in enumerate(starts):
        part = payload[start : start + size]
        head = packet[:data]
        length = data - l4 + len(part)
        if version == 4:
            head = put16(put16(head, 2, l4 + length), 4, (ident + k) % 2**16)
            head = put16(put16(head, 10, 0), 10, 0xFFFF - internet_sum(put16(head, 10, 0)[:l4]))
        else:
            head = put16(head, 4, l4 - 40 + length)
        if protocol == TCP:
            flags = head[l4 + 13]
            flags &= ~0 if start == starts[-1] else ~(FIN | PSH)
            flags &= ~0 if start == 0 else ~CWR
            head = head[: l4 + 4] + struct.pack(">I", (seq + start) % 2**32) + head[l4 + 8 :]
            head = head[: l4 + 13] + bytes([flags]) + head[l4 + 14 :]
        else:
            head = put16(head, l4 + 4, length)
        head = put16(head, l4 + h.csum_offset, 0)
        pseudo = source + destination + struct.pack(">II", length, protocol)
        check = 0xFFFF - internet_sum(pseudo + head[l4:] + part)
        if protocol == UDP and not check:
            check = 0xFFFF
        found.append(put16(head, l4 + h.csum_offset, check) + part)
    return found
