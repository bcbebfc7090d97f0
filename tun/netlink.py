"""As much rtnetlink as an interface needs (linux/netlink.h, rtnetlink.h, if_link.h)."""

import errno
import os
import socket
from collections.abc import Iterator
from struct import Struct

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWQDISC = 36
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x001, 0x004, 0x300
NLM_F_REPLACE, NLM_F_CREATE = 0x100, 0x400

_NLMSGHDR = Struct("=IHHII")
_RTATTR = Struct("=HH")
_INT = Struct("=i")
_RECEIVE_SIZE = 64 * 1024


def open_socket(groups: int = 0) -> socket.socket:
    """A rtnetlink socket of the calling thread's network namespace, subscribed to `groups`.

    It blocks unless it is subscribed.
    """
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | (socket.SOCK_NONBLOCK if groups else 0)
    sock = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    try:
        sock.bind((0, groups))
    except BaseException:
        sock.close()
        raise
    return sock


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded."""
    return _RTATTR.pack(_RTATTR.size + len(data), kind) + data + bytes(-len(data) % 4)


def attributes(data: bytes, offset: int) -> dict[int, bytes]:
    """The attributes from `offset` on; of several of one kind the last."""
    found = {}
    while offset + _RTATTR.size <= len(data):
        size, kind = _RTATTR.unpack_from(data, offset)
        if size < _RTATTR.size:
            break
        found[kind & 0x3FFF] = data[offset + _RTATTR.size : offset + size]
        offset += -(-size // 4) * 4
    return found


def request(sock: socket.socket, kind: int, flags: int, body: bytes) -> list[bytes]:
    """Ask the kernel; the bodies of its answers. OSError if it refuses."""
    length = _NLMSGHDR.size + len(body)
    sock.send(_NLMSGHDR.pack(length, kind, NLM_F_REQUEST | flags, 0, 0) + body)
    answers: list[bytes] = []
    while True:
        for kind_, answer in messages(sock.recv(_RECEIVE_SIZE)):
            if kind_ == _NLMSG_DONE:
                return answers
            if kind_ == _NLMSG_ERROR:
                (number,) = _INT.unpack_from(answer)
                if number:
                    raise OSError(-number, os.strerror(-number))
                return answers
            answers.append(answer)
        if not flags & (NLM_F_DUMP | NLM_F_ACK):
            return answers


def drain(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """(type, body) of all events that wait on a subscribed socket.

    (0, b"") stands for events that were lost because there were too many.
    """
    while True:
        try:
            data = sock.recv(_RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            yield 0, b""
            continue
        yield from messages(data)


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each message in one datagram."""
    offset = 0
    while offset + _NLMSGHDR.size <= len(data):
        length, kind, *_ = _NLMSGHDR.unpack_from(data, offset)
        if length < _NLMSGHDR.size:
            return
        yield kind, data[offset + _NLMSGHDR.size : offset + length]
        offset += -(-length // 4) * 4
