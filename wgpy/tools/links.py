"""Addresses, routes and rules through netlink.

Every change tells the `ip` command that stands for it, for readers who know wg-quick(8).
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_interface, ip_network
from types import TracebackType
from typing import Any, Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from wgpy.protocol.config import Network
from wgpy.tools.errors import ToolError
from wgpy.tools.programs import tell
from wgpy.tools.quickconf import Address

_MAIN = 254
_PROTO_BOOT = 3
_SCOPE_LINK = 253
_SCOPE_UNIVERSE = 0
# linux/fib_rules.h
_RULE_INVERT = 2


def _family(version: int) -> int:
    return socket.AF_INET6 if version == 6 else socket.AF_INET


@contextmanager
def _command(text: str) -> Iterator[None]:
    """Tell a command, and say which one it was if the kernel refuses it."""
    tell(text)
    try:
        yield
    except NetlinkError as error:
        raise ToolError(f"{text}: {error.args[1] if len(error.args) > 1 else error}") from None


class Links:
    """A netlink socket in this network namespace. All methods raise ToolError only."""

    def __init__(self) -> None:
        self._ip: Any = IPRoute()
        self._indices: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ip.close()

    def exists(self, name: str) -> bool:
        """Whether there is a link of that name, WireGuard or not."""
        return bool(self._ip.link_lookup(ifname=name))

    def _index(self, name: str) -> int:
        if name not in self._indices:
            found = self._ip.link_lookup(ifname=name)
            if not found:
                raise ToolError(f"{name}: this interface is gone")
            self._indices[name] = int(found[0])
        return self._indices[name]

    def addresses(self, name: str) -> list[Address]:
        """The interface's addresses with their prefix lengths."""
        return [
            ip_interface(f"{message.get('local') or message.get('address')}/{message['prefixlen']}")
            for message in self._ip.get_addr(index=self._index(name))
        ]

    def add_address(self, name: str, address: Address) -> None:
        with _command(f"ip -{address.version} address add {address} dev {name}"):
            self._ip.addr(
                "add",
                index=self._index(name),
                family=_family(address.version),
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
            )

    def mtu(self, name: str) -> int:
        return self._link_mtu(self._index(name))

    def _link_mtu(self, index: int) -> int:
        (message,) = self._ip.get_links(index)
        return int(message.get("mtu"))

    def set_up(self, name: str, mtu: int) -> None:
        """Set the MTU and bring the link up."""
        with _command(f"ip link set mtu {mtu} up dev {name}"):
            self._ip.link("set", index=self._index(name), mtu=mtu, state="up")

    def path_mtu(self, host: str) -> int:
        """The MTU towards an address, of its route or else of its link; 0 without a route."""
        try:
            found = self._ip.route("get", dst=host)
        except NetlinkError:
            return 0
        return max(map(self._route_mtu, found), default=0)

    def default_mtu(self) -> int:
        """The MTU of the default route; 0 if there is none."""
        routes = self._ip.get_default_routes(family=socket.AF_INET, table=_MAIN)
        return self._route_mtu(routes[0]) if routes else 0

    def _route_mtu(self, route: Any) -> int:
        metrics = route.get("metrics")
        if metrics and (mtu := metrics.get("mtu")):
            return int(mtu)
        index = route.get("oif")
        return self._link_mtu(index) if index else 0

    def routes(self, name: str) -> list[Network]:
        """What the main table leads into the interface."""
        index = self._index(name)
        found: list[Network] = []
        for family, default in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            for route in self._ip.get_routes(family=family, oif=index, table=_MAIN):
                found.append(ip_network(f"{route.get('dst') or default}/{route['dst_len']}"))
        return found

    def add_route(self, name: str, network: Network, table: int | None = None) -> None:
        suffix = f" table {table}" if table is not None else ""
        with _command(f"ip -{network.version} route add {network} dev {name}{suffix}"):
            self._ip.route(
                "add",
                family=_family(network.version),
                dst=str(network),
                oif=self._index(name),
                table=_MAIN if table is None else table,
                proto=_PROTO_BOOT,
                scope=_SCOPE_LINK if network.version == 4 else _SCOPE_UNIVERSE,
            )

    def table_is_empty(self, table: int) -> bool:
        """Whether no route, v4 or v6, is in `table`."""
        return not any(
            list(self._ip.get_routes(family=family, table=table))
            for family in (socket.AF_INET, socket.AF_INET6)
        )

    def add_unmarked_rule(self, version: int, table: int) -> None:
        """All but packets marked with `table` look into that table."""
        with _command(f"ip -{version} rule add not fwmark {table} table {table}"):
            self._add_rule(version, table=table, fwmark=table, flags=_RULE_INVERT)

    def add_suppress_rule(self, version: int) -> None:
        """The main table first, but for its default routes."""
        with _command(f"ip -{version} rule add table main suppress_prefixlength 0"):
            self._add_rule(version, table=_MAIN, suppress_prefixlen=0)

    def _add_rule(self, version: int, **values: int) -> None:
        # Before all others but the local table's, as the kernel places a rule by itself.
        taken = [rule.get("priority") or 0 for rule in self._ip.get_rules(_family(version))]
        priority = min((p for p in taken if p), default=32766) - 1
        self._ip.rule("add", family=_family(version), priority=priority, **values)

    def remove_rules(self, version: int, table: int) -> None:
        """Take away the rules for `table`, and for each of them one that suppresses defaults."""
        rules = list(self._ip.get_rules(_family(version)))
        ours = [rule for rule in rules if _table(rule) == table and rule.get("fwmark") == table]
        suppressing = [
            rule for rule in rules if _table(rule) == _MAIN and rule.get("suppress_prefixlen") == 0
        ]
        for rule in ours:
            with _command(f"ip -{version} rule delete table {table}"):
                self._delete_rule(version, rule, flags=_RULE_INVERT, fwmark=table)
        for rule in suppressing[: len(ours)]:
            with _command(f"ip -{version} rule delete table main suppress_prefixlength 0"):
                self._delete_rule(version, rule, suppress_prefixlen=0)

    def _delete_rule(self, version: int, rule: Any, **values: int) -> None:
        self._ip.rule(
            "del",
            family=_family(version),
            priority=rule.get("priority"),
            table=_table(rule),
            **values,
        )


def _table(rule: Any) -> int:
    # The header has eight bits for it; the attribute has all 32.
    return int(rule.get("table"))
