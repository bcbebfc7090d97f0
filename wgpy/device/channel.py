"""Messages between the processes of one interface: Python objects, and descriptors with them.

A pair of connected sockets that nobody else has; what comes is as trusted as this process itself.
"""

import asyncio
import os
import pickle
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

# The largest message; the kernel's default for a socket's buffer is a little more.
_MESSAGE_SIZE = 128 * 1024
_MAX_FDS = 16
_READS = 16


class Channel:
    """Calls `received` for each message, `ended` once when the other side is gone."""

    def __init__(
        self,
        sock: socket.socket,
        received: Callable[[Any, list[int]], None],
        ended: Callable[[], None],
    ) -> None:
        """Takes over one of a pair of SOCK_SEQPACKET sockets."""
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._received = received
        self._ended = ended
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: object, fds: Sequence[int] = ()) -> None:
        """Send in order, later if the other side is slow. The descriptors stay the caller's.

        Nothing happens once the channel is closed.
        """
        if self._sock.fileno() < 0:
            return
        item = (pickle.dumps(message), [os.dup(fd) for fd in fds])
        self._waiting.append(item)
        if len(self._waiting) == 1:
            self._writable()

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
        for _, fds in self._waiting:
            _close_all(fds)
        self._waiting.clear()

    def _writable(self) -> None:
        while self._waiting:
            data, fds = self._waiting[0]
            try:
                socket.send_fds(self._sock, [data], fds)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._writable)
                return
            except OSError:
                # The end is told where it is read.
                return
            _close_all(fds)
            self._waiting.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        for _ in range(_READS):
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, _MESSAGE_SIZE, _MAX_FDS)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self.close()
                self._ended()
                return
            self._received(pickle.loads(data), fds)
            if self._sock.fileno() < 0:
                return


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
