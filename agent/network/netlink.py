"""Netlink's framing, and a dump of routing (linux/netlink.h).

pyroute2 takes some 70 µs to read a route, and a node has six for each other node.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from struct import Struct

SOL_NETLINK = 270
NUMBER = Struct("=I")
SIGNED = Struct("=i")
_GET_STRICT_CHK = 12
_REQUEST, _DUMP = 0x1, 0x300
_ERROR, _DONE = 2, 3
# Length, kind, flags, sequence, port.
_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")
# Seconds; the kernel answers at once.
_TIMEOUT = 30.0
# The kernel puts 32 KiB into one answer at most.
RECEIVE_SIZE = 64 * 1024


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and body of each message."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            break
        yield kind, data[offset + _HEADER.size : offset + length]
        offset += -(-length // 4) * 4


def attributes(body: bytes, offset: int) -> dict[int, bytes]:
    """By type, those that begin at `offset`."""
    found = {}
    while offset + _ATTRIBUTE.size <= len(body):
        size, kind = _ATTRIBUTE.unpack_from(body, offset)
        if size < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = body[offset + _ATTRIBUTE.size : offset + size]
        offset += -(-size // 4) * 4
    return found


def dump(kind: int, body: bytes) -> Iterator[bytes]:
    """The bodies of all that `body` asks for, and of more where the kernel is old. OSError."""
    flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, flags, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_TIMEOUT)
        with suppress(OSError):  # before Linux 4.20
            sock.setsockopt(SOL_NETLINK, _GET_STRICT_CHK, 1)
        sock.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | _DUMP, 1, 0) + body)
        while True:
            for answer, told in messages(sock.recv(RECEIVE_SIZE)):
                if answer not in (_ERROR, _DONE):
                    yield told
                elif error := -SIGNED.unpack_from(told)[0]:
                    raise OSError(error, os.strerror(error))
                else:
                    return
