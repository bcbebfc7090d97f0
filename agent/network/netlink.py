"""Netlink's messages, and a way to the kernel's routing for what is asked very often.

pyroute2 takes some 70 µs to read a route and 300 µs to set one, and a node among thousands has six
routes for each of the others.
"""

import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from errno import EINTR
from struct import Struct
from types import TracebackType
from typing import Self

from pyroute2.netlink.exceptions import NetlinkError

SOL_NETLINK = 270
NUMBER = Struct("=I")
SIGNED = Struct("=i")
# linux/netlink.h
_GET_STRICT_CHK = 12
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
REPLACE, CREATE = 0x100, 0x400
_DUMP_INTR = 0x10
_ERROR, _DONE = 2, 3
# Length, kind, flags, sequence, port.
_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")
# How often a dump is begun that changes of others disturb.
_ATTEMPTS = 10
# Seconds; the kernel answers at once.
_TIMEOUT = 30.0
# The kernel puts 32 KiB into one answer at most.
RECEIVE_SIZE = 64 * 1024


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, sequence number and body of each message."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            break
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
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


def packed(values: Mapping[int, bytes]) -> bytes:
    """Attributes by type, as `attributes` reads them."""
    return b"".join(
        _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)
        for kind, value in values.items()
    )


class Connection:
    """To the kernel's routing, in the network namespace of the thread that opens it; `with` it.

    What the kernel refuses is a NetlinkError, all else an OSError.
    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.settimeout(_TIMEOUT)
        self._sequence = 0
        with suppress(OSError):  # before Linux 4.20
            self._socket.setsockopt(SOL_NETLINK, _GET_STRICT_CHK, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All that `body` asks for, and more where the kernel is old.

        InterruptedError: others changed it all the time, so that some of it might be missing.
        """
        for _ in range(_ATTEMPTS):
            with suppress(InterruptedError):
                return list(self._asked(kind, _DUMP, body))
        raise InterruptedError(EINTR, f"disturbed {_ATTEMPTS} times while it was listed")

    def ask(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """What is answered to a question, or to a change that is made."""
        return list(self._asked(kind, _ACK | flags, body))

    def _asked(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        self._sequence += 1
        length = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(length, kind, _REQUEST | flags, self._sequence, 0) + body)
        while True:
            for answer, now, sequence, told in messages(self._socket.recv(RECEIVE_SIZE)):
                if sequence != self._sequence:
                    continue
                if now & _DUMP_INTR:
                    raise InterruptedError(EINTR, "the list was changed meanwhile")
                if answer not in (_ERROR, _DONE):
                    yield told
                elif error := -SIGNED.unpack_from(told)[0]:
                    raise NetlinkError(error)
                else:
                    return
