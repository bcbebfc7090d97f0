"""Netlink's events, read as far as agent.network.watch asks (linux/rtnetlink.h, nf_tables.h)."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from errno import ENOBUFS, EPROTONOSUPPORT
from ipaddress import IPv4Network, IPv6Network
from struct import Struct
from typing import TypeAlias

from agent.network.base import PROTOCOL, RULE_PRIORITY, TABLE
from agent.network.netlink import NUMBER, RECEIVE_SIZE, SIGNED, SOL_NETLINK, attributes, messages
from wgpy.protocol.config import Network

_NETLINK_NETFILTER = 12
_NETLINK_ADD_MEMBERSHIP = 1
# Links, then addresses, routes, rules and settings of IPv4, and of IPv6.
_ROUTE_GROUPS = (1, 5, 7, 8, 24, 9, 11, 19, 25)
_NFT_GROUPS = (7,)
# Types of rtnetlink without the last two bits, which tell new (0) from gone (1).
_NFNL_SUBSYS_NFTABLES = 10
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_TXQLEN = 13
_RTA_DST = 1
_RTA_TABLE = 15
_FRA_PRIORITY = 6
_FRA_PROTOCOL = 21
_NETCONFA_IFINDEX = 1
# The table's name, in messages about tables, chains, rules, sets and counters alike.
_NFTA_TABLE = 1

_IFINFOMSG = Struct("=BxHiII")
_IFADDRMSG = Struct("=BBBBI")
# Family, length of destination and source, TOS, table, protocol, scope, type, flags.
_RTMSG = Struct("=8BI")
_NETCONFMSG_SIZE = 4
_NFGENMSG_SIZE = 4
# Families of tables (linux/netfilter.h).
_NFPROTO = {1: "inet", 2: "ip", 7: "bridge", 10: "ip6"}
# Bytes that may wait while a pass is under way.
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class LinkEvent:
    index: int
    name: str
    gone: bool
    # Bytes; 0 where the event does not say.
    mtu: int
    # Packets that may wait for it.
    queue_length: int


@dataclass(frozen=True, slots=True)
class AddressEvent:
    index: int


@dataclass(frozen=True, slots=True)
class RouteEvent:
    # None for a default route.
    prefix: Network | None
    # By protocol number or table.
    ours: bool
    table: int


@dataclass(frozen=True, slots=True)
class RuleEvent:
    ours: bool


@dataclass(frozen=True, slots=True)
class SettingEvent:
    # None for those of all interfaces.
    index: int | None


@dataclass(frozen=True, slots=True)
class TableEvent:
    # Family and name, as nft has them: "inet wgpy".
    where: str


Message: TypeAlias = LinkEvent | AddressEvent | RouteEvent | RuleEvent | SettingEvent | TableEvent


def route_socket() -> socket.socket:
    """Events of links, addresses, routes, rules and settings. OSError."""
    return _subscribed(socket.NETLINK_ROUTE, _ROUTE_GROUPS)


def nft_socket() -> socket.socket | None:
    """Events of nftables; None where the kernel has none. OSError."""
    try:
        return _subscribed(_NETLINK_NETFILTER, _NFT_GROUPS)
    except OSError as error:
        if error.errno != EPROTONOSUPPORT:
            raise
        return None


def _subscribed(protocol: int, groups: tuple[int, ...]) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_NETLINK, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        sock.bind((0, 0))
        for group in groups:
            sock.setsockopt(SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    except BaseException:
        sock.close()
        raise
    return sock


def drain(sock: socket.socket) -> Iterator[Message | None]:
    """All events that wait, of the kinds known here; None stands for events that were lost."""
    decode = _decode_route if sock.proto == socket.NETLINK_ROUTE else _decode_nft
    while True:
        try:
            data = sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != ENOBUFS:
                raise
            yield None
            continue
        for kind, _, _, body in messages(data):
            if message := decode(kind, body):
                yield message


def _decode_route(kind: int, body: bytes) -> Message | None:
    gone = bool(kind & 1)
    match kind & ~3:
        case 16:  # RTM_NEWLINK
            _, _, index, _, _ = _IFINFOMSG.unpack_from(body)
            found = attributes(body, _IFINFOMSG.size)
            (mtu,) = NUMBER.unpack(found.get(_IFLA_MTU, bytes(4)))
            (length,) = NUMBER.unpack(found.get(_IFLA_TXQLEN, bytes(4)))
            return LinkEvent(index, _text(found.get(_IFLA_IFNAME, b"")), gone, mtu, length)
        case 20:  # RTM_NEWADDR
            return AddressEvent(_IFADDRMSG.unpack_from(body)[4])
        case 24:  # RTM_NEWROUTE
            return _decode_route_event(body)
        case 32:  # RTM_NEWRULE
            found = attributes(body, _RTMSG.size)
            ours = found.get(_FRA_PROTOCOL) == bytes([PROTOCOL])
            return RuleEvent(ours or found.get(_FRA_PRIORITY) == NUMBER.pack(RULE_PRIORITY))
        case 80:  # RTM_NEWNETCONF
            found = attributes(body, _NETCONFMSG_SIZE)
            (number,) = SIGNED.unpack(found.get(_NETCONFA_IFINDEX, bytes(4)))
            return SettingEvent(number if number > 0 else None)
    return None


def _decode_route_event(body: bytes) -> RouteEvent:
    family, length, _, _, table, protocol, *_ = _RTMSG.unpack_from(body)
    found = attributes(body, _RTMSG.size)
    prefix: Network | None = None
    if destination := found.get(_RTA_DST):
        kind = IPv6Network if family == socket.AF_INET6 else IPv4Network
        prefix = kind((destination, length))
    if full := found.get(_RTA_TABLE):
        (table,) = NUMBER.unpack(full)
    return RouteEvent(prefix, protocol == PROTOCOL or table == TABLE, table)


def _decode_nft(kind: int, body: bytes) -> Message | None:
    if kind >> 8 != _NFNL_SUBSYS_NFTABLES:
        return None
    name = attributes(body, _NFGENMSG_SIZE).get(_NFTA_TABLE)
    # The end of a transaction names no table, only numbers.
    return TableEvent(f"{_NFPROTO.get(body[0])} {_text(name)}") if name is not None else None


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
