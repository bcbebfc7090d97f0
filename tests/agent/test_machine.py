"""From what this node should be to what each of its resources should be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from agent import machine
from agent.backend import Backend
from agent.machine import LANE_NAMES, Machine, guard_first, lacks, wishes
from agent.model import Problem
from agent.network.base import POD_BRIDGE, NetworkError
from agent.network.guard import Guard, GuardDesired
from agent.network.links import Link
from agent.network.mtu import DEFAULT
from agent.network.nft import Count
from agent.network.routes import Route
from agent.network.rtnetlink import KernelRoute, unreachable
from agent.topology import Desired, PeerRoute
from wgpy.protocol.config import InterfaceChange

OVERLAY = (ip_network("10.244.0.0/16"), ip_network("fd00:10::/48"))
LOCAL = (ip_network("10.244.1.0/24"), ip_network("fd00:10:0:1::/64"))
NODES = (ip_network("192.0.2.1/32"), ip_network("2001:db8::1/128"))
ADDRESSES = (ip_address("10.244.1.0"), ip_address("fd00:10:0:1::"))
POD4, POD6 = ip_network("10.244.2.0/24"), ip_network("fd00:10:0:2::/64")
FIRST, SECOND = InterfaceChange(listen_port=51871), InterfaceChange(listen_port=51872)
DUAL = Desired(
    lanes=(FIRST, SECOND),
    addresses=ADDRESSES,
    pod_routes=(
        PeerRoute(POD4, "peer", 1, 1420, ADDRESSES[0]),
        PeerRoute(POD6, "peer", 1, 1400, ADDRESSES[1]),
    ),
    node_routes=(
        PeerRoute(ip_network("192.0.2.2/32"), "peer", None, 8940),
        PeerRoute(ip_network("2001:db8::2/128"), "peer", 0),
    ),
    overlay=OVERLAY,
    local=LOCAL,
    nodes=NODES,
    problems=(),
)


def wished(
    desired: Desired = DUAL,
    present: tuple[int, ...] = (4, 6),
    usable: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    return dict(wishes(desired, present, present if usable is None else usable))


def test_each_resource_is_told_its_part() -> None:
    told = wished()
    assert list(told) == [
        *("guard", "firewall", "forwarding", "lanes", "bridge"),
        *("sysctls", "links", "routes", "cni"),
    ]
    assert told["guard"].overlay == OVERLAY
    firewall = told["firewall"]
    assert (firewall.overlay, firewall.local, firewall.nodes) == (OVERLAY, LOCAL, NODES)
    assert [(lane.name, lane.config) for lane in told["lanes"].lanes] == [
        ("wgpy0", FIRST),
        ("wgpy1", SECOND),
    ]
    assert told["cni"].pod_cidrs == LOCAL


def test_a_route_goes_by_the_device_of_its_lane_or_nowhere() -> None:
    routes = wished()["routes"]
    assert routes.pods == (
        Route(POD4, "wgpy1", 1420, ADDRESSES[0]),
        Route(POD6, "wgpy1", 1400, ADDRESSES[1]),
    )
    assert [route.device for route in routes.nodes] == [None, "wgpy0"]


def test_the_lanes_are_as_wide_as_the_widest_path_and_so_are_pods() -> None:
    told = wished()
    assert [link.mtu for link in told["links"].links] == [8940] * 3
    assert told["cni"].mtu == 8940
    unknown = replace(DUAL, pod_routes=(PeerRoute(POD4, "peer", 0),), node_routes=())
    assert wished(unknown)["cni"].mtu == DEFAULT


def test_the_bridge_has_the_gateways_of_pods_and_may_be_missing() -> None:
    *lanes, bridge = wished()["links"].links
    assert lanes == [Link(name, 8940, ADDRESSES) for name in LANE_NAMES]
    assert bridge == Link(POD_BRIDGE, 8940, None, LOCAL, required=False)


def test_a_node_without_pod_cidrs_has_no_pod_network() -> None:
    told = wished(replace(DUAL, local=(), addresses=()))
    assert told["cni"].pod_cidrs == ()
    assert told["links"].links[0].addresses == ()


def test_on_a_host_without_ipv6_nothing_is_asked_of_it() -> None:
    told = wished(present=(4,))
    lanes = told.pop("lanes")
    # A device without IPv6 around it still sorts IPv6 packets by peer.
    assert [lane.config for lane in lanes.lanes] == [FIRST, SECOND]
    for wish in told.values():
        assert not any(word in str(wish) for word in ("IPv6", "net/ipv6", "ip6tables"))
    assert told["guard"].overlay == OVERLAY[:1]
    assert told["cni"].pod_cidrs == LOCAL[:1]


def test_where_ipv6_is_switched_off_it_is_guarded_and_not_used() -> None:
    told, none = wished(usable=(4,)), wished(present=(4,))
    assert told["guard"].overlay == told["firewall"].overlay == OVERLAY
    for name in ("sysctls", "links", "routes", "cni"):
        assert told[name] == none[name]


def test_a_node_with_pods_has_a_bridge_for_them() -> None:
    assert wished()["bridge"].wanted
    assert not wished(replace(DUAL, local=(), addresses=()))["bridge"].wanted


def test_what_a_host_lacks_is_told_by_range() -> None:
    assert lacks(OVERLAY, (4,)) == ["fd00:10::/48"]
    assert lacks(OVERLAY[:1], (4,)) == []
    assert lacks(OVERLAY, (4, 6)) == []


class FakeKernel:
    """Its routes, and what the guard is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, versions: list[int]) -> None:
        self.routes: list[KernelRoute] = []
        self.guarded: list[GuardDesired] = []
        self.trouble: OSError | None = None
        monkeypatch.setattr(machine, "open_rtnetlink", self.open)
        monkeypatch.setattr(machine, "own_routes", lambda _: self.routes)
        monkeypatch.setattr(machine, "present_families", lambda: versions)
        monkeypatch.setattr(Guard, "reconcile", lambda _, told: self.guarded.append(told))

    @contextmanager
    def open(self) -> Iterator[None]:
        if self.trouble:
            raise self.trouble
        yield


