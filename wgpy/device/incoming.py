"""Receiving from one UDP socket.

UDP_GRO joins equal datagrams of one sender; without it recvmmsg takes many at once, and what
belongs together is joined here; without that too they come one by one.
"""

import errno
import socket
from typing import TYPE_CHECKING, NamedTuple

from wgpy.device import ancillary, gso
from wgpy.device.ancillary import Address
from wgpy.device.options import DeviceOptions
from wgpy.protocol.path import Path

if TYPE_CHECKING:
    from wgpy.device import mmsg

# Room for the control messages of one receive: pktinfo, traffic class, UDP_GRO.
_CONTROL_SIZE = socket.CMSG_SPACE(20) + 2 * socket.CMSG_SPACE(4)
# Senders remembered; anyone can invent addresses.
_MAX_SENDERS = 4096


class Received(NamedTuple):
    """Datagrams of one sender, one after the other from the start of the view.

    `size` bytes in all, in datagrams of `segment` bytes but the last, which may be shorter.
    `ecn` is 0 .. 3, the same for all of them.
    """

    size: int
    segment: int
    path: Path
    ecn: int


class Incoming:
    """`errors` counts what the socket reported instead of a datagram."""

    def __init__(self, sock: socket.socket, options: DeviceOptions) -> None:
        self.errors = 0
        self._sock = sock
        # One path object per sender and local address, so that comparing is cheap.
        self._paths: dict[tuple[Address, bytes], Path] = {}
        joins = options.udp_gro and gso.join_received(sock)
        self._many = _many_receiver(sock) if options.recvmmsg and not joins else None

    @property
    def may_hold(self) -> bool:
        """Whether datagrams may wait in here while the socket itself is not readable."""
        return self._many is not None

    def receive(self, view: memoryview) -> Received | None:
        """Receive once into the start of `view`. None: nothing there, or an error counted."""
        if self._many is not None:
            return self._receive_run(self._many, view)
        try:
            size, messages, _, address = self._sock.recvmsg_into((view,), _CONTROL_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            # An ICMP error for something sent, or an interface that went away.
            self.errors += 1
            return None
        pktinfo, ecn, segment = ancillary.read(messages)
        path = self._paths.get((address, pktinfo)) or self._add_path(address, pktinfo)
        return Received(size, segment or size, path, ecn)

    def _receive_run(self, many: "mmsg.Receiver", view: memoryview) -> Received | None:
        run = many.receive(view)
        if isinstance(run, int):
            self.errors += run != errno.EAGAIN
            return None
        address = ancillary.unpack_address(run.name)
        pktinfo, ecn, _ = ancillary.read(ancillary.unpack_control(run.control))
        path = self._paths.get((address, pktinfo)) or self._add_path(address, pktinfo)
        return Received(run.size, run.segment, path, ecn)

    def _add_path(self, address: Address, pktinfo: bytes) -> Path:
        if len(self._paths) >= _MAX_SENDERS:
            self._paths.clear()
        path = self._paths[address, pktinfo] = ancillary.path_of(address, pktinfo)
        return path


def _many_receiver(sock: socket.socket) -> "mmsg.Receiver | None":
    from wgpy.device import mmsg

    return mmsg.Receiver(sock) if mmsg.can_receive() else None
