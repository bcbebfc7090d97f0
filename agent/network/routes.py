"""Routes to the pods and nodes of peers, each over the lane that is in use towards that peer.

Pods' prefixes are in the main table. The addresses of other nodes are in a table of their own that
only pods ask (`ip rule iif wgpy-pods`): the host's own traffic to them carries the tunnel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent.network.base import (
    POD_BRIDGE,
    PROTOCOL,
    RULE_PRIORITY,
    TABLE,
    Address,
    Report,
)
from agent.network.guard import is_guard
from agent.network.rtnetlink import (
    FAMILIES,
    KernelRoute,
    open_rtnetlink,
    own_routes,
    present_families,
    put_routes,
    unicast,
    unreachable,
)
from wgpy.protocol.config import Network


@dataclass(frozen=True, slots=True)
class Route:
    """`prefix` over `device` (a lane); no device: pods must not reach it for now."""

    prefix: Network
    device: str | None
    # Bytes of the largest inner packet on this path; 0 for the lane's own MTU.
    mtu: int = 0
    # Of packets that this host sends itself; it must be an address of this host.
    source: Address | None = None


@dataclass(frozen=True, slots=True)
class RoutesDesired:
    """All routes over lanes."""

    # Peers' pod CIDRs. Without a device they need no entry here: the guard has them.
    pods: tuple[Route, ...] = ()
    # Peers' node addresses, as seen by pods.
    nodes: tuple[Route, ...] = ()


class Routes:
    """Routes, table and rule."""

    name = "routes"

    def reconcile(self, desired: RoutesDesired) -> list[str]:
        report = Report()
        with report.step("routes"), open_rtnetlink() as ip:
            existing = [route for route in own_routes(ip) if not is_guard(route)]
            put_routes(ip, existing, wanted_routes(desired), report)
            versions = {route.prefix.version for route in desired.nodes}
            for version in present_families():
                _put_rule(ip, version, version in versions, report)
        return report.end()

    def remove(self) -> None:
        self.reconcile(RoutesDesired())


def wanted_routes(desired: RoutesDesired) -> Iterator[KernelRoute]:
    """As the kernel has them: a node's address stays unreachable to pods when its lane is gone."""
    for route in desired.pods:
        if route.device:
            yield unicast(route.prefix, route.device, mtu=route.mtu, source=route.source)
    for route in desired.nodes:
        yield unreachable(route.prefix, TABLE)
        if route.device:
            yield unicast(route.prefix, route.device, TABLE, route.mtu, route.source)


def _put_rule(ip: Any, version: int, wanted: bool, report: Report) -> None:
    family = FAMILIES[version]
    ours = {
        "family": family,
        "iifname": POD_BRIDGE,
        "table": TABLE,
        "priority": RULE_PRIORITY,
        "protocol": PROTOCOL,
    }
    name = f"IPv{version} rule iif {POD_BRIDGE} lookup {TABLE}"
    with report.step(name):
        rules = [r for r in ip.get_rules(family=family) if r.get_attr("FRA_PROTOCOL") == PROTOCOL]
        good = [rule for rule in rules if _is_the_rule(rule)]
        if wanted and not good:
            ip.rule("add", **ours)
            report.changed.append(f"{name} is set, it was missing")
        surplus = [rule for rule in rules if rule not in good]
        if not wanted:
            surplus = rules
        for rule in surplus:
            _delete_rule(ip, family, rule)
            report.changed.append(f"{name if rule in good else 'a rule of ours'} is removed")


def _is_the_rule(rule: Any) -> bool:
    return (
        rule.get_attr("FRA_PRIORITY") == RULE_PRIORITY
        and rule.get_attr("FRA_TABLE") == TABLE
        and rule.get_attr("FRA_IIFNAME") == POD_BRIDGE
        and not rule["flags"] & ~0x08  # inverted; 0x08 is only: no such interface now
        and not any(rule.get_attr(f"FRA_{what}") for what in ("SRC", "DST", "FWMARK", "OIFNAME"))
    )


def _delete_rule(ip: Any, family: int, rule: Any) -> None:
    words = {
        "iifname": rule.get_attr("FRA_IIFNAME"),
        "oifname": rule.get_attr("FRA_OIFNAME"),
        "priority": rule.get_attr("FRA_PRIORITY"),
        "table": rule.get_attr("FRA_TABLE"),
    }
    given = {word: value for word, value in words.items() if value}
    ip.rule("del", family=family, protocol=PROTOCOL, **given)
