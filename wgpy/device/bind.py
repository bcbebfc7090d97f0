"""The UDP sockets of an interface: one for IPv4, one for IPv6, on one port.

send:     sendmsg + UDP_SEGMENT, from the path's source
             without the source, when it is gone
             datagram by datagram, where UDP_SEGMENT does not work (sendmmsg)
receive:  recvmsg_into + UDP_GRO (without UDP_GRO: recvmmsg)
"""

import errno
import logging
import socket
from typing import NamedTuple, Self

from wgpy.device import ancillary, gso
from wgpy.device.ancillary import Address, ControlMessage
from wgpy.device.options import DeviceOptions
from wgpy.device.sockets import open_both, set_mark
from wgpy.protocol.batch import Buffer
from wgpy.protocol.path import Path

_log = logging.getLogger("wgpy.device")

# The largest UDP payload over IPv4 and over IPv6.
_LARGEST4 = 65535 - 20 - 8
_LARGEST6 = 65535 - 40 - 8
# Room for the control messages of one receive: pktinfo, traffic class, UDP_GRO.
_CONTROL_SIZE = socket.CMSG_SPACE(20) + 2 * socket.CMSG_SPACE(4)
# Paths remembered; senders with invented addresses can make any number of them.
_MAX_PATHS = 4096
# Control messages remembered for one path: few sizes and traffic classes are common.
_MAX_CONTROLS = 64
# What a send says when its source address is not ours any more, or has no route.
_SOURCE_LOST = frozenset((errno.EINVAL, errno.ENETUNREACH, errno.EADDRNOTAVAIL))


class Received(NamedTuple):
    """Datagrams of one sender, one after the other from the start of the view.

    `size` bytes in all, in datagrams of `segment` bytes but the last, which may be shorter.
    `ecn` is 0 .. 3, the same for all of them.
    """

    size: int
    segment: int
    path: Path
    ecn: int


class SendResult(NamedTuple):
    """What became of a send; all defaults: the kernel took it.

    `would_block`: the socket was full, and only the datagrams in the first `sent` bytes left.
    `source_lost`: it left, but not from the path's source, which is not usable any more.
    `error`: errno of the failure, 0 for none.
    """

    would_block: bool = False
    source_lost: bool = False
    error: int = 0
    sent: int = 0


_SENT = SendResult()
_SENT_WITHOUT_SOURCE = SendResult(source_lost=True)


class _Route:
    """What is needed to send along one path, made once."""

    __slots__ = ("address", "controls", "largest", "path", "segment_limit", "sock")

    def __init__(self, path: Path, sock: socket.socket, segment_limit: int) -> None:
        self.path = path
        self.sock = sock
        self.address: Address = ancillary.address_of(path.endpoint)
        self.largest = _LARGEST6 if path.endpoint.is_v6 else _LARGEST4
        # Longer segments are sent one by one.
        self.segment_limit = segment_limit
        # By traffic class, segment (0: not cut), and whether from the path's source.
        self.controls: dict[tuple[int, int, bool], list[ControlMessage]] = {}

    def control(self, tos: int, segment: int, from_source: bool) -> list[ControlMessage]:
        """The control messages of a send."""
        key = (tos, segment, from_source)
        control = self.controls.get(key)
        if control is not None:
            return control
        control = []
        if from_source and self.path.source is not None:
            control.append(ancillary.source_message(self.path.source))
        if tos:
            control.append(ancillary.tos_message(tos, self.path.endpoint.is_v6))
        if segment:
            control.append(gso.segment_message(segment))
        if len(self.controls) >= _MAX_CONTROLS:
            self.controls.clear()
        self.controls[key] = control
        return control


