"""Netlink as far as WireGuard needs it: attributes, requests, dumps (linux/netlink.h).

Not pyroute2's sockets: theirs cannot be used beside a running event loop, and cost a tenth of a
second to import, which every `wgpy show` would pay.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from errno import EINTR, ENOENT, ETIMEDOUT
from types import TracebackType
from typing import Self

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_EXCL = 0x200
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
_NLM_F_DUMP_INTR = 0x10

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
# Length, type, flags, sequence number, port.
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF

_NETLINK_GENERIC = 16
_GENL_ID_CTRL = 0x10
_CTRL_CMD_GETFAMILY = 3
_CTRL_ATTR_FAMILY_ID = 1
_CTRL_ATTR_FAMILY_NAME = 2
_GENL_HEADER = struct.Struct("=BBH")

# Larger than any part of a dump: the kernel makes parts of 32 KiB at most.
_RECEIVE_SIZE = 256 * 1024
_TIMEOUT = 30.0


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, value: bytes) -> bytes:
    """An attribute whose value is attributes."""
    return attribute(kind | _NLA_F_NESTED, value)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute in `data`."""
    position = 0
    while position + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, position)
        if size < 4:
            return
        yield kind & _NLA_TYPE_MASK, data[position + 4 : position + size]
        position += size + (-size % 4)


class Netlink:
    """A netlink socket in the present network namespace."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        self._socket.settimeout(_TIMEOUT)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def request(self, kind: int, flags: int, payload: bytes) -> list[bytes]:
        """Send one message; the payloads of all answers.

        OSError with the kernel's errno; EINTR for a dump that was disturbed: ask again.
        """
        self._sequence += 1
        flags |= NLM_F_REQUEST
        if flags & NLM_F_DUMP != NLM_F_DUMP:
            flags |= NLM_F_ACK
        size = _HEADER.size + len(payload)
        self._socket.send(_HEADER.pack(size, kind, flags, self._sequence, 0) + payload)
        found: list[bytes] = []
        while not self._receive(found):
            pass
        return found

    def _receive(self, found: list[bytes]) -> bool:
        """Add the payloads of one datagram; whether it ended the answer."""
        try:
            data = self._socket.recv(_RECEIVE_SIZE)
        except TimeoutError:
            message = f"the kernel did not answer within {_TIMEOUT:g} seconds"
            raise OSError(ETIMEDOUT, message) from None
        position = 0
        while position < len(data):
            size, kind, flags, sequence, _ = _HEADER.unpack_from(data, position)
            payload = data[position + _HEADER.size : position + size]
            position += size + (-size % 4)
            if sequence != self._sequence:
                continue
            if flags & _NLM_F_DUMP_INTR:
                raise InterruptedError(EINTR, "the dump was disturbed")
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                if number := -int.from_bytes(payload[:4], sys.byteorder, signed=True):
                    raise OSError(number, os.strerror(number))
                return True
            found.append(payload)
        return False


class GenericNetlink:
    """Commands of one generic netlink family. OSError ENOENT if the kernel has none of the name.

    Asking for a family loads the module that has it.
    """

    def __init__(self, family: str, version: int) -> None:
        self._version = version
        self._netlink = Netlink(_NETLINK_GENERIC)
        try:
            self._family = self._resolve(family)
        except BaseException:
            self._netlink.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._netlink.close()

    def _resolve(self, family: str) -> int:
        name = attribute(_CTRL_ATTR_FAMILY_NAME, family.encode() + b"\0")
        header = _GENL_HEADER.pack(_CTRL_CMD_GETFAMILY, 1, 0)
        for answer in self._netlink.request(_GENL_ID_CTRL, 0, header + name):
            for kind, value in attributes(answer[_GENL_HEADER.size :]):
                if kind == _CTRL_ATTR_FAMILY_ID:
                    return int.from_bytes(value, sys.byteorder)
        raise OSError(ENOENT, f"no generic netlink family {family}")

    def command(self, number: int, attributes: bytes, *, dump: bool = False) -> list[bytes]:
        """Send a command; the attributes of each answer. OSError as Netlink.request."""
        header = _GENL_HEADER.pack(number, self._version, 0)
        flags = NLM_F_DUMP if dump else 0
        answers = self._netlink.request(self._family, flags, header + attributes)
        return [answer[_GENL_HEADER.size :] for answer in answers]