def test_the_guard_is_there_before_the_cluster_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeKernel(monkeypatch, versions=[4, 6])
    guard_first(OVERLAY)
    assert kernel.guarded == [GuardDesired(OVERLAY)]


def test_a_guard_that_an_earlier_agent_has_left_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeKernel(monkeypatch, versions=[4, 6])
    kernel.routes = [unreachable(POD4)]
    guard_first(OVERLAY)
    assert kernel.guarded == []


def test_the_first_guard_leaves_out_what_the_host_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeKernel(monkeypatch, versions=[4])
    guard_first(OVERLAY)
    assert kernel.guarded == [GuardDesired(OVERLAY[:1])]


def test_a_kernel_that_cannot_be_asked_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeKernel(monkeypatch, versions=[4]).trouble = PermissionError(1, "Operation not permitted")
    with pytest.raises(NetworkError, match="guard: Operation not permitted"):
        guard_first(OVERLAY)


class FakeResource:
    """Is as desired at once; what it cannot count or list it says."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.desired: list[Any] = []
        self.overlay: object = None
        self.packets: int | None = 0
        self.unknown: NetworkError | None = None

    def reconcile(self, desired: Any) -> list[str]:
        self.desired.append(desired)
        return []

    def remove(self) -> None:
        """Nothing to remove."""

    def counters(self) -> dict[str, Count]:
        if self.packets is None:
            raise NetworkError("nft is missing")
        return {f"by_{self.name}": Count(self.packets)}

    def preceded_by(self) -> list[str]:
        return []

    def close(self) -> None:
        """Nothing to close."""


class FakeBackend(Backend):
    def __init__(self) -> None:
        self.desired: list[Any] = []
        self.troubles: list[Problem] = []

    def problems(self) -> Iterator[Problem]:
        return iter(self.troubles)

    def reconcile(self, desired: Any) -> list[str]:
        self.desired.append(desired)
        return []


class Rig:
    """A machine of fake resources, of which the host has `versions` of IP."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, path: Path, versions: tuple[int, ...] = (4, 6)
    ) -> None:
        names = (
            *("guard", "firewall", "forwarding", "bridge", "sysctls", "links"),
            *("routes", "neighbours", "cni", "watch"),
        )
        self.things = {name: FakeResource(name) for name in names}
        self.kernel = FakeKernel(monkeypatch, versions=list(versions))
        self.results = path / "results"
        monkeypatch.setattr(machine, "CNI_STATE", path / "state")
        monkeypatch.setattr(machine, "open_firewall", lambda: self.things["firewall"])
        self.usable = list(versions)
        monkeypatch.setattr(machine, "usable_families", lambda _: self.usable)
        monkeypatch.setattr(machine, "is_available", lambda: True)
        monkeypatch.setattr(machine, "device_names", lambda _: {})
        for name in set(names) - {"firewall"}:
            made = self.things[name]
            monkeypatch.setattr(machine, name.capitalize(), lambda *_, made=made: made)
        self.backend = FakeBackend()
        self.machine = Machine(self.backend, path / "cni", path / "sys", self.results)


