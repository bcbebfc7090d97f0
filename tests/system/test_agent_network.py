"""The agent's network resources on a node: real packets, real drift."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from agent.network.base import NetworkError
from agent.network.firewall import Firewall
from agent.network.mtu import path_mtus
from agent.network.ruleset import FirewallDesired
from interop.shell import run
from tests.system.agentnode import (
    FAR,
    FAR_NODE,
    FAR_POD,
    GATEWAY,
    LANES,
    LOCAL,
    NODE,
    OVERLAY,
    OWN,
    POD,
    ROUTE_MTU,
    WORLD,
    Lab,
    Resources,
    accepted_segment_size,
    capture,
    flood,
    listener,
    nothing_comes,
    received_from,
    send,
    state,
    sysctl,
)
from tests.system.tunhost import Namespace

pytestmark = pytest.mark.system

VERSIONS = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture
def resources(lab: Lab, tmp_path: Path) -> Iterator[Resources]:
    made = Resources(tmp_path)
    with lab.node.inside():
        made.reconcile()
    yield made
    with lab.node.inside():
        made.remove()
    _without_addresses(lab)


def _without_addresses(lab: Lab) -> None:
    """As if the lanes were new: their addresses go with them."""
    for lane in LANES:
        lab.node.ip("address", "flush", "dev", lane, "scope", "global")


def _drops(lab: Lab, resources: Resources) -> dict[str, int]:
    with lab.node.inside():
        return {name: count.packets for name, count in resources.firewall.counters().items()}


def test_a_second_pass_changes_nothing(lab: Lab, resources: Resources) -> None:
    before = state(lab.node)
    with lab.node.inside():
        assert resources.reconcile() == []
    assert state(lab.node) == before


def test_an_agent_that_starts_anew_finds_nothing_to_change(
    lab: Lab, resources: Resources, tmp_path: Path
) -> None:
    with lab.node.inside():
        assert Resources(tmp_path).reconcile() == []


def test_removal_leaves_the_host_as_it_was(lab: Lab, tmp_path: Path) -> None:
    forwarding = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
    for lane in (*LANES, "wgpy-pods"):  # as the addresses, it goes with the device
        lab.node.ip("link", "set", lane, "mtu", "1420")
    before = state(lab.node), [sysctl(lab.node, key) for key in forwarding]
    with lab.node.inside():
        assert Resources(tmp_path).reconcile() != []
        assert state(lab.node) != before[0]
        Resources(tmp_path).remove()  # by a later process
    _without_addresses(lab)
    assert (state(lab.node), [sysctl(lab.node, key) for key in forwarding]) == before
    assert "wgpy" not in nft(lab.node, "list ruleset")
    assert list(tmp_path.iterdir()) == []


@VERSIONS
def test_a_pod_reaches_a_pod_behind_the_lane_under_its_own_address(
    lab: Lab, resources: Resources, version: int
) -> None:
    with listener(lab.far, version) as far:
        send(lab.pod, version, FAR_POD[version])
        assert received_from(far) == POD[version]
    with listener(lab.pod, version) as pod:
        send(lab.far, version, POD[version], FAR_POD[version])
        assert received_from(pod) == FAR_POD[version]
    assert set(_drops(lab, resources).values()) == {0}


@VERSIONS
def test_the_node_reaches_a_pod_behind_the_lane_from_the_overlay(
    lab: Lab, resources: Resources, version: int
) -> None:
    with listener(lab.far, version) as far:
        send(lab.node, version, FAR_POD[version])
        assert received_from(far) == str(OWN[version])
    # Also over TCP, whose answers come in by the lane.
    assert accepted_segment_size(lab.node, lab.far, version, FAR_POD[version]) > 0


@VERSIONS
def test_a_pod_reaches_another_node_through_the_lane_under_its_own_address(
    lab: Lab, resources: Resources, version: int
) -> None:
    address = str(FAR_NODE[version].network_address)
    with listener(lab.far, version) as far:
        send(lab.pod, version, address)
        assert received_from(far) == POD[version]
        # The node's own packets carry the tunnel, and stay outside.
        with capture(lab.world, "eth0") as seen:
            send(lab.node, version, address)
            assert any(b"hello" in frame for frame in seen())
        assert nothing_comes(far)


@VERSIONS
def test_a_pod_reaches_the_world_under_the_address_of_the_node(
    lab: Lab, resources: Resources, version: int
) -> None:
    with listener(lab.world, version) as world:
        send(lab.pod, version, WORLD[version])
        assert received_from(world) == NODE[version]


@VERSIONS
def test_a_pod_keeps_its_address_towards_a_node_that_no_lane_leads_to(
    lab: Lab, resources: Resources, version: int
) -> None:
    node = ip_network(f"{WORLD[version]}/{FAR_NODE[version].prefixlen}")
    with lab.node.inside():
        resources.firewall.reconcile(
            FirewallDesired(LANES, tuple(OVERLAY.values()), tuple(LOCAL.values()), (node,))
        )
    with listener(lab.world, version) as world:
        send(lab.pod, version, WORLD[version])
        assert received_from(world) == POD[version]


@VERSIONS
def test_the_node_reaches_itself_by_its_address_in_the_overlay(
    lab: Lab, resources: Resources, version: int
) -> None:
    own = str(OWN[version])
    with listener(lab.node, version) as node:
        send(lab.node, version, own, own)
        assert received_from(node) == own


@VERSIONS
def test_a_pod_reaches_its_own_node_under_its_own_address(
    lab: Lab, resources: Resources, version: int
) -> None:
    with listener(lab.node, version) as node:
        send(lab.pod, version, NODE[version])
        assert received_from(node) == POD[version]


@VERSIONS
@pytest.mark.parametrize("source", ["a remote pod", "the world"])
def test_a_pod_that_poses_as_somebody_else_is_dropped_and_counted(
    lab: Lab, resources: Resources, version: int, source: str
) -> None:
    spoofed = FAR_POD[version] if source == "a remote pod" else WORLD[version]
    with listener(lab.far, version) as far, listener(lab.node, version) as node:
        send(lab.pod, version, FAR_POD[version], spoofed)
        send(lab.pod, version, GATEWAY[version], spoofed)
        assert nothing_comes(far)
        assert nothing_comes(node)
    assert _drops(lab, resources)["pod_spoof"] == 2


@VERSIONS
def test_a_peer_that_poses_as_our_pod_is_dropped_and_counted(
    lab: Lab, resources: Resources, version: int
) -> None:
    neighbour = str(LOCAL[version][9])
    with listener(lab.pod, version) as pod:
        send(lab.far, version, POD[version], neighbour)
        assert nothing_comes(pod)
    assert _drops(lab, resources)["lane_spoof"] == 1


@VERSIONS
@pytest.mark.parametrize("whose", ["remote", "local"])
def test_an_overlay_source_from_the_underlay_is_dropped_and_counted(
    lab: Lab, resources: Resources, version: int, whose: str
) -> None:
    spoofed = FAR_POD[version] if whose == "remote" else str(LOCAL[version][9])
    with listener(lab.pod, version) as pod, listener(lab.node, version) as node:
        send(lab.world, version, POD[version], spoofed)
        send(lab.world, version, NODE[version], spoofed)
        assert nothing_comes(pod)
        assert nothing_comes(node)
    assert _drops(lab, resources)["underlay_spoof"] == 2


def _send_to_the_far_side(lab: Lab, version: int) -> None:
    for sender in (lab.pod, lab.node):
        send(sender, version, FAR_POD[version])
    send(lab.pod, version, str(FAR_NODE[version].network_address))


@VERSIONS
def test_nothing_leaves_in_the_clear_while_a_lane_is_gone(
    lab: Lab, resources: Resources, version: int
) -> None:
    with capture(lab.world, "eth0") as seen:
        lab.node.ip("link", "del", "wgpy0")
        try:
            _send_to_the_far_side(lab, version)
            assert not any(b"hello" in frame for frame in seen())
        finally:
            lab.add_lane("wgpy0")
    with lab.node.inside():
        assert resources.reconcile() != []
    with listener(lab.far, version) as far:
        send(lab.pod, version, FAR_POD[version])
        assert received_from(far) == POD[version]


@VERSIONS
def test_the_packet_filter_alone_stops_a_leak_and_counts_it(
    lab: Lab, resources: Resources, version: int
) -> None:
    with lab.node.inside():
        resources.routes.remove()
        resources.guard.remove()
    with capture(lab.world, "eth0") as seen:
        for sender in (lab.pod, lab.node):
            send(sender, version, FAR_POD[version])
        assert not any(b"hello" in frame for frame in seen())
    assert _drops(lab, resources)["leak"] == 2


@VERSIONS
def test_a_route_of_others_into_the_overlay_leaks_nothing(
    lab: Lab, resources: Resources, version: int
) -> None:
    prefix = f"{FAR_POD[version]}/{FAR[version].max_prefixlen}"
    lab.node.ip("route", "add", prefix, "via", WORLD[version])
    try:
        with capture(lab.world, "eth0") as seen:
            send(lab.pod, version, FAR_POD[version])
            assert not any(b"hello" in frame for frame in seen())
    finally:
        lab.node.ip("route", "del", prefix)
    assert _drops(lab, resources)["leak"] == 1


@VERSIONS
def test_tcp_segments_are_as_large_as_the_route_takes(
    lab: Lab, resources: Resources, version: int
) -> None:
    headers = {4: 40, 6: 60}[version]
    # What the far side may send: the SYN crossed the route with its MTU. 12 bytes of timestamps.
    size = accepted_segment_size(lab.pod, lab.far, version, FAR_POD[version])
    assert size == ROUTE_MTU - headers - 12


@VERSIONS
def test_a_route_moves_to_the_other_lane_while_packets_flow(
    lab: Lab, resources: Resources, version: int
) -> None:
    with listener(lab.far, version) as far, capture(lab.node, "wgpy1") as seen:
        with lab.node.inside():
            changed = resources.reconcile(lane="wgpy1")
        assert len(changed) == 4
        send(lab.pod, version, FAR_POD[version])
        assert received_from(far) == POD[version]
        assert any(b"hello" in frame for frame in seen())


_DRIFT = {
    "address": "address del {own} dev wgpy0",
    "address of another": "address add 10.9.9.9/32 dev wgpy1",
    "mtu": "link set wgpy1 mtu 1280",
    "state": "link set wgpy1 down",
    "bridge mtu": "link set wgpy-pods mtu 1300",
    "guard": "route del unreachable {overlay} metric 2147483648",
    "pod route": "route del {far}",
    "pod route of another": "route replace {far} dev eth0 proto 157 metric {metric}",
    "pod route without mtu": "route replace {far} dev wgpy0 src {own} proto 157 metric {metric}",
    "pod route by a gateway": "route replace {far} via {gateway} dev wgpy0 onlink src {own} "
    "mtu 1300 proto 157 metric {metric}",
    "pod route by two ways": "route replace 10.244.2.0/24 proto 157 "
    "nexthop dev wgpy0 nexthop dev wgpy1",
    "pod route of two ways too many": "route add 10.244.78.0/24 proto 157 "
    "nexthop dev wgpy0 nexthop dev wgpy1",
    "pod route too many": "route add 10.244.77.0/24 dev wgpy0 proto 157",
    "node route": "route del {node} table 5157 metric {metric}",
    "node guard": "route del unreachable {node} table 5157 metric 2147483648",
    "rule": "rule del priority 5157",
    "rule of another": "rule add priority 99 iif wgpy-pods table 5157 protocol 157",
}


@VERSIONS
@pytest.mark.parametrize("what", _DRIFT)
def test_drift_of_links_routes_and_rules_is_repaired(
    lab: Lab, resources: Resources, version: int, what: str
) -> None:
    before = state(lab.node)
    words = _DRIFT[what].format(
        own=OWN[version], overlay=OVERLAY[version], far=FAR[version],
        node=FAR_NODE[version], gateway={4: WORLD[4], 6: "fe80::2"}[version],
        metric={4: 0, 6: 1}[version],
    )  # fmt: skip
    lab.node.ip(f"-{version}" if "10." not in words else "-4", *words.split())
    assert state(lab.node) != before
    with lab.node.inside():
        assert resources.reconcile() != []
        assert resources.reconcile() == []
    assert sorted(state(lab.node).split()) == sorted(before.split())


_NFT_DRIFT = {
    "table": "delete table inet wgpy",
    "chain": "flush chain inet wgpy postrouting",
    "rule in front": "insert rule inet wgpy prerouting accept",
    "set": "flush set inet wgpy overlay4",
    "set element": "add element inet wgpy local4 { 10.99.0.0/24 }",
}


@pytest.mark.parametrize("what", _NFT_DRIFT)
def test_drift_of_the_packet_filter_is_repaired(lab: Lab, resources: Resources, what: str) -> None:
    before = nft(lab.node, "list table inet wgpy")
    nft(lab.node, _NFT_DRIFT[what])
    with lab.node.inside():
        assert len(resources.reconcile()) == 1
        assert resources.reconcile() == []
    assert nft(lab.node, "list table inet wgpy") == before


_SETTINGS = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/wgpy0/rp_filter",
    "net/ipv6/conf/wgpy1/forwarding",
)


@pytest.mark.parametrize("key", _SETTINGS)
def test_drift_of_a_setting_is_repaired(lab: Lab, resources: Resources, key: str) -> None:
    before = sysctl(lab.node, key)
    sysctl(lab.node, key, "0")
    with lab.node.inside():
        assert any(key in sentence for sentence in resources.reconcile())
    assert sysctl(lab.node, key) == before != "0"


@VERSIONS
def test_no_packet_is_taken_for_spoofed_while_prefixes_change(
    lab: Lab, resources: Resources, version: int
) -> None:
    """Nor when agents start one after the other."""
    overlay, local = tuple(OVERLAY.values()), tuple(LOCAL.values())
    with flood(lab.pod, GATEWAY[version]), lab.node.inside():
        for turn in range(40):
            nodes = tuple(network for network in FAR_NODE.values() if turn % 2)
            told = Firewall().reconcile(FirewallDesired(LANES, overlay, local, nodes))
            assert len(told) == 1
    assert set(_drops(lab, resources).values()) == {0}


def test_the_counts_go_on_when_prefixes_change(lab: Lab, resources: Resources) -> None:
    send(lab.pod, 4, FAR_POD[4], WORLD[4])
    resources.versions = (4,)
    with lab.node.inside():
        assert resources.reconcile() != []
    assert _drops(lab, resources)["pod_spoof"] == 1


def test_the_path_mtu_is_that_of_the_route_less_the_tunnel(lab: Lab) -> None:
    four, six = map(ip_address, WORLD.values())
    with lab.node.inside():
        assert path_mtus([four, six]) == {four: 1500 - 60, six: 1500 - 80}
    prefixes = (f"{four}/32", f"{six}/128")
    for prefix in prefixes:
        lab.node.ip("route", "add", prefix, "dev", "eth0", "mtu", "1400")
    try:
        with lab.node.inside():
            assert path_mtus([four, six]) == {four: 1340, six: 1320}
    finally:
        for prefix in prefixes:
            lab.node.ip("route", "del", prefix)


def test_an_endpoint_without_a_route_has_no_path_mtu(host_without_ipv6: Namespace) -> None:
    with host_without_ipv6.inside():
        assert path_mtus(map(ip_address, WORLD.values())) == {}


@pytest.fixture
def host_without_ipv6() -> Iterator[Namespace]:
    namespace = Namespace(f"an{os.getpid()}o")
    try:
        for which in ("all", "default"):
            sysctl(namespace, f"net/ipv6/conf/{which}/disable_ipv6", "1")
        for lane in LANES:
            namespace.ip("tuntap", "add", lane, "mode", "tun")
        yield namespace
    finally:
        namespace.remove()


def test_a_host_without_ipv6_serves_an_ipv4_cluster(
    host_without_ipv6: Namespace, tmp_path: Path
) -> None:
    resources = Resources(tmp_path, versions=(4,))
    with host_without_ipv6.inside():
        assert resources.reconcile() != []
        assert resources.reconcile() == []
        resources.remove()


def nft(namespace: Namespace, words: str) -> str:
    with namespace.inside():
        return run("nft", *words.split())


def test_a_host_without_ipv6_serves_the_ipv4_half_and_says_what_is_missing(
    host_without_ipv6: Namespace, tmp_path: Path
) -> None:
    resources = Resources(tmp_path)
    with host_without_ipv6.inside():
        with pytest.raises(NetworkError, match="fd00:244:0:3::.*enable IPv6") as caught:
            resources.links.reconcile(resources.wanted_links())
        assert sum("10.244.3.0" in sentence for sentence in caught.value.changed) == 2


def test_ipv6_is_switched_on_for_lanes_where_others_have_none(
    host_without_ipv6: Namespace, tmp_path: Path
) -> None:
    resources = Resources(tmp_path)
    with host_without_ipv6.inside():
        resources.reconcile()
        assert resources.reconcile() == []
    assert sysctl(host_without_ipv6, "net/ipv6/conf/lo/disable_ipv6") == "1"
