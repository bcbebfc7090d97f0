"""sendmmsg and recvmmsg: many datagrams in one system call on kernels that do not join them.

Called through cffi's ABI mode, that is: the C library as it is on the host. Imported only
where it is needed, because declaring C to cffi takes some hundredths of a second.
"""

import errno
import socket
from typing import Any, NamedTuple

from cffi import FFI

from wgpy.protocol.batch import Buffer

_MAX_MESSAGES = 64
_MAX_DATAGRAM = 65536
_NAME_SIZE = 28
_CONTROL_SIZE = 128

_ffi = FFI()
_ffi.cdef("""
    struct iovec { void *iov_base; size_t iov_len; };
    struct msghdr {
        void *msg_name;
        unsigned int msg_namelen;
        struct iovec *msg_iov;
        size_t msg_iovlen;
        void *msg_control;
        size_t msg_controllen;
        int msg_flags;
    };
    struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
    int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags);
    int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, void *timeout);
""")
_libc: Any = _ffi.dlopen(None)


def can_send() -> bool:
    """Whether there is a sendmmsg."""
    return _works("sendmmsg", _ffi.NULL, 0, 0)


def can_receive() -> bool:
    """Whether there is a recvmmsg."""
    return _works("recvmmsg", _ffi.NULL, 0, 0, _ffi.NULL)


def _works(name: str, *arguments: object) -> bool:
    """Whether C library and kernel have a call, and no filter of system calls forbids it."""
    try:
        getattr(_libc, name)(-1, *arguments)
    except AttributeError:
        return False
    # It fails in any case: there is no descriptor -1.
    return bool(_ffi.errno == errno.EBADF)


class Sender:
    """Reusable message headers for sending."""

    def __init__(self) -> None:
        self._messages = _ffi.new("struct mmsghdr[]", _MAX_MESSAGES)
        self._parts = _ffi.new("struct iovec[]", _MAX_MESSAGES)
        for k in range(_MAX_MESSAGES):
            self._messages[k].msg_hdr.msg_iov = self._parts + k
            self._messages[k].msg_hdr.msg_iovlen = 1
        self._addressed = (b"", b"")

    def send(
        self, sock: socket.socket, name: bytes, control: bytes, whole: Buffer, segment: int
    ) -> tuple[int, int]:
        """Send `whole` in datagrams of `segment` bytes. Returns (bytes sent, errno).

        `name` is a struct sockaddr, `control` what msg_control holds; both for all datagrams.
        """
        size, sent, fd = len(whole), 0, sock.fileno()
        base = _ffi.from_buffer(whole)
        messages, parts = self._messages, self._parts
        if (name, control) != self._addressed:
            self._address(name, control)
        while sent < size:
            count = min(_MAX_MESSAGES, -(-(size - sent) // segment))
            for k in range(count):
                part = parts[k]
                part.iov_base = base + sent + k * segment
                part.iov_len = segment
            part.iov_len = min(segment, size - sent - (count - 1) * segment)
            taken = _libc.sendmmsg(fd, messages, count, 0)
            if taken < 0:
                return sent, _ffi.errno
            sent = min(size, sent + taken * segment)
        return sent, 0

    def _address(self, name: bytes, control: bytes) -> None:
        # Kept, because the headers point into them.
        self._addressed = name, control
        raw_name, raw_control = _ffi.from_buffer(name), _ffi.from_buffer(control)
        for k in range(_MAX_MESSAGES):
            header = self._messages[k].msg_hdr
            header.msg_name, header.msg_namelen = raw_name, len(name)
            header.msg_control, header.msg_controllen = raw_control, len(control)


class Run(NamedTuple):
    """Datagrams with one `name` and `control`: of `segment` bytes each but the last."""

    size: int
    segment: int
    name: bytes
    control: bytes


class Receiver:
    """Message headers and memory for receiving from one socket, and what waits there."""

    def __init__(self, sock: socket.socket) -> None:
        self._fd = sock.fileno()
        # Pages that no datagram was long enough for are never really there.
        self._data = memoryview(bytearray(_MAX_MESSAGES * _MAX_DATAGRAM))
        self._names = memoryview(bytearray(_MAX_MESSAGES * _NAME_SIZE))
        self._controls = memoryview(bytearray(_MAX_MESSAGES * _CONTROL_SIZE))
        self._messages = _ffi.new("struct mmsghdr[]", _MAX_MESSAGES)
        self._fresh = _ffi.new("struct mmsghdr[]", _MAX_MESSAGES)
        self._parts = _ffi.new("struct iovec[]", _MAX_MESSAGES)
        data, names, controls = map(_ffi.from_buffer, (self._data, self._names, self._controls))
        for k in range(_MAX_MESSAGES):
            self._parts[k].iov_base = data + k * _MAX_DATAGRAM
            self._parts[k].iov_len = _MAX_DATAGRAM
            header = self._fresh[k].msg_hdr
            header.msg_iov, header.msg_iovlen = self._parts + k, 1
            header.msg_name, header.msg_namelen = names + k * _NAME_SIZE, _NAME_SIZE
            header.msg_control = controls + k * _CONTROL_SIZE
            header.msg_controllen = _CONTROL_SIZE
        self._next = 0
        self._count = 0

    def receive(self, view: memoryview) -> Run | int:
        """Move a run of datagrams that belong together into `view`; or the errno why not."""
        if self._next == self._count:
            _ffi.memmove(self._messages, self._fresh, _ffi.sizeof(self._fresh))
            self._next = self._count = 0
            count = _libc.recvmmsg(self._fd, self._messages, _MAX_MESSAGES, 0, _ffi.NULL)
            if count <= 0:
                return int(_ffi.errno)
            self._count = count
        first = self._next
        name, control = self._of(first)
        size = segment = self._take(view, 0)
        while (
            self._next < self._count
            and 0 < self._messages[self._next].msg_len <= min(segment, len(view) - size)
            and self._of(self._next) == (name, control)
        ):
            length = self._take(view, size)
            size += length
            if length < segment:
                break
        return Run(size, segment, name, control)

    def _of(self, k: int) -> tuple[bytes, bytes]:
        header = self._messages[k].msg_hdr
        name, control = k * _NAME_SIZE, k * _CONTROL_SIZE
        return (
            bytes(self._names[name : name + header.msg_namelen]),
            bytes(self._controls[control : control + header.msg_controllen]),
        )

    def _take(self, view: memoryview, offset: int) -> int:
        """Copy the next datagram to `offset`; returns its length."""
        start, length = self._next * _MAX_DATAGRAM, int(self._messages[self._next].msg_len)
        view[offset : offset + length] = self._data[start : start + length]
        self._next += 1
        return length
