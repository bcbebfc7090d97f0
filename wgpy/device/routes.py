"""Following addresses and routes, to know whether a sticky source still holds."""

import errno
import socket
from struct import Struct
from typing import NamedTuple

from tun import netlink
from wgpy.protocol.path import Path, Source

# include/uapi/linux/rtnetlink.h
_RTM_GETROUTE = 26
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_MARK = 1, 2, 4, 16
_RTA_IP_PROTO, _RTA_DPORT = 27, 29
# Larger kinds say why there is no route: blackhole, unreachable, prohibit, throw.
_RTN_LOCAL, _RTN_MULTICAST = 2, 5
# RTNLGRP_*: LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE.
_GROUPS = sum(1 << group - 1 for group in (1, 5, 7, 8, 9, 11, 19))

_RTMSG = Struct("=BBBBBBBBI")
_INT = Struct("=i")
_UINT = Struct("=I")


class RouteMonitor:
    """Netlink in the network namespace where it was made, for good."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._events = netlink.open_socket(_GROUPS)
        try:
            self._requests = netlink.open_socket()
        except BaseException:
            self._events.close()
            raise

    def close(self) -> None:
        self._events.close()
        self._requests.close()

    def fileno(self) -> int:
        """Readable when something may have changed; then call `drain`."""
        return self._events.fileno()

    def drain(self) -> bool:
        """Take what is there to read. True if links, addresses, routes or rules changed."""
        return sum(1 for _ in netlink.drain(self._events)) > 0

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
        route = self._ask(address, netlink.attribute(_RTA_OIF, _INT.pack(interface)))
        return route is not None and route.kind == _RTN_LOCAL

    def _lookup(self, path: Path, source: Source | None, fwmark: int) -> "_Route | None":
        """The kernel's choice for datagrams of this path."""
        host, port, scope_id = path.endpoint
        attributes = netlink.attribute(_RTA_MARK, _UINT.pack(fwmark))
        attributes += netlink.attribute(_RTA_IP_PROTO, bytes((socket.IPPROTO_UDP,)))
        attributes += netlink.attribute(_RTA_DPORT, port.to_bytes(2, "big"))
        if source is not None:
            attributes += netlink.attribute(_RTA_SRC, _packed(source.address))
        if scope_id:
            attributes += netlink.attribute(_RTA_OIF, _INT.pack(scope_id))
        return self._ask(_packed(host), attributes)

    def _ask(self, destination: bytes, attributes: bytes) -> "_Route | None":
        """RTM_GETROUTE. None: there is no route."""
        is_v6 = len(destination) == 16
        family = socket.AF_INET6 if is_v6 else socket.AF_INET
        bits = 8 * len(destination)
        body = _RTMSG.pack(family, bits, bits, 0, 0, 0, 0, 0, 0)
        body += netlink.attribute(_RTA_DST, destination) + attributes
        try:
            (answer,) = netlink.request(self._requests, _RTM_GETROUTE, 0, body)
        except OSError as error:
            if error.errno in (errno.ENOBUFS, errno.ENOMEM):
                raise
            # ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL: each is a way to have none.
            return None
        return _parse(answer)


class _Route(NamedTuple):
    """An answer: RTN_* and the index of the interface."""

    kind: int
    interface: int


def _parse(answer: bytes) -> _Route | None:
    kind = _RTMSG.unpack_from(answer)[7]
    if kind > _RTN_MULTICAST:
        return None
    interface = netlink.attributes(answer, _RTMSG.size).get(_RTA_OIF)
    return _Route(kind, 0 if interface is None else _INT.unpack(interface)[0])


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _is_link_local(address: bytes) -> bool:
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80
