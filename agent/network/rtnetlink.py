"""Our routes in the kernel: those there are, and the smallest way to those there should be."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from socket import AF_INET, AF_INET6
from struct import Struct
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.network.base import PROTOCOL, Address, NetworkError, Report
from agent.network.netlink import CREATE, NUMBER, REPLACE, Connection, attributes, packed
from wgpy.protocol.config import Network

MAIN = 254
# linux/rtnetlink.h
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
# Family, length of destination and source, TOS, table, protocol, scope, type, flags.
_RTMSG = Struct("=8BI")
_RTM_F_CLONED = 0x200
_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_PRIORITY = 6
_RTA_PREFSRC = 7
_RTA_METRICS = 8
_RTA_TABLE = 15
_RTAX_MTU = 2
_RTN_UNICAST = 1
_RTN_UNREACHABLE = 7
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
# For deleting: of whichever scope.
_RT_SCOPE_NOWHERE = 255
# IPv4's best metric, and IPv6's, where 0 stands for 1024.
_BEST_METRIC = {4: 0, 6: 1}
# Loses against everybody who has a route.
GUARD_METRIC = 1 << 31
FAMILIES = {4: AF_INET, 6: AF_INET6}
_KINDS: dict[int, tuple[type[Network], type[Address], bytes]] = {
    AF_INET: (IPv4Network, IPv4Address, bytes(4)),
    AF_INET6: (IPv6Network, IPv6Address, bytes(16)),
}
# Not there when the kernel was started with ipv6.disable=1.
_IPV6 = Path("/proc/thread-self/net/if_inet6")


@dataclass(frozen=True, slots=True)
class KernelRoute:
    """A route of our protocol number. No device: unreachable."""

    prefix: Network
    table: int
    metric: int
    device: str | None
    # 0 for the device's own.
    mtu: int = 0
    source: Address | None = None
    # Never of ours.
    gateway: Address | None = None

    @property
    def slot(self) -> tuple[int, Network, int]:
        """What is unique in the kernel, and what `replace` replaces."""
        return self.table, self.prefix, self.metric

    def __str__(self) -> str:
        where = f"dev {self.device}" if self.device else "unreachable"
        return f"{self.prefix} {where}" + (f" table {self.table}" if self.table != MAIN else "")


def unicast(
    prefix: Network, device: str, table: int = MAIN, mtu: int = 0, source: Address | None = None
) -> KernelRoute:
    """A route that no other one of the same prefix precedes."""
    return KernelRoute(prefix, table, _BEST_METRIC[prefix.version], device, mtu, source)


def unreachable(prefix: Network, table: int = MAIN) -> KernelRoute:
    """What is left of a prefix when every other route to it is gone."""
    return KernelRoute(prefix, table, GUARD_METRIC, None)


def present_families() -> list[int]:
    """Versions of IP that this kernel has."""
    return [4, 6] if _IPV6.exists() else [4]


def device_names(ip: Any) -> dict[int, str]:
    """Name of each link by its index."""
    return {link["index"]: link.get_attr("IFLA_IFNAME") for link in ip.get_links()}


def own_routes(ip: Any) -> list[KernelRoute]:
    """All routes of our protocol number, of both families and all tables."""
    names = device_names(ip)
    with Connection() as kernel:
        told = [
            message
            for version in present_families()
            for message in kernel.dump(_RTM_GETROUTE, _asked(FAMILIES[version], PROTOCOL))
        ]
    routes = (route_from_kernel(message, names) for message in told)
    return [route for route in routes if route is not None]


def _asked(family: int, protocol: int = 0, length: int = 0) -> bytes:
    return _RTMSG.pack(family, length, 0, 0, 0, protocol, 0, 0, 0)


def way_to(kernel: Connection, address: Address) -> tuple[int, int]:
    """Index of the link by which packets leave for `address`, and the MTU that is known of their
    path, 0 for the link's. NetlinkError: no route, or no such family.
    """
    asked = _asked(FAMILIES[address.version], length=address.max_prefixlen)
    told, *_ = kernel.ask(_RTM_GETROUTE, asked + packed({_RTA_DST: address.packed}))
    values = attributes(told, _RTMSG.size)
    metrics = attributes(values.get(_RTA_METRICS, b""), 0)
    return _number(values, _RTA_OIF), _number(metrics, _RTAX_MTU)


def route_from_kernel(told: bytes, names: dict[int, str]) -> KernelRoute | None:
    """What a message (rtmsg) tells, if that is a route of ours; `names` of links, by index."""
    family, length, _, _, table, protocol, _, kind, flags = _RTMSG.unpack_from(told)
    # What is cloned is what the kernel has learnt about the path of a route.
    if protocol != PROTOCOL or flags & _RTM_F_CLONED:
        return None
    if kind not in (_RTN_UNICAST, _RTN_UNREACHABLE):
        return None
    network, address, zero = _KINDS[family]
    values = attributes(told, _RTMSG.size)
    metrics = attributes(values.get(_RTA_METRICS, b""), 0)
    source, gateway = values.get(_RTA_PREFSRC), values.get(_RTA_GATEWAY)
    return KernelRoute(
        prefix=network((values.get(_RTA_DST, zero), length)),
        table=_number(values, _RTA_TABLE) or table,
        metric=_number(values, _RTA_PRIORITY),
        device=names.get(_number(values, _RTA_OIF), "?") if kind == _RTN_UNICAST else None,
        mtu=_number(metrics, _RTAX_MTU),
        source=address(source) if source else None,
        gateway=address(gateway) if gateway else None,
    )


def _number(values: dict[int, bytes], which: int) -> int:
    return int(NUMBER.unpack(values[which])[0]) if which in values else 0


def put_routes(
    ip: Any, existing: Iterable[KernelRoute], wanted: Iterable[KernelRoute], report: Report
) -> None:
    """Make `existing`, which are ours to change, the `wanted` ones.

    What is to go goes last, so that no prefix is without a route in between.
    """
    slots = {route.slot: route for route in wanted}
    present = set(existing)
    occupied = {route.slot: route for route in present}
    indexes = {name: index for index, name in device_names(ip).items()}
    with Connection() as kernel:
        for slot, route in slots.items():
            if route in present:
                continue
            with report.step(f"route {route.prefix}"):
                kernel.ask(_RTM_NEWROUTE, _to_kernel(route, indexes), CREATE | REPLACE)
                before = occupied.get(slot)
                present.discard(before or route)
                what = f"was {before}" if before else "was missing"
                report.changed.append(f"route {route} is set, it {what}")
        _delete(ip, kernel, present - set(slots.values()), indexes, report)


def _delete(
    ip: Any,
    kernel: Connection,
    routes: Iterable[KernelRoute],
    indexes: dict[str, int],
    report: Report,
) -> None:
    # Listed once: with their interface all of them may have gone by themselves.
    there: frozenset[KernelRoute] | None = None
    for route in routes:
        # A device's routes of whichever type.
        kind = 0 if route.device else _RTN_UNREACHABLE
        message = _message(route, kind, _RT_SCOPE_NOWHERE, _identity(route, indexes))
        with report.step(f"route {route.prefix}"):
            try:
                kernel.ask(_RTM_DELROUTE, message)
            except NetlinkError:
                there = frozenset(own_routes(ip)) if there is None else there
                if route in there:
                    raise
            report.changed.append(f"route {route} is removed")


def _to_kernel(route: KernelRoute, indexes: dict[str, int]) -> bytes:
    values = _identity(route, indexes)
    if route.device is None:
        return _message(route, _RTN_UNREACHABLE, _RT_SCOPE_UNIVERSE, values)
    if _RTA_OIF not in values:
        raise NetworkError(f"route {route.prefix}: there is no interface {route.device}")
    if route.mtu:
        values[_RTA_METRICS] = packed({_RTAX_MTU: NUMBER.pack(route.mtu)})
    if route.source:
        values[_RTA_PREFSRC] = route.source.packed
    scope = _RT_SCOPE_LINK if route.prefix.version == 4 else _RT_SCOPE_UNIVERSE
    return _message(route, _RTN_UNICAST, scope, values)


def _identity(route: KernelRoute, indexes: dict[str, int]) -> dict[int, bytes]:
    """As much as says which route is meant, also of one that others have altered."""
    values = {_RTA_TABLE: NUMBER.pack(route.table), _RTA_PRIORITY: NUMBER.pack(route.metric)}
    if route.prefix.prefixlen:
        values[_RTA_DST] = route.prefix.network_address.packed
    if route.device in indexes:
        values[_RTA_OIF] = NUMBER.pack(indexes[route.device])
    return values


def _message(route: KernelRoute, kind: int, scope: int, values: dict[int, bytes]) -> bytes:
    family, length = FAMILIES[route.prefix.version], route.prefix.prefixlen
    # The table is an attribute: those above 255 have no place here.
    return _RTMSG.pack(family, length, 0, 0, 0, PROTOCOL, scope, kind, 0) + packed(values)


def open_rtnetlink() -> Any:
    """A connection to the kernel's routing, in the calling thread's network namespace."""
    return IPRoute()
