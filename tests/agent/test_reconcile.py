"""One pass: adoption, what is measured when, and one rotation for one wish."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from math import inf

import pytest

from agent.decisions import Devices, Identity
from agent.keeper import Outcome
from agent.lanefacts import Timing
from agent.model import Address, LaneKeys, NodeFacts, Problem, WireGuardNode
from agent.network.base import NetworkError
from agent.reconcile import Caches, Reconciler, Result
from agent.topology import Desired
from wgpy.protocol.config import InterfaceStats, Network

NODES = {
    name: NodeFacts(
        name,
        f"uid-{name}",
        "",
        (ip_network(f"10.244.{number}.0/24"),),
        (ip_address(f"192.0.2.{number}"),),
    )
    for number, name in ((1, "me"), (2, "peer"), (3, "third"))
}
EVERYTHING = Caches(NODES, {}, None)


def published(name: str, *endpoints: Address) -> WireGuardNode:
    first, second = (
        LaneKeys(bytes([len(name), n] * 16), bytes([n] * 32), 51870 + n, 1) for n in (1, 2)
    )
    return WireGuardNode(name, (first, second), 0, endpoints)


@dataclass
class FakeHost:
    """Does at once what it is told, but for the lanes while `broken` says so."""

    now_devices: Devices = (None, None)
    made: list[Desired] = field(default_factory=list)
    looked: list[Iterable[str] | None] = field(default_factory=list)
    measured: list[frozenset[Address]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    due_at: float = inf

    def look(self, names: Iterable[str] | None) -> None:
        self.looked.append(names)

    def devices(self) -> Devices:
        return self.now_devices

    def routes(self) -> Mapping[Network, int]:
        return {}

    def path_mtus(self, endpoints: Iterable[Address]) -> dict[Address, int]:
        if self.broken:
            raise NetworkError(self.broken.pop())
        self.measured.append(frozenset(endpoints))
        return dict.fromkeys(endpoints, 1380)

    def turn(self, desired: Desired) -> list[Outcome]:
        self.made.append(desired)
        return []

    def drops(self) -> dict[str, int]:
        return {"leak": 2}

    def problems(self) -> Iterable[Problem]:
        return [Problem("warning", "no nftables")]


class Rig:
    def __init__(self, host: FakeHost | None = None) -> None:
        self.host, self.now = host or FakeHost(), 0.0
        self.agent = Reconciler(
            Identity("me"), self.host, lambda: self.now, lambda: int(self.now * 1e9), Timing()
        )

    def turn(
        self,
        caches: Caches = EVERYTHING,
        look: frozenset[str] | None = frozenset(),
        rotate: bool = False,
    ) -> Result:
        """What is published is confirmed by the next pass, and the devices have their keys."""
        result = self.agent.reconcile(caches, look, rotate)
        self.now += 1
        first, second = (
            InterfaceStats(change.private_key, keys.public_key, keys.port)
            for change, keys in zip(
                result.decision.desired.lanes, result.decision.plan.lanes, strict=True
            )
        )
        self.host.now_devices = first, second
        return result


def settled(rig: Rig, result: Result, passes: int = 40) -> Result:
    """After as many passes with everything confirmed."""
    for _ in range(passes):
        result = rig.turn(replace(EVERYTHING, confirmed=result.decision.publish))
    return result


def epochs(result: Result) -> tuple[int, int]:
    first, second = result.decision.plan.lanes
    return first.epoch, second.epoch


def test_a_pass_tells_what_it_found_and_did() -> None:
    rig = Rig()
    result = rig.turn(look=None)
    assert rig.host.looked == [None]
    assert rig.host.made == [result.decision.desired]
    assert result.devices == (None, None)
    assert result.drops == {"leak": 2}
    assert result.problems == (Problem("warning", "no nftables"),)
    assert (result.unsettled, result.due_at) == ((), inf)


def test_the_first_pass_adopts_what_an_earlier_agent_has_left() -> None:
    before = Rig()
    last = settled(before, before.turn())
    after = Rig(FakeHost(before.host.now_devices))
    result = after.turn(replace(EVERYTHING, confirmed=last.decision.publish))
    assert last.decision.plan.lanes[last.decision.plan.active_lane] in result.decision.plan.lanes


def test_devices_whose_keys_nobody_knows_are_not_adopted() -> None:
    before = Rig()
    last = settled(before, before.turn())
    after = Rig(FakeHost(before.host.now_devices))
    result = after.turn(replace(EVERYTHING, confirmed=None))
    assert not set(last.decision.plan.lanes) & set(result.decision.plan.lanes)


def test_paths_are_measured_all_at_a_full_look_and_each_when_it_is_new() -> None:
    rig = Rig()
    one, other = ip_address("192.0.2.2"), ip_address("192.0.2.3")
    alone = replace(EVERYTHING, published={"peer": published("peer", one)})
    both = {"peer": published("peer", one), "third": published("third", other)}
    rig.turn(alone)
    rig.turn(alone)
    rig.turn(alone, frozenset({"routes"}))
    assert rig.host.measured == [{one}]
    result = rig.turn(replace(EVERYTHING, published=both))
    assert rig.host.measured == [{one}, {other}]
    assert {route.mtu for route in result.decision.desired.pod_routes} == {1380}
    rig.turn(replace(EVERYTHING, published=both), None)
    assert rig.host.measured == [{one}, {other}, {one, other}]
    # Who comes back has perhaps moved.
    rig.turn(alone)
    rig.turn(replace(EVERYTHING, published=both))
    assert rig.host.measured[3:] == [set(), {other}]


def test_paths_that_change_are_measured_at_once_and_then_now_and_then() -> None:
    rig = Rig()
    alone = replace(EVERYTHING, published={"peer": published("peer", ip_address("192.0.2.2"))})
    changed = frozenset({"paths"})
    rig.turn(alone)
    rig.now = 100.0
    rig.turn(alone, changed)
    assert len(rig.host.measured) == 2
    # One second a pass.
    for _ in range(3):
        rig.turn(alone, changed)
    assert len(rig.host.measured) == 2
    # What was put off is not forgotten.
    for _ in range(3):
        rig.turn(alone)
    assert len(rig.host.measured) == 3
    for _ in range(10):
        rig.turn(alone)
    assert len(rig.host.measured) == 3


def test_a_wish_for_new_keys_gives_both_lanes_new_ones() -> None:
    rig = Rig()
    before = settled(rig, rig.turn())
    assert settled(rig, before).decision.plan.lanes == before.decision.plan.lanes
    confirmed = replace(EVERYTHING, confirmed=before.decision.publish)
    after = settled(rig, rig.turn(confirmed, rotate=True), 200)
    assert not set(after.decision.plan.lanes) & set(before.decision.plan.lanes)
    assert min(epochs(after)) == max(epochs(before)) + 1
    assert after.decision.plan.rotation.stage == "steady"


def test_a_wish_that_is_repeated_after_a_failed_pass_is_one_rotation() -> None:
    rig = Rig()
    before = settled(rig, rig.turn())
    confirmed = replace(EVERYTHING, confirmed=before.decision.publish)
    rig.host.broken = ["no netlink"]
    with pytest.raises(NetworkError, match="no netlink"):
        rig.turn(confirmed, None, rotate=True)
    # Nobody has asked again yet.
    assert settled(rig, before).decision.plan.lanes == before.decision.plan.lanes
    after = settled(rig, rig.turn(confirmed, None, rotate=True), 200)
    assert min(epochs(after)) == max(epochs(before)) + 1
