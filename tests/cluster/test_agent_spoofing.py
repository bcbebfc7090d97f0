"""Nobody is taken for a pod that he is not, and nothing for a pod goes another way."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest

from interop.netns import Namespace
from interop.shell import CommandFailed, ScenarioFailed, wait_until
from tests.cluster.agents import Agents
from tests.cluster.forge import forge, listener, mac_address
from tests.cluster.pod import Pod

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

VERSIONS = pytest.mark.parametrize("version", [4, 6])
_COUNT = 5
# Seconds for what must come; what must not is waited for a second.
_PATIENCE = 30.0
_BRIDGE = "wgpy-pods"


@pytest.fixture(scope="module")
def pods(agents: Agents) -> list[Pod]:
    """One on each node, and a second one on the first, whose agent knows both."""
    pods = [*(agents.cluster.pod(n, "a") for n in agents.numbers), agents.cluster.pod(1, "b")]

    def known() -> int:
        listed = agents.cluster.nodes[0].run("nft", "list", "table", "bridge", "wgpy")
        return listed.count("chain pod_")

    wait_until("both pods are known", lambda: known() == 2, _PATIENCE, every=0.2)
    return pods


def _drops(agents: Agents, number: int) -> dict[str, int]:
    told = agents.status(number)
    assert told is not None
    found: dict[str, int] = told["firewall_drops"]
    return found


def _counted(agents: Agents, before: dict[str, int], expected: dict[str, int]) -> None:
    """Exactly so many have been dropped since, by reason; what is told may be a second old."""
    found: dict[str, int] = {}

    def told() -> bool:
        nonlocal found
        found = _more(_drops(agents, 1), before)
        return sum(found.values()) >= sum(expected.values())

    with suppress(ScenarioFailed):
        wait_until("they are counted", told, _PATIENCE, every=0.5)
    assert found == expected


def _more(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {r: now[r] - before.get(r, 0) for r in now if now[r] != before.get(r, 0)}


def _unused(pod: Pod, version: int) -> str:
    """An address of the same node that no pod has."""
    return {4: "10.244.{}.99", 6: "fd00:244:0:{}::99"}[version].format(
        pod.addresses[4].split(".")[2]
    )


def _sender(sock: socket.socket) -> str:
    """Of one that must come."""
    before = sock.gettimeout()
    sock.settimeout(_PATIENCE)
    try:
        sender: str = sock.recvfrom(100)[1][0]
    finally:
        sock.settimeout(before)
    return sender


def test_forged_packets_arrive_where_nobody_looks_at_them(agents: Agents, pods: list[Pod]) -> None:
    """The forger forges well: from the node itself, as the bridge's own address, they arrive."""
    node = agents.cluster.nodes[0].namespace
    gateways = {4: "10.244.1.1", 6: "fd00:244:0:1::1"}
    mac = mac_address(pods[0].namespace, "eth0")
    for version, gateway in gateways.items():
        with listener(pods[0].namespace, pods[0].addresses[version]) as sock:
            forge(node, _BRIDGE, gateway, pods[0].addresses[version], mac)
            assert _sender(sock) == gateway


@VERSIONS
@pytest.mark.parametrize("who", ["pod of another node", "pod of this node", "nobody's"])
def test_the_underlay_cannot_speak_for_a_pod(
    agents: Agents, pods: list[Pod], version: int, who: str
) -> None:
    source = {
        "pod of another node": pods[1].addresses[version],
        "pod of this node": pods[4].addresses[version],
        "nobody's": _unused(pods[0], version),
    }[who]
    node = agents.cluster.nodes[0].namespace
    mac = mac_address(node, "eth0")
    targets: list[tuple[Namespace, str]] = [
        (pods[0].namespace, pods[0].addresses[version]),
        (node, agents.cluster.internal_ips(1)[0 if version == 4 else 1]),
    ]
    before = _drops(agents, 1)
    for namespace, address in targets:
        with listener(namespace, address) as sock:
            for _ in range(_COUNT):
                forge(agents.cluster.switch, "br0", source, address, mac)
            with pytest.raises(TimeoutError):
                sock.recv(100)
    _counted(agents, before, {"underlay_spoof": _COUNT * len(targets)})


