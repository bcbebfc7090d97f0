"""Packets on the links of this host, by AF_PACKET, without the links' own headers."""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator

_ETH_P_ALL = 3
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_PACKET_OUTGOING = 4
_ARPHRD_LOOPBACK = 772
_BUFFER = 16 << 20
_LARGEST = 65575 + 64
_TURN = 64
_TIMESPEC = struct.Struct("qq")
# linux/if_packet.h
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
# Seen, of these dropped.
_STATISTICS = struct.Struct("II")
_SOCKADDR_LL = struct.Struct("=HHiHBB8s")
_UDP = 17
_HEADER_V6, _HEADER_UDP = 40, 8
_TRANSPORT = 4
# Type, index.
_SAME_SESSION = 8


class PacketSocket:
    """What a link, or all of them, sends and receives; OSError where it cannot be watched."""

    def __init__(self, interface: str | None, port: int | None) -> None:
        """`port`: datagrams of UDP from or to this port alone."""
        # Whether it is what is below an interface that is watched.
        self.outer = port is not None
        # Of no protocol until the filter is there.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        try:
            # More than the host's limit for all.
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            if port is not None:
                _attach(self._socket, _of_port(port))
            _bind(self._socket, socket.if_nametoindex(interface) if interface else 0)
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def read(self) -> Iterator[tuple[str, int, bytes]]:
        """Packets that wait: interface, nanoseconds since 1970, bytes from the IP header on."""
        for _ in range(_TURN):
            try:
                packet, ancillary, _, source = self._socket.recvmsg(_LARGEST, 64)
            except BlockingIOError:
                return
            name, _, kind, hardware = source[:4]
            # The loopback shows each packet on its way out and in.
            if hardware == _ARPHRD_LOOPBACK and kind == _PACKET_OUTGOING:
                continue
            for level, what, data in ancillary:
                if (level, what) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                    seconds, rest = _TIMESPEC.unpack(data[: _TIMESPEC.size])
                    yield name, seconds * 10**9 + rest, packet

    def lost(self) -> int:
        """How many packets came faster than they were read, since it was asked last."""
        told = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        drops: int = _STATISTICS.unpack(told)[1]
        return drops

    def close(self) -> None:
        self._socket.close()


def datagrams(packet: bytes) -> Iterator[bytes]:
    """A packet of WireGuard as it is on the wire.

    On links that segment by themselves one packet holds many messages of one session, all of one
    size but the last. They get headers of their own, without a checksum of UDP.
    """
    v4 = packet[0] >> 4 == 4
    header = 4 * (packet[0] & 15) if v4 else _HEADER_V6
    payload = packet[header + _HEADER_UDP :]
    size = payload.find(payload[:_SAME_SESSION], _SAME_SESSION)
    if payload[:1] != bytes([_TRANSPORT]) or size < 0:
        yield packet
        return
    rows = [payload[at : at + size] for at in range(0, len(payload), size)]
    if any(row[:_SAME_SESSION] != payload[:_SAME_SESSION] for row in rows):
        yield packet
        return
    for row in rows:
        length = _HEADER_UDP + len(row)
        udp = packet[header : header + 4] + struct.pack("!HH", length, 0)
        yield (_v4(packet[:header], length) if v4 else _v6(packet[:header], length)) + udp + row


def _v4(header: bytes, length: int) -> bytes:
    blank = header[:2] + struct.pack("!H", len(header) + length) + header[4:10] + b"\0\0"
    blank += header[12:]
    total = sum(struct.unpack(f"!{len(blank) // 2}H", blank))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return blank[:10] + struct.pack("!H", total ^ 0xFFFF) + blank[12:]


def _v6(header: bytes, length: int) -> bytes:
    return header[:4] + struct.pack("!H", length) + header[6:]


def _of_port(port: int) -> list[tuple[int, int, int, int]]:
    """A filter of the kernel (linux/filter.h): UDP over IPv4 or IPv6 from or to a port.

    Fragments but the first have no ports, and are left out.
    """
    byte, half, half_behind, header_length = 0x30, 0x28, 0x48, 0xB1
    shift, equal, any_bit, end = 0x74, 0x15, 0x45, 0x06
    return [
        # Operation, how many to skip if true and if false, operand.
        (byte, 0, 0, 0),
        (shift, 0, 0, 4),
        (equal, 0, 9, 4),
        # IPv4.
        (byte, 0, 0, 9),
        (equal, 0, 15, _UDP),
        (half, 0, 0, 6),
        (any_bit, 13, 0, 0x1FFF),
        (header_length, 0, 0, 0),
        (half_behind, 0, 0, 0),
        (equal, 9, 0, port),
        (half_behind, 0, 0, 2),
        (equal, 7, 8, port),
        # IPv6.
        (equal, 0, 7, 6),
        (byte, 0, 0, 6),
        (equal, 0, 5, _UDP),
        (half, 0, 0, _HEADER_V6),
        (equal, 2, 0, port),
        (half, 0, 0, _HEADER_V6 + 2),
        (equal, 0, 1, port),
        # Taken, and not.
        (end, 0, 0, 0xFFFFFFFF),
        (end, 0, 0, 0),
    ]


def _bind(sock: socket.socket, index: int) -> None:
    """To a link, or with 0 to all of them, for which Python's own bind has no word."""
    address = _SOCKADDR_LL.pack(socket.AF_PACKET, socket.htons(_ETH_P_ALL), index, 0, 0, 0, b"")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(sock.fileno(), address, len(address)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _attach(sock: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    pointer = struct.pack("HL", len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
