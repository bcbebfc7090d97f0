"""Following addresses and routes, to know whether a sticky source still holds."""

import errno
import socket
from struct import Struct
from typing import NamedTuple

from wgpy.protocol.path import Path, Source

# include/uapi/linux/netlink.h, rtnetlink.h
_NLM_F_REQUEST = 1
_RTM_NEWROUTE = 24
_RTM_GETROUTE = 26
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_MARK = 1, 2, 4, 16
_RTA_IP_PROTO, _RTA_DPORT = 27, 29
_RTN_LOCAL = 2
# RTNLGRP_*: LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE.
_GROUPS = sum(1 << group - 1 for group in (1, 5, 7, 8, 9, 11, 19))

_NLMSGHDR = Struct("=IHHII")
_RTMSG = Struct("=BBBBBBBBI")
_RTATTR = Struct("=HH")
_INT = Struct("=i")
_UINT = Struct("=I")
_RECEIVE_SIZE = 16 * 1024


class RouteMonitor:
    """Netlink in the network namespace where it was made, for good."""

    def __init__(self) -> None:
        """Raises OSError."""
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        self._events = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        try:
            self._events.bind((0, _GROUPS))
            self._requests = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        except BaseException:
            self._events.close()
            raise
        self._requests.connect((0, 0))

    def close(self) -> None:
        self._events.close()
        self._requests.close()

    def fileno(self) -> int:
        """Readable when something may have changed; then call `drain`."""
        return self._events.fileno()

    def drain(self) -> bool:
        """Take what is there to read. True if links, addresses, routes or rules changed."""
        changed = False
        while True:
            try:
                self._events.recv(_RECEIVE_SIZE)
            except BlockingIOError:
                return changed
            except OSError as error:
                # So much changed that the kernel could not tell it all.
                if error.errno != errno.ENOBUFS:
                    raise
            changed = True

    def still_valid(self, path: Path, fwmark: int) -> bool:
        """Whether the path's source is a local address whose route leaves by its interface.

        As the kernel's WireGuard asks before it uses a source again (send4). A path without a
        source is valid. A peer that cannot be reached at all keeps its source.
        """
        source = path.source
        if source is None:
            return True
        try:
            if not self._is_local(source):
                return False
            route = self._lookup(path, source, fwmark)
            if route is None:
                return self._lookup(path, None, fwmark) is None
        except OSError:
            # No memory for an answer; a send will find out.
            return True
        return route.interface == source.interface

    def _is_local(self, source: Source) -> bool:
        address = _packed(source.address)
        # Link-local addresses belong to an interface, others to the host.
        interface = source.interface if _is_link_local(address) else 0
        route = self._ask(address, _attribute(_RTA_OIF, _INT.pack(interface)))
        return route is not None and route.kind == _RTN_LOCAL

    def _lookup(self, path: Path, source: Source | None, fwmark: int) -> "_Route | None":
        """The kernel's choice for datagrams of this path."""
        host, port, scope_id = path.endpoint
        attributes = _attribute(_RTA_MARK, _UINT.pack(fwmark))
        attributes += _attribute(_RTA_IP_PROTO, bytes((socket.IPPROTO_UDP,)))
        attributes += _attribute(_RTA_DPORT, port.to_bytes(2, "big"))
        if source is not None:
            attributes += _attribute(_RTA_SRC, _packed(source.address))
        if scope_id:
            attributes += _attribute(_RTA_OIF, _INT.pack(scope_id))
        return self._ask(_packed(host), attributes)

    def _ask(self, destination: bytes, attributes: bytes) -> "_Route | None":
        """RTM_GETROUTE. None: there is no route."""
        is_v6 = len(destination) == 16
        family = socket.AF_INET6 if is_v6 else socket.AF_INET
        bits = 8 * len(destination)
        body = _RTMSG.pack(family, bits, bits, 0, 0, 0, 0, 0, 0)
        body += _attribute(_RTA_DST, destination) + attributes
        header = _NLMSGHDR.pack(_NLMSGHDR.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 0, 0)
        # The kernel answers before send returns.
        self._requests.send(header + body)
        return _parse(self._requests.recv(_RECEIVE_SIZE))


class _Route(NamedTuple):
    """An answer: RTN_* and the index of the interface."""

    kind: int
    interface: int


def _parse(answer: bytes) -> _Route | None:
    length, message, _, _, _ = _NLMSGHDR.unpack_from(answer)
    if message != _RTM_NEWROUTE:
        return None
    kind = _RTMSG.unpack_from(answer, _NLMSGHDR.size)[7]
    offset = _NLMSGHDR.size + _RTMSG.size
    while offset < length:
        size, attribute = _RTATTR.unpack_from(answer, offset)
        if attribute == _RTA_OIF:
            (interface,) = _INT.unpack_from(answer, offset + _RTATTR.size)
            return _Route(kind, interface)
        offset += -(-size // 4) * 4
    return _Route(kind, 0)


def _attribute(kind: int, data: bytes) -> bytes:
    return _RTATTR.pack(_RTATTR.size + len(data), kind) + data + bytes(-len(data) % 4)


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _is_link_local(address: bytes) -> bool:
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80
