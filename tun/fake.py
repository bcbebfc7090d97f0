"""A TUN without a kernel: the same interface in memory, and the host at its other end."""

import errno
import os
import socket
from collections.abc import Sequence
from typing import Self

from tun.linux import Buffer, Offloads, Tun
from tun.virtio import HEADER_LEN, HEADER_NONE

# A super-packet of 64 KiB, and as many small packets as a kernel's queue holds.
_BUFFER_SIZE = 1 << 20


class FakeTun(Tun):
    """A TUN whose host is `send`, `receive`, `set_up` and `delete`.

    Its descriptor can be waited for like a real one. It is up from the start.
    """

    def __init__(self, name: str = "fake0", offloads: Offloads | None = None) -> None:
        # Datagrams that neither mix nor vanish.
        ours, self._host = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, self._host):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_SIZE)
        super().__init__(ours.detach(), offloads or Offloads())
        self._name = name
        self._is_up = True
        self._is_deleted = False

    @classmethod
    def open(cls, name: str, *, offloads: bool = True, uso: bool = True) -> Self:
        """One with all offloads, or with none."""
        number = name.replace("%d", "0")
        return cls(number, Offloads(True, True, True, True, True, uso) if offloads else None)

    @property
    def name(self) -> str:
        self._check()
        return self._name

    def namespace_fd(self) -> int | None:
        return None

    def read(self, header: memoryview, packet: memoryview) -> int:
        self._check()
        return super().read(header, packet)

    def write(self, buffers: Sequence[Buffer]) -> None:
        self._check()
        if not self._is_up:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        try:
            super().write(buffers)
        except BlockingIOError:
            # The kernel drops what its queue cannot hold.
            return

    def close(self) -> None:
        super().close()
        self._host.close()

    def _check(self) -> None:
        if self._is_deleted:
            raise OSError(errno.EBADFD, os.strerror(errno.EBADFD))

    # The host's side.

    def send(self, packet: Buffer, header: Buffer = HEADER_NONE) -> None:
        """The host sends a packet, which waits to be read. Only while the link is up."""
        if self._is_up:
            self._host.sendmsg([header, packet] if self.offloads.vnet_header else [packet])

    def receive(self) -> tuple[bytes, bytes]:
        """What was written next: virtio-net header and packet. BlockingIOError if nothing was."""
        data = self._host.recv(HEADER_LEN + (1 << 16))
        if not self.offloads.vnet_header:
            return HEADER_NONE, data
        return data[:HEADER_LEN], data[HEADER_LEN:]

    def set_up(self, is_up: bool) -> None:
        self._is_up = is_up

    def delete(self) -> None:
        """The host deletes the interface; its descriptor becomes readable, to tell so."""
        self._is_deleted = True
        self._host.shutdown(socket.SHUT_RDWR)
