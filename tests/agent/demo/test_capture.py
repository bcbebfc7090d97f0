"""What a frame on the underlay tells somebody in between."""

from __future__ import annotations

import random
import struct
from ipaddress import ip_address

import pytest

from agent.demo.capture import Kind, classify_untrusted
from agent.demo.talker import MARKER

_PORTS = range(51871, 51873)
_DATA = b"\x04\x00\x00\x00"


def ethernet(kind: int, rest: bytes) -> bytes:
    return bytes(12) + kind.to_bytes(2, "big") + rest


def ipv4(protocol: int, body: bytes, source: str = "198.18.0.11", to: str = "198.18.0.12") -> bytes:
    addresses = b"".join(ip_address(address).packed for address in (source, to))
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    return ethernet(0x0800, header + addresses + body)


def udp(body: bytes, port: int = 51871) -> bytes:
    return ipv4(17, struct.pack(">HHHH", 51872, port, 8 + len(body), 0) + body)


def arp(sender: str, target: str) -> bytes:
    one, other = (ip_address(address).packed for address in (sender, target))
    return ethernet(0x0806, bytes(14) + one + bytes(6) + other)


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (udp(_DATA + bytes(28)), "data"),
        (udp(_DATA + bytes(1000), 51872), "data"),
        (udp(b"\x01\x00\x00\x00" + bytes(144)), "handshake"),
        (udp(b"\x02\x00\x00\x00" + bytes(88)), "handshake"),
        (udp(b"\x03\x00\x00\x00" + bytes(60)), "handshake"),
        # On another port, shorter than any, with bits that are zero, of no type: no WireGuard.
        (udp(_DATA + bytes(28), 53), "other"),
        (udp(_DATA + bytes(27)), "other"),
        (udp(b"\x04\x00\x01\x00" + bytes(28)), "other"),
        (udp(b"\x05\x00\x00\x00" + bytes(28)), "other"),
        (ipv4(6, struct.pack(">HH", 40000, 6443)), "api"),
        (ipv4(6, struct.pack(">HH", 6443, 40000)), "api"),
        (ipv4(6, struct.pack(">HH", 40000, 80)), "other"),
        (arp("198.18.0.11", "198.18.0.12"), "neighbours"),
        (ethernet(0x86DD, bytes(60)), "other"),
        (b"", "other"),
        # In the clear: by what is said, by either address, in a quote, in a tunnel.
        (udp(MARKER), "clear"),
        (udp(_DATA + bytes(28) + MARKER), "clear"),
        (ipv4(17, bytes(8), source="10.244.1.2"), "clear"),
        (ipv4(6, bytes(20), to="10.244.1.2"), "clear"),
        (arp("10.244.1.2", "198.18.0.12"), "clear"),
        (arp("198.18.0.11", "10.244.1.2"), "clear"),
        (ipv4(1, bytes(8) + ipv4(17, b"", "10.244.1.2", "10.244.2.2")[14:]), "clear"),
        (udp(bytes(8) + ipv4(17, b"", "10.244.1.2", "10.244.2.2"), 4789), "clear"),
    ],
)
def test_a_frame_is_what_can_be_read_of_it(frame: bytes, kind: Kind) -> None:
    assert classify_untrusted(frame, _PORTS) == kind


def test_no_frame_is_too_odd() -> None:
    source = random.Random(1)
    whole = [udp(_DATA + bytes(28)), arp("198.18.0.11", "10.244.1.2"), ipv4(6, bytes(20))]
    for frame in whole:
        for length in range(len(frame)):
            classify_untrusted(frame[:length], _PORTS)
    for _ in range(2000):
        classify_untrusted(source.randbytes(source.randrange(80)), _PORTS)
