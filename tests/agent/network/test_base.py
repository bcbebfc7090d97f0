"""How a pass over a resource goes on after a failure, and what it says in the end."""

from errno import EACCES, ENODEV, EPERM, EROFS
from pathlib import Path

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from agent.backend import Backend, LanesDesired
from agent.network.base import NetworkError, Report, Resource, explained
from agent.network.bridge import Bridge, BridgeDesired
from agent.network.cni import Cni, CniDesired
from agent.network.firewall import Firewall
from agent.network.forwarding import Forwarding, ForwardingDesired
from agent.network.guard import Guard, GuardDesired
from agent.network.links import Links, LinksDesired
from agent.network.neighbours import Neighbours, NeighboursDesired
from agent.network.routes import Routes, RoutesDesired
from agent.network.ruleset import FirewallDesired
from agent.network.sysctls import Sysctls, SysctlsDesired
from agent.network.watch import EVERYTHING


def test_a_failed_step_does_not_stop_the_next_and_both_are_told() -> None:
    report = Report()
    with report.step("route 10.0.0.0/24"):
        raise NetlinkError(EPERM, "Operation not permitted")
    with report.step("sysctl x"):
        report.changed.append("sysctl x is 1")
    with report.step("file"):
        raise NetworkError("file: full", "make room")
    with pytest.raises(NetworkError) as caught:
        report.end()
    assert caught.value.changed == ("sysctl x is 1",)
    assert str(caught.value) == (
        "route 10.0.0.0/24: Operation not permitted; file: full; "
        "give the agent CAP_NET_ADMIN; make room"
    )


def test_of_thousands_of_failures_a_few_are_named() -> None:
    report = Report()
    for number in range(4000):
        with report.step(f"route {number}"):
            raise OSError(ENODEV, "No such device")
    with pytest.raises(NetworkError, match="^route 0: .*; route 4: .*; and 3995 more$"):
        report.end()


def test_a_bug_is_not_taken_for_a_failure() -> None:
    with pytest.raises(KeyError), Report().step("x"):
        raise KeyError("x")


def test_without_failure_the_end_is_what_was_changed() -> None:
    report = Report()
    with report.step("x"):
        report.changed.append("x is set")
    assert report.end() == ["x is set"]


def test_what_the_kernel_refuses_of_ipv6_alone_is_told_as_ipv6_switched_off() -> None:
    assert "IPv6" in explained("address fd00::1", OSError(EACCES, "no")).advice
    assert explained("address 10.0.0.1", OSError(EACCES, "no")).advice == ""


def test_a_read_only_proc_is_told_with_advice() -> None:
    assert "/proc/sys" in explained("sysctl net/ipv4/ip_forward", OSError(EROFS, "no")).advice


def test_all_resources_have_one_shape_and_names_of_their_own(tmp_path: Path) -> None:
    bridge: Resource[BridgeDesired] = Bridge()
    cni: Resource[CniDesired] = Cni(tmp_path, tmp_path / "run")
    firewall: Resource[FirewallDesired] = Firewall()
    forwarding: Resource[ForwardingDesired] = Forwarding()
    guard: Resource[GuardDesired] = Guard()
    lanes: type[Resource[LanesDesired]] = Backend
    links: Resource[LinksDesired] = Links()
    neighbours: Resource[NeighboursDesired] = Neighbours()
    routes: Resource[RoutesDesired] = Routes()
    sysctls: Resource[SysctlsDesired] = Sysctls(tmp_path, tmp_path / "state")
    found = (bridge, cni, firewall, forwarding, guard, lanes, links, neighbours, routes, sysctls)
    names = [resource.name for resource in found]
    assert names == sorted(set(names))
    # The way to other nodes is nothing that is kept.
    assert {*names} - {"cni"} == EVERYTHING - {"paths"}