@VERSIONS
@pytest.mark.parametrize("whose", ["another node", "this node", "the world"])
def test_a_pod_cannot_pose_as_another(
    agents: Agents, pods: list[Pod], version: int, whose: str
) -> None:
    """Nor as one that is not there."""
    source = {
        "another node": pods[1].addresses[version],
        "this node": pods[4].addresses[version],
        "the world": {4: "198.51.100.1", 6: "2001:db8::bad"}[version],
    }[whose]
    mac = mac_address(agents.cluster.nodes[0].namespace, _BRIDGE)
    before = _drops(agents, 1)
    for target in (pods[2], pods[3]):
        with listener(target.namespace, target.addresses[version]) as sock:
            for _ in range(_COUNT):
                forge(pods[0].namespace, "eth0", source, target.addresses[version], mac)
            with pytest.raises(TimeoutError):
                sock.recv(100)
    # The bridge knows its pods.
    _counted(agents, before, {"neighbour_spoof": 2 * _COUNT})


@VERSIONS
def test_a_pod_cannot_pose_as_its_neighbour_towards_another_neighbour(
    agents: Agents, pods: list[Pod], version: int
) -> None:
    victim = agents.cluster.pod(1, f"victim{version}")
    before = _drops(agents, 1)
    mac = mac_address(victim.namespace, "eth0")
    with listener(victim.namespace, victim.addresses[version]) as sock:
        forge(pods[0].namespace, "eth0", pods[0].addresses[version], victim.addresses[version], mac)
        assert _sender(sock) == pods[0].addresses[version]
        for _ in range(_COUNT):
            source = pods[4].addresses[version]
            forge(pods[0].namespace, "eth0", source, victim.addresses[version], mac)
        with pytest.raises(TimeoutError):
            sock.recv(100)
    _counted(agents, before, {"neighbour_spoof": _COUNT})


@VERSIONS
@pytest.mark.parametrize("who", ["us", "a third node"])
def test_a_peer_cannot_speak_for_pods_of_others(
    agents: Agents, pods: list[Pod], version: int, who: str
) -> None:
    """Node 2 is in other hands: what it puts into its tunnel is from whom it likes."""
    source = (pods[4] if who == "us" else pods[2]).addresses[version]
    before = _lane_drops(agents)
    node = agents.cluster.nodes[1].namespace
    with listener(pods[0].namespace, pods[0].addresses[version]) as sock:
        forge(node, "wgpy0", pods[1].addresses[version], pods[0].addresses[version])
        assert _sender(sock) == pods[1].addresses[version]
        for _ in range(_COUNT):
            forge(node, "wgpy0", source, pods[0].addresses[version])
        with pytest.raises(TimeoutError):
            sock.recv(100)
    wait_until(
        "they are counted",
        lambda: _more(_lane_drops(agents), before) == {"bad-source": _COUNT},
        _PATIENCE,
        every=0.5,
    )


def _lane_drops(agents: Agents) -> dict[str, int]:
    told = agents.status(1)
    assert told is not None
    found: dict[str, int] = told["lanes"][0]["drops"]
    return found


@VERSIONS
def test_what_a_wrong_route_leads_elsewhere_is_dropped_and_counted(
    agents: Agents, pods: list[Pod], version: int
) -> None:
    """A route of somebody else, more specific than ours."""
    target = pods[1].addresses[version]
    length, gateway = {4: (32, "198.18.0.1"), 6: (128, "2001:2:0:1::1")}[version]
    node = agents.cluster.nodes[0]
    before = _drops(agents, 1)
    node.run(*f"ip route add {target}/{length} via {gateway}".split())
    try:
        with pytest.raises(CommandFailed):
            pods[0].ping(target, attempts=2, patience=0.5)
    finally:
        node.run(*f"ip route del {target}/{length} via {gateway}".split())
    _counted(agents, before, {"leak": 2})
    pods[0].ping(target)