def test_all_of_a_node_is_in_order_after_one_turn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rig = Rig(monkeypatch, tmp_path)
    assert len(rig.machine.unsettled) == 10
    assert len(rig.machine.turn(DUAL)) == 10
    assert rig.machine.unsettled == []
    assert list(rig.machine.problems()) == []
    assert rig.things["watch"].overlay == OVERLAY
    assert rig.machine.turn(DUAL) == []


def test_a_host_without_ipv6_says_so_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rig = Rig(monkeypatch, tmp_path, (4,))
    rig.machine.turn(DUAL)
    (problem,) = rig.machine.problems()
    assert problem.severity == "warning"
    assert problem.what == "this node has no IPv6: its pods cannot reach fd00:10::/48"
    rig.machine.turn(replace(DUAL, overlay=OVERLAY[:1]))
    assert list(rig.machine.problems()) == []


def test_ipv6_that_is_switched_off_meanwhile_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rig = Rig(monkeypatch, tmp_path)
    rig.machine.turn(DUAL)
    rig.usable.remove(6)
    rig.machine.turn(DUAL)
    assert rig.things["cni"].desired[-1].pod_cidrs == LOCAL[:1]
    (problem,) = rig.machine.problems()
    assert problem.what == ("IPv6 is switched off on this node: its pods cannot reach fd00:10::/48")
    assert "net.ipv6.conf.all.disable_ipv6" in problem.advice
    rig.usable.append(6)
    rig.machine.turn(DUAL)
    assert list(rig.machine.problems()) == []


def test_what_ails_a_lane_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rig = Rig(monkeypatch, tmp_path)
    rig.machine.turn(DUAL)
    trouble = Problem("error", "wgpy0: its daemon does not answer")
    rig.backend.troubles.append(trouble)
    assert list(rig.machine.problems()) == [trouble]


def test_rules_of_others_that_cannot_be_read_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rig = Rig(monkeypatch, tmp_path)
    rig.machine.turn(DUAL)
    rig.things["forwarding"].unknown = NetworkError("not permitted", "give it")
    (problem,) = rig.machine.problems()
    assert (problem.severity, problem.advice) == ("warning", "give it")
    assert problem.what == "whether others forbid forwarding is not known: not permitted"


def test_attachments_that_cannot_be_read_stop_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rig = Rig(monkeypatch, tmp_path)
    rig.results.rmdir()
    assert len(rig.machine.turn(DUAL)) == 9
    assert rig.machine.unsettled == ["neighbours"]
    (problem,) = rig.machine.problems()
    assert problem.severity == "error"
    assert problem.what.startswith(f"neighbours: attachments in {rig.results}: No such file")
    rig.results.mkdir()
    assert len(rig.machine.turn(DUAL)) == 1
    assert list(rig.machine.problems()) == []


def test_drops_that_cannot_be_counted_are_those_of_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rig = Rig(monkeypatch, tmp_path)
    rig.things["firewall"].packets = 7
    assert rig.machine.drops() == {"by_firewall": 7, "by_neighbours": 0}
    rig.things["firewall"].packets, rig.things["neighbours"].packets = None, 3
    assert rig.machine.drops() == {"by_firewall": 7, "by_neighbours": 3}
