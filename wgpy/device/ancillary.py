"""Control messages of UDP sockets: local address, interface and traffic class, both ways.

Also the raw forms of addresses and control messages, for sendmmsg and recvmmsg.
"""

import socket
import sys
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import TypeAlias

from wgpy.protocol.config import Endpoint
from wgpy.protocol.path import Path, Source

# Level, type, data: as recvmsg and sendmsg of the socket module have them.
ControlMessage: TypeAlias = tuple[int, int, bytes]
# As the socket module has it: (host, port), for IPv6 (host, port, flow label, scope).
Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

# include/uapi/linux/in.h
IP_PKTINFO = 8

# struct in_pktinfo: interface, address to answer from, address in the header.
_PKTINFO4 = Struct("=i4s4x")
# struct in6_pktinfo.
_PKTINFO6 = Struct("=16si")
_INT = Struct("=i")
# struct cmsghdr; each starts at a multiple of its first member's size.
_HEADER = Struct("@Nii")
_ALIGN = Struct("@N").size
_SOCKADDR4 = Struct("=H2s4s8x")
_SOCKADDR6 = Struct("=H2sI16sI")
# The byte of IP_TOS (1 byte) and of IPV6_TCLASS (an int) that holds the traffic class.
_TOS_BYTE = 0 if sys.byteorder == "little" else -1


def request(sock: socket.socket) -> None:
    """Ask the kernel for the control messages that `read` understands."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)


def read(messages: Iterable[ControlMessage]) -> tuple[bytes, int, int]:
    """The raw pktinfo (empty: none), the ECN bits, and the segment size of UDP_GRO (0: none)."""
    pktinfo, ecn, segment = b"", 0, 0
    for level, kind, data in messages:
        if level == socket.IPPROTO_UDP:
            (segment,) = _INT.unpack(data)
        elif kind == IP_PKTINFO or kind == socket.IPV6_PKTINFO:
            pktinfo = data
        else:
            ecn = data[_TOS_BYTE] & 3
    return pktinfo, ecn, segment


def path_of(address: Address, pktinfo: bytes) -> Path:
    """The way back to who sent from `address` to the local address in `pktinfo`."""
    host, port, *rest = address
    endpoint = Endpoint(host, port, rest[1] if rest else 0)
    if not pktinfo:
        return Path(endpoint)
    if endpoint.is_v6:
        packed, interface = _PKTINFO6.unpack(pktinfo)
        return Path(endpoint, Source(socket.inet_ntop(socket.AF_INET6, packed), interface))
    interface, packed = _PKTINFO4.unpack(pktinfo)
    return Path(endpoint, Source(socket.inet_ntoa(packed), interface))


def address_of(endpoint: Endpoint) -> Address:
    """Where sendmsg shall send to."""
    if endpoint.is_v6:
        return endpoint.host, endpoint.port, 0, endpoint.scope_id
    return endpoint.host, endpoint.port


def source_message(source: Source) -> ControlMessage:
    """Send from this address. The route chooses the interface, unless the address is link-local."""
    if ":" not in source.address:
        packed = socket.inet_aton(source.address)
        return socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO4.pack(0, packed)
    packed = socket.inet_pton(socket.AF_INET6, source.address)
    link_local = packed[0] == 0xFE and packed[1] & 0xC0 == 0x80
    data = _PKTINFO6.pack(packed, source.interface if link_local else 0)
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, data


def tos_message(tos: int, is_v6: bool) -> ControlMessage:
    """Send with this traffic class."""
    if is_v6:
        return socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _INT.pack(tos)
    return socket.IPPROTO_IP, socket.IP_TOS, _INT.pack(tos)


def pack_address(address: Address) -> bytes:
    """struct sockaddr_in or sockaddr_in6."""
    host, port, *rest = address
    packed_port = port.to_bytes(2, "big")
    if rest:
        packed = socket.inet_pton(socket.AF_INET6, host)
        return _SOCKADDR6.pack(socket.AF_INET6, packed_port, 0, packed, rest[1])
    return _SOCKADDR4.pack(socket.AF_INET, packed_port, socket.inet_aton(host))


def unpack_address(raw: bytes) -> Address:
    """The inverse of `pack_address`; `raw` may be longer."""
    if raw[:2] == socket.AF_INET6.to_bytes(2, sys.byteorder):
        _, port, _, packed, scope = _SOCKADDR6.unpack_from(raw)
        return socket.inet_ntop(socket.AF_INET6, packed), int.from_bytes(port, "big"), 0, scope
    _, port, packed = _SOCKADDR4.unpack_from(raw)
    return socket.inet_ntoa(packed), int.from_bytes(port, "big")


def pack_control(messages: list[ControlMessage]) -> bytes:
    """msg_control."""
    raw = bytearray()
    for level, kind, data in messages:
        raw += _HEADER.pack(_HEADER.size + len(data), level, kind) + data
        raw += bytes(-len(raw) % _ALIGN)
    return bytes(raw)


def unpack_control(raw: bytes) -> Iterator[ControlMessage]:
    """The inverse of `pack_control`, for what the kernel wrote."""
    offset = 0
    while offset + _HEADER.size <= len(raw):
        length, level, kind = _HEADER.unpack_from(raw, offset)
        yield level, kind, raw[offset + _HEADER.size : offset + length]
        offset += -(-length // _ALIGN) * _ALIGN
