"""Sending along paths, in as few system calls as kernel and route allow.

sendmsg + UDP_SEGMENT, from the path's source
   the source is gone                 -> again without it
   UDP_SEGMENT does not work there    -> many in one sendmmsg
   nor is there a sendmmsg            -> datagram by datagram
"""

import errno
import logging
import socket
from typing import TYPE_CHECKING, NamedTuple

from wgpy.device import ancillary, gso
from wgpy.device.ancillary import Address, ControlMessage
from wgpy.device.options import DeviceOptions
from wgpy.protocol.batch import Buffer
from wgpy.protocol.path import Path

if TYPE_CHECKING:
    from wgpy.device import mmsg

_log = logging.getLogger("wgpy.device")

# The largest UDP payload over IPv4 and over IPv6.
_LARGEST4 = 65535 - 20 - 8
_LARGEST6 = 65535 - 40 - 8
# Paths remembered; more than the peers that are spoken to at a time.
_MAX_ROUTES = 4096
# Control messages remembered for one path: few sizes and traffic classes are common.
_MAX_CONTROLS = 64
# What a send says when its source address or interface is gone, or has no route.
_SOURCE_LOST = frozenset(
    (errno.EINVAL, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENODEV)
)


class SendResult(NamedTuple):
    """What became of a send; all defaults: the kernel took it.

    `would_block`: the socket was full, and only the datagrams in the first `sent` bytes left.
    `source_lost`: it left, but not from the path's source, which is not usable any more.
    `error`: errno of the failure, 0 for none; the first `sent` bytes left before it.
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

    def __init__(self, path: Path, sock: socket.socket, use_segment: bool) -> None:
        self.path = path
        self.sock = sock
        self.address: Address = ancillary.address_of(path.endpoint)
        self.largest = _LARGEST6 if path.endpoint.is_v6 else _LARGEST4
        # UDP_SEGMENT is used for segments up to this size.
        self.segment_limit = self.largest if use_segment else 0
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

    def send(self, buffers: list[Buffer], control: list[ControlMessage]) -> int:
        """One sendmsg. Returns errno, 0 for none."""
        try:
            self.sock.sendmsg(buffers, control, 0, self.address)
        except OSError as error:
            return error.errno or errno.EIO
        return 0


class Outgoing:
    """Sends through `sockets`, at most one per family."""

    def __init__(self, sockets: list[socket.socket], options: DeviceOptions) -> None:
        self._by_family = {sock.family == socket.AF_INET6: sock for sock in sockets}
        self._use_segment = options.udp_gso and all(map(gso.can_segment, sockets))
        self._told_refusal = False
        self._many: mmsg.Sender | None = None
        self._probes_many = options.sendmmsg
        # By id; a route keeps its path alive, so the id stays the path's own.
        self._routes: dict[int, _Route] = {}

    def socket_for(self, path: Path) -> socket.socket:
        """The socket that sends along `path`. KeyError if the host lacks its family."""
        return self._by_family[path.endpoint.is_v6]

    def send(
        self, buffers: list[Buffer], segment: int, size: int, path: Path, tos: int
    ) -> SendResult:
        """Send the `size` bytes of `buffers` as datagrams of `segment` bytes; never raises.

        `tos` is the traffic class. The last datagram may be shorter than `segment`.
        """
        route = self._routes.get(id(path)) or self._add_route(path)
        if route is None:
            return SendResult(error=errno.EAFNOSUPPORT)
        sent, error = self._deliver(route, True, buffers, segment, size, tos)
        if not error:
            return _SENT
        if error in _SOURCE_LOST and path.source is not None and not sent:
            sent, error_without = self._deliver(route, False, buffers, segment, size, tos)
            if not error_without:
                return _SENT_WITHOUT_SOURCE
            if error_without == errno.EAGAIN:
                error = error_without
        if error == errno.EAGAIN:
            return SendResult(would_block=True, sent=sent)
        return SendResult(error=error, sent=sent)

    def _add_route(self, path: Path) -> _Route | None:
        sock = self._by_family.get(path.endpoint.is_v6)
        if sock is None:
            return None
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        route = self._routes[id(path)] = _Route(path, sock, self._use_segment)
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
        """Returns bytes sent, and errno or 0."""
        if size <= segment:
            error = route.send(buffers, route.control(tos, 0, from_source))
            return (0, error) if error else (size, 0)
        if segment > route.segment_limit:
            return self._send_singly(route, from_source, buffers, segment, tos)
        most = min(gso.MAX_SEGMENTS, route.largest // segment) * segment
        if size > most:
            return self._deliver_parts(route, from_source, buffers, segment, most, tos)
        error = route.send(buffers, route.control(tos, segment, from_source))
        if not error:
            return size, 0
        if error not in gso.REFUSALS:
            return 0, error
        sent, error_alone = self._send_singly(route, from_source, buffers, segment, tos)
        if not error_alone:
            self._refused(route, segment, error)
        return sent, error_alone

    def _deliver_parts(
        self,
        route: _Route,
        from_source: bool,
        buffers: list[Buffer],
        segment: int,
        most: int,
        tos: int,
    ) -> tuple[int, int]:
        whole, sent = memoryview(b"".join(buffers)), 0
        while sent < len(whole):
            part = whole[sent : sent + most]
            more, error = self._deliver(route, from_source, [part], segment, len(part), tos)
            sent += more
            if error:
                return sent, error
        return sent, 0

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
        control = route.control(tos, 0, from_source)
        whole = b"".join(buffers)
        if self._probes_many:
            self._many, self._probes_many = _many_sender(), False
        many = self._many
        if many is not None:
            name, raw = ancillary.pack_address(route.address), ancillary.pack_control(control)
            return many.send(route.sock, name, raw, whole, segment)
        view = memoryview(whole)
        for start in range(0, len(whole), segment):
            error = route.send([view[start : start + segment]], control)
            if error:
                return start, error
        return len(whole), 0


def _many_sender() -> "mmsg.Sender | None":
    from wgpy.device import mmsg

    return mmsg.Sender() if mmsg.can_send() else None
