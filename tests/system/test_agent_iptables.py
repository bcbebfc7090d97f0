"""The agent's packet filter by iptables: the tests of nftables, and its own drift."""

# Tests and a fixture that this module runs as its own.
# ruff: noqa: F401, F811

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.network.iptables import IptablesFirewall
from interop.shell import CommandFailed, run
from tests.system.agentnode import LANES, OVERLAY, Lab, Resources
from tests.system.test_agent_network import (
    lab,
    test_a_peer_that_poses_as_our_pod_is_dropped_and_counted,
    test_a_pod_keeps_its_address_towards_a_node_that_no_lane_leads_to,
    test_a_pod_reaches_a_pod_behind_the_lane_under_its_own_address,
    test_a_pod_reaches_its_own_node_under_its_own_address,
    test_a_pod_reaches_the_world_under_the_address_of_the_node,
    test_a_pod_that_poses_as_somebody_else_is_dropped_and_counted,
    test_a_route_of_others_into_the_overlay_leaks_nothing,
    test_a_second_pass_changes_nothing,
    test_an_overlay_source_from_the_underlay_is_dropped_and_counted,
    test_tcp_segments_are_as_large_as_the_route_takes,
    test_the_counts_go_on_when_prefixes_change,
    test_the_node_reaches_a_pod_behind_the_lane_from_the_overlay,
    test_the_node_reaches_itself_by_its_address_in_the_overlay,
    test_the_packet_filter_alone_stops_a_leak_and_counts_it,
)

pytestmark = pytest.mark.system

_PROGRAMS = pytest.mark.parametrize("program", ["iptables", "ip6tables"])
# What Debian has besides those that it has made the host's own.
_VARIANTS = ("", "-legacy")


@pytest.fixture(params=_VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    """Of the programs, newer and older ones."""
    told: str = request.param
    return told


@pytest.fixture
def resources(lab: Lab, tmp_path: Path, variant: str) -> Iterator[Resources]:
    made = Resources(tmp_path, firewall=IptablesFirewall(variant))
    with lab.node.inside():
        made.reconcile()
    yield made
    with lab.node.inside():
        made.remove()
    for lane in LANES:
        lab.node.ip("address", "flush", "dev", lane, "scope", "global")


_DRIFT = {
    "flush": "-t raw -F",
    "chain": "-t mangle -F WGPY-POSTROUTING",
    "jump": "-t nat -D POSTROUTING -j WGPY-NAT",
    "rule in front": "-t raw -I PREROUTING -j ACCEPT",
    "rule in ours": "-t raw -I WGPY-FROM-PODS -j ACCEPT",
}


@_PROGRAMS
@pytest.mark.parametrize("what", _DRIFT)
def test_drift_of_the_rules_is_repaired(
    lab: Lab,
    resources: Resources,
    variant: str,
    program: str,
    what: str,
) -> None:
    program += variant
    with lab.node.inside():
        run(program, *_DRIFT[what].split())
        assert resources.reconcile() == [f"{program} rules are set, they were others"]
        assert resources.reconcile() == []
        if what == "rule in front":
            run(program, *["-t", "raw", "-D", "PREROUTING", "-j", "ACCEPT"])
            assert resources.reconcile() == []


@_PROGRAMS
def test_removal_leaves_the_rules_of_others(
    lab: Lab, tmp_path: Path, variant: str, program: str
) -> None:
    version, program = 6 if program == "ip6tables" else 4, program + variant
    with lab.node.inside():
        run(program, *["-t", "raw", "-A", "PREROUTING", "-i", "other", "-j", "ACCEPT"])
        before = _rules(program)
        made = Resources(tmp_path, firewall=IptablesFirewall(variant))
        made.reconcile()
        assert str(OVERLAY[version]) in _rules(program)
        made.remove()
        made.remove()
        assert _rules(program) == before
        run(program, *["-t", "raw", "-D", "PREROUTING", "-i", "other", "-j", "ACCEPT"])


def test_an_ipv4_cluster_has_its_rules(lab: Lab, tmp_path: Path, variant: str) -> None:
    made = Resources(tmp_path, versions=(4,), firewall=IptablesFirewall(variant))
    with lab.node.inside():
        assert made.reconcile() != []
        assert made.reconcile() == []
        made.remove()


# Without nftables there is nothing but the older programs, and they open a raw socket.
_CAPABILITIES = {"": "+net_admin", "-legacy": "+net_admin,+net_raw"}


def test_the_programs_need_no_other_capabilities_than_the_docs_say(lab: Lab, variant: str) -> None:
    def save(capabilities: str) -> None:
        bound = (f"--bounding-set=-all,{capabilities}", "--inh-caps=-all", "--ambient-caps=-all")
        with lab.node.inside():
            run("setpriv", *bound, "--no-new-privs", f"iptables{variant}-save", "-t", "raw")

    save(_CAPABILITIES[variant])
    if variant:
        with pytest.raises(CommandFailed, match="you must be root"):
            save(_CAPABILITIES[""])


def _rules(program: str) -> str:
    tables = (run(f"{program}-save", "-t", table) for table in ("raw", "mangle", "nat"))
    lines = (line for table in tables for line in table.splitlines())
    return "\n".join(line for line in lines if line.startswith(("-A", ":WGPY")))