class Bind:
    """Open sockets; nothing that a network does makes a method raise.

    `receive_errors` counts errors that a socket reported instead of a datagram.
    """

    def __init__(self, sockets: list[socket.socket], options: DeviceOptions) -> None:
        """Takes over `sockets`, at most one per family; use `open`."""
        self.sockets = sockets
        self.port: int = sockets[0].getsockname()[1]
        self.receive_errors = 0
        self._by_family = {sock.family == socket.AF_INET6: sock for sock in sockets}
        gso_works = options.udp_gso and all(gso.can_segment(sock) for sock in sockets)
        self._segment_limit = _LARGEST4 if gso_works else 0
        self._told_refusal = False
        # By id; a route keeps its path alive, so the id stays the path's own.
        self._routes: dict[int, _Route] = {}
        self._senders: dict[tuple[Address, bytes], Path] = {}
        for sock in sockets:
            if options.udp_gro:
                gso.join_received(sock)

    @classmethod
    def open(cls, port: int, fwmark: int, options: DeviceOptions) -> Self:
        """Sockets on `port` (0: a free one), marking with `fwmark` (0: not).

        IPv4 and IPv6, or the one that the host has. Raises OSError with nothing opened, for
        instance EADDRINUSE for a taken port and EPERM for a mark without CAP_NET_ADMIN.
        """
        return cls(open_both(port, fwmark), options)

    def close(self) -> None:
        """Close the sockets; nothing may be called afterwards."""
        for sock in self.sockets:
            sock.close()

    def set_fwmark(self, mark: int) -> None:
        """Mark outgoing datagrams (0: not). Raises OSError, and the mark stays what it was."""
        for sock in self.sockets:
            set_mark(sock, mark)

    def socket_for(self, path: Path) -> socket.socket:
        """The socket that sends along `path`. KeyError if the host lacks its family."""
        return self._by_family[path.endpoint.is_v6]

    # Receiving.

    def receive(self, sock: socket.socket, view: memoryview) -> Received | None:
        """Receive once into the start of `view` (65536 bytes). None: nothing there.

        A caller that does not go on until None has to come back by itself: datagrams may be
        waiting here while the socket is not readable any more.
        """
        try:
            size, messages, _, address = sock.recvmsg_into((view,), _CONTROL_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            # An ICMP error for something that was sent; it tells nothing that can be trusted.
            self.receive_errors += 1
            return None
        pktinfo, ecn, segment = ancillary.read(messages)
        key = (address, pktinfo)
        path = self._senders.get(key)
        if path is None:
            path = self._add_sender(address, pktinfo)
        return Received(size, segment or size, path, ecn)

    def _add_sender(self, address: Address, pktinfo: bytes) -> Path:
        if len(self._senders) >= _MAX_PATHS:
            self._senders.clear()
        path = self._senders[address, pktinfo] = ancillary.path_of(address, pktinfo)
        return path

    # Sending.

    def send(
        self, buffers: list[Buffer], segment: int, size: int, path: Path, tos: int
    ) -> SendResult:
        """Send the `size` bytes of `buffers` as datagrams of `segment` bytes; never raises.

        `tos` is the traffic class, the last datagram may be shorter than `segment`.
        """
        route = self._routes.get(id(path))
        if route is None:
            try:
                route = self._add_route(path)
            except KeyError:
                return SendResult(error=errno.EAFNOSUPPORT)
        sent, error = self._deliver(route, True, buffers, segment, size, tos)
        if not error:
            return _SENT
        if error in _SOURCE_LOST and path.source is not None and not sent:
            sent, second = self._deliver(route, False, buffers, segment, size, tos)
            if not second:
                return _SENT_WITHOUT_SOURCE
        if error == errno.EAGAIN:
            return SendResult(would_block=True, sent=sent)
        return SendResult(error=error, sent=sent)

    def _add_route(self, path: Path) -> _Route:
        route = _Route(path, self.socket_for(path), self._segment_limit)
        if len(self._routes) >= _MAX_PATHS:
            self._routes.clear()
        self._routes[id(path)] = route
        return route

    def _deliver(
        self,
        route: _Route,
        from_source: bool,
        buffers: list[Buffer],
        segment: int,
        size: int,
        tos: int,
    ) -> tuple[int, int]:
        """Send in as few calls as the route allows. Returns (bytes sent, errno)."""
        if size <= segment:
            error = _send(route, buffers, route.control(tos, 0, from_source))
            return (0, error) if error else (size, 0)
        if segment > route.segment_limit:
            return self._send_singly(route, from_source, buffers, segment, tos)
        most = min(gso.MAX_SEGMENTS, route.largest // segment) * segment
        if size > most:
            whole, sent = memoryview(b"".join(buffers)), 0
            while sent < size:
                part = whole[sent : sent + most]
                more, error = self._deliver(route, from_source, [part], segment, len(part), tos)
                sent += more
                if error:
                    return sent, error
            return sent, 0
        error = _send(route, buffers, route.control(tos, segment, from_source))
        if not error:
            return size, 0
        if error not in gso.REFUSALS:
            return 0, error
        sent, error_alone = self._send_singly(route, from_source, buffers, segment, tos)
        if not error_alone:
            self._refused(route, segment, error)
        return sent, error_alone

    def _refused(self, route: _Route, segment: int, error: int) -> None:
        """Plain sends work where UDP_SEGMENT does not: keep to them for such segments."""
        route.segment_limit = 0 if error == errno.EIO else segment - 1
        if not self._told_refusal:
            self._told_refusal = True
            _log.warning(
                "%s: UDP_SEGMENT fails with %s, sending datagrams one by one",
                route.path.endpoint,
                errno.errorcode[error],
            )

    def _send_singly(
        self, route: _Route, from_source: bool, buffers: list[Buffer], segment: int, tos: int
    ) -> tuple[int, int]:
        whole, sent = memoryview(b"".join(buffers)), 0
        control = route.control(tos, 0, from_source)
        while sent < len(whole):
            part = whole[sent : sent + segment]
            error = _send(route, [part], control)
            if error:
                return sent, error
            sent += len(part)
        return sent, 0


def _send(route: _Route, buffers: list[Buffer], control: list[ControlMessage]) -> int:
    """One sendmsg. Returns errno, 0 for none."""
    try:
        route.sock.sendmsg(buffers, control, 0, route.address)
    except OSError as error:
        return error.errno or errno.EIO
    return 0
