"""The UDP side of an interface: IPv4 and IPv6 sockets on one port."""

import socket
from typing import Self

from wgpy.device.incoming import Incoming, Received
from wgpy.device.options import DeviceOptions
from wgpy.device.outgoing import Outgoing, SendResult
from wgpy.device.sockets import open_both, open_groups, set_mark
from wgpy.protocol.batch import Buffer
from wgpy.protocol.path import Path

__all__ = ["Bind", "Received", "SendResult"]


class Bind:
    """Open sockets. Nothing that the network does makes `receive` or `send` raise."""

    def __init__(self, sockets: list[socket.socket], options: DeviceOptions) -> None:
        """Takes over `sockets`, at most one per family, on one port."""
        self.sockets = sockets
        self.port: int = sockets[0].getsockname()[1]
        self._incoming = {sock: Incoming(sock, options) for sock in sockets}
        self._outgoing = Outgoing(sockets, options)

    @classmethod
    def open(cls, port: int, fwmark: int, options: DeviceOptions) -> Self:
        """Sockets on `port` (0: a free one), marking with `fwmark` (0: not).

        IPv4 and IPv6, or the one that the host has. Raises OSError with nothing opened, for
        instance EADDRINUSE for a taken port and EPERM for a mark without CAP_NET_ADMIN.
        """
        return cls(open_both(port, fwmark), options)

    @classmethod
    def open_shared(
        cls, port: int, fwmark: int, options: DeviceOptions
    ) -> tuple[Self, list[list[socket.socket]]]:
        """As `open`, and the sockets of the other workers on the same port."""
        own, *others = open_groups(port, fwmark, options.workers)
        return cls(own, options), others

    def close(self) -> None:
        """Close the sockets; nothing may be called afterwards."""
        for sock in self.sockets:
            sock.close()

    def set_fwmark(self, mark: int) -> None:
        """Mark outgoing datagrams (0: not). Raises OSError, and the mark stays what it was."""
        for sock in self.sockets:
            set_mark(sock, mark)

    @property
    def receive_errors(self) -> int:
        """How often a socket reported an error instead of a datagram."""
        return sum(incoming.errors for incoming in self._incoming.values())

    def receive(self, sock: socket.socket, view: memoryview) -> Received | None:
        """Receive once into the start of `view` (65536 bytes). None: nothing there.

        Go on until None, or come back unasked if `may_hold`.
        """
        return self._incoming[sock].receive(view)

    def may_hold(self, sock: socket.socket) -> bool:
        """Whether datagrams may wait in here while `sock` is not readable: after recvmmsg."""
        return self._incoming[sock].may_hold

    def socket_for(self, path: Path) -> socket.socket:
        """The socket that sends along `path`. KeyError if the host lacks its family."""
        return self._outgoing.socket_for(path)

    def send(
        self, buffers: list[Buffer], segment: int, size: int, path: Path, tos: int
    ) -> SendResult:
        """Send the `size` bytes of `buffers` as datagrams of `segment` bytes.

        `tos` is the traffic class. The last datagram may be shorter than `segment`.
        """
        return self._outgoing.send(buffers, segment, size, path, tos)
