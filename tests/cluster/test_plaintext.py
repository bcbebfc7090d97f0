"""What a frame tells: the detector is not blind, and cries at nothing that is encrypted."""

from __future__ import annotations

import os
import struct
from ipaddress import ip_address, ip_network

import pytest

from tests.cluster.plaintext import ARP, IPV4, IPV6, MARKER, Overlay, told_untrusted

OVERLAY: Overlay = [ip_network("10.244.0.0/16"), ip_network("fd00:244::/48")]
NODES = {4: ("198.18.0.11", "198.18.0.12"), 6: ("2001:2:0:1::11", "2001:2:0:1::12")}
PODS = {4: ("10.244.1.2", "10.244.2.2"), 6: ("fd00:244:0:1::2", "fd00:244:0:2::2")}
KIND = {4: IPV4, 6: IPV6}
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58


def packet(addresses: tuple[str, str], protocol: int, payload: bytes) -> bytes:
    source, destination = (ip_address(address) for address in addresses)
    if source.version == 4:
        header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
    else:
        header = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
    return header + source.packed + destination.packed + payload


def udp(port: int, payload: bytes) -> bytes:
    return struct.pack(">HHHH", port, port, 8 + len(payload), 0) + payload


@pytest.mark.parametrize("version", [4, 6])
def test_a_pods_own_packet_tells(version: int) -> None:
    for pair in (PODS[version], (NODES[version][0], PODS[version][1])):
        said = told_untrusted(KIND[version], packet(pair, TCP, b"\0" * 20), OVERLAY)
        assert "inner address" in said


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
def test_a_packet_that_another_carries_tells(outer: int, inner: int) -> None:
    carried = packet(PODS[inner], UDP, udp(53, b"question"))
    for payload in (carried, udp(4789, b"\x08" + b"\0" * 21 + carried), b"\x03\x01" * 4 + carried):
        said = told_untrusted(KIND[outer], packet(NODES[outer], UDP, payload), OVERLAY)
        assert "carried" in said and PODS[inner][0] in said


def test_asking_for_a_pods_link_address_tells() -> None:
    ask = struct.pack(">HHBBH", 1, IPV4, 6, 4, 1) + b"\2" * 6 + ip_address(NODES[4][0]).packed
    said = told_untrusted(ARP, ask + b"\0" * 6 + ip_address(PODS[4][1]).packed, OVERLAY)
    assert PODS[4][1] in said
    solicitation = b"\x87" + b"\0" * 7 + ip_address(PODS[6][1]).packed
    said = told_untrusted(IPV6, packet(NODES[6], ICMPV6, solicitation), OVERLAY)
    assert PODS[6][1] in said


def test_a_marked_payload_tells_whatever_carries_it() -> None:
    data = b"\4\0\0\0" + b"\0" * 12 + MARKER + b"\0" * 16
    assert "payload" in told_untrusted(IPV4, packet(NODES[4], UDP, udp(51871, data)), OVERLAY)


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_encrypted_tells_nothing(version: int) -> None:
    for kind in (1, 2, 3, 4):
        message = bytes((kind, 0, 0, 0)) + os.urandom(1400)
        frame = packet(NODES[version], UDP, udp(51871, message))
        assert told_untrusted(KIND[version], frame, OVERLAY) == ""
    segment = struct.pack(">HH", 40000, 6443) + os.urandom(1400)
    assert told_untrusted(KIND[version], packet(NODES[version], TCP, segment), OVERLAY) == ""


@pytest.mark.parametrize("kind", [ARP, IPV4, IPV6, 0x1234])
def test_a_frame_that_is_cut_off_is_no_error(kind: int) -> None:
    whole = packet(NODES[6], ICMPV6, b"\x87" + b"\0" * 30)
    for length in range(len(whole)):
        assert told_untrusted(kind, whole[:length], OVERLAY) == ""
