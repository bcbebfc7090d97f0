"""Packets with any source, put on an interface past all that would refuse to send them."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

from interop.netns import Namespace

_ETHERTYPE = {4: 0x0800, 6: 0x86DD}
_PORT = 4800
_UDP = 17


def forge(namespace: Namespace, device: str, source: str, destination: str, mac: str = "") -> None:
    """One UDP datagram, in a frame for `mac` where the device has frames."""
    version = ip_address(source).version
    packet = _packet(version, ip_address(source).packed, ip_address(destination).packed)
    with namespace.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((device, _ETHERTYPE[version]))
        own = sock.getsockname()[4]
        frame = b""
        if mac:
            frame = (
                bytes.fromhex(mac.replace(":", "")) + own + _ETHERTYPE[version].to_bytes(2, "big")
            )
        sock.send(frame + packet)


def listener(namespace: Namespace, address: str) -> socket.socket:
    """A socket that such datagrams for `address` come to."""
    version = ip_address(address).version
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    sock = namespace.socket(family, socket.SOCK_DGRAM)
    sock.bind((address, _PORT))
    sock.settimeout(1.0)
    return sock


def mac_address(namespace: Namespace, device: str) -> str:
    """Of a device, as text."""
    words = namespace.ip(f"-o link show {device}").split()
    return words[words.index("link/ether") + 1]


def _packet(version: int, source: bytes, destination: bytes) -> bytes:
    payload = b"forged"
    length = 8 + len(payload)
    pseudo = source + destination + struct.pack(">HH", _UDP, length)
    udp = struct.pack(">HHHH", _PORT, _PORT, length, 0) + payload
    udp = udp[:6] + struct.pack(">H", _checksum(pseudo + udp)) + udp[8:]
    if version == 6:
        return struct.pack(">IHBB", 6 << 28, length, _UDP, 64) + source + destination + udp
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, _UDP, 0) + source + destination
    return head[:10] + struct.pack(">H", _checksum(head)) + head[12:] + udp


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
