"""`wgpy-agent trace` names the hop where a packet stops: each is broken in its turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from interop.shell import CommandFailed
from tests.cluster.agents import Agents
from tests.cluster.pod import Pod, attach, detach

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

_DROP = """
table {family} breaking {{
  chain broken {{
    type filter hook {hook} priority 0
    {match} drop
  }}
}}
"""
_MEND = "nft delete table {} breaking"
_NOWHERE = {4: "10.244.2.250", 6: "fd00:244:0:2::fa"}


@pytest.fixture(scope="module")
def pods(agents: Agents) -> list[Pod]:
    return [agents.cluster.pod(1, "a"), agents.cluster.pod(2, "b"), agents.cluster.pod(1, "c")]


@pytest.fixture(scope="module")
def unattended(agents: Agents, pods: list[Pod]) -> Agents:
    """Nobody mends what is broken on the first two nodes; traffic goes on."""
    agents.wait_ready()
    for number in (1, 2):
        agents.stop_agent(number)
    return agents


def _trace(agents: Agents, source: str, target: str) -> str:
    """All that it prints on the first node, whatever it exits with."""
    try:
        return agents.run(1, "trace", source, target)
    except CommandFailed as failure:
        return str(failure)


def _stops(agents: Agents, source: str, target: str, hop: str, why: str) -> None:
    text = _trace(agents, source, target)
    assert f"it stops at: {hop}\n" in f"{text}\n", text
    assert why in text, text


@contextmanager
def _dropping(agents: Agents, number: int, family: str, hook: str, match: str) -> Iterator[None]:
    """A rule of somebody else on that node."""
    node = agents.cluster.nodes[number - 1]
    rules = _DROP.format(family=family, hook=hook, match=match)
    node.run("nft", "-f", "-", stdin=rules)
    try:
        yield
    finally:
        node.run(*_MEND.format(family).split())


@contextmanager
def _done(agents: Agents, number: int, deed: str, undo: str) -> Iterator[None]:
    node = agents.cluster.nodes[number - 1]
    node.run("sh", "-c", deed)
    try:
        yield
    finally:
        node.run("sh", "-c", undo)


@pytest.mark.parametrize("version", [4, 6])
def test_a_good_way_is_shown_hop_by_hop(agents: Agents, pods: list[Pod], version: int) -> None:
    agents.wait_ready()
    one, other = (pod.addresses[version] for pod in pods[:2])
    text = agents.run(1, "trace", one, other)
    assert "ERROR" not in text and "WARNING" not in text, text
    assert [line[10:23].strip() for line in text.splitlines() if line.startswith("  ok")] == [
        "pod",
        "veth",
        "bridge",
        "route",
        "filter",
        "lane",
        "endpoint",
        "underlay",
        "other lane",
        "other pod",
        "way back",
    ], text
    assert "3 packets from" in text and "packets of up to 1440 bytes" in text
    assert text.endswith("it arrives, and the answer comes back\n")


def test_pods_of_one_node_meet_on_its_bridge(agents: Agents, pods: list[Pod]) -> None:
    text = agents.run(1, "trace", pods[0].addresses[4], pods[2].addresses[4])
    assert "dev wgpy-pods" in text and "lane" not in text
    assert text.endswith("it arrives, and the answer comes back\n")


def test_pods_are_known_by_name(agents: Agents, pods: list[Pod]) -> None:
    path = "/api/v1/namespaces/default/pods"
    for pod in pods[:2]:
        spec = {
            "nodeName": pod.node.name,
            "containers": [{"name": "c", "image": "none"}],
            "automountServiceAccountToken": False,
        }
        agents.admin.create(path, {"metadata": {"name": f"trace-{pod.name}"}, "spec": spec})
        ips = [{"ip": address} for address in pod.addresses.values()]
        status = {"phase": "Running", "podIP": ips[0]["ip"], "podIPs": ips}
        agents.admin.merge(f"{path}/trace-{pod.name}/status", {"status": status})
    try:
        text = agents.run(1, "trace", "default/trace-a", "default/trace-b")
    finally:
        for pod in pods[:2]:
            agents.admin.delete(f"{path}/trace-{pod.name}?gracePeriodSeconds=0")
    for version in (4, 6):
        assert f"from {pods[0].addresses[version]} to {pods[1].addresses[version]}:" in text
    assert text.count("it arrives, and the answer comes back") == 2
    assert "there is no pod default/nobody" in _trace(agents, "default/nobody", "10.244.2.2")
    assert "neither NAMESPACE/NAME nor an address" in _trace(agents, "nonsense", "10.244.2.2")


def test_it_is_run_on_the_node_of_the_first_pod(agents: Agents, pods: list[Pod]) -> None:
    other = agents.cluster.nodes[1].name
    why = f"-> run this in the agent's pod on node {other}"
    _stops(agents, pods[1].addresses[4], pods[0].addresses[4], "pod", why)


def test_nobody_has_the_other_address(agents: Agents, pods: list[Pod]) -> None:
    source = pods[0].addresses
    _stops(agents, source[4], "192.0.2.1", "route", "192.0.2.1 is in no node's pod CIDR")
    for version in (4, 6):
        why = f"nobody says that he is {_NOWHERE[version]}"
        _stops(agents, source[version], _NOWHERE[version], "other pod", why)


# What the other node's agent tells, as long as it runs.


@pytest.mark.parametrize("port", ["dport", "sport"])
def test_an_underlay_that_loses_the_tunnel(agents: Agents, pods: list[Pod], port: str) -> None:
    """On the way there, and on the way back."""
    source, target = pods[0].addresses[4], pods[1].addresses[4]
    if port == "dport":
        number, why = 2, "the agent there says that nothing of it has come"
    else:
        number, why = 1, "in answer are lost"
    match = f"ip saddr 198.18.0.1{3 - number} udp {port} 51871"
    with _dropping(agents, number, "netdev", 'ingress device "eth0"', match):
        _stops(agents, source, target, "underlay", why)


def test_an_underlay_that_loses_large_packets(agents: Agents, pods: list[Pod]) -> None:
    with _dropping(agents, 2, "netdev", 'ingress device "eth0"', "meta length > 1300"):
        why = "packets of 64 bytes come through, of 1440 do not"
        _stops(agents, pods[0].addresses[6], pods[1].addresses[6], "underlay", why)


def test_another_node_that_swallows_what_its_lane_gives_it(agents: Agents, pods: list[Pod]) -> None:
    with _dropping(agents, 2, "inet", "prerouting", 'iifname "wgpy0"'):
        why = "came out of the other lane, and nobody answers them"
        _stops(agents, pods[0].addresses[4], pods[1].addresses[4], "other lane", why)


def test_another_pod_that_is_silent(agents: Agents, pods: list[Pod]) -> None:
    target = pods[1]
    target.run("ip", "route", "add", "blackhole", "10.244.1.0/24")
    try:
        why = f"{target.addresses[4]} is there, and does not answer"
        _stops(agents, pods[0].addresses[4], target.addresses[4], "other pod", why)
    finally:
        target.run("ip", "route", "del", "blackhole", "10.244.1.0/24")


@pytest.mark.parametrize("way", ["filter", "way back"])
def test_a_rule_of_somebody_else_that_forwards_nothing(
    agents: Agents, pods: list[Pod], way: str
) -> None:
    match = 'oifname "wgpy0"' if way == "filter" else 'iifname "wgpy0"'
    source, target = pods[0].addresses[6], pods[1].addresses[6]
    with _dropping(agents, 1, "inet", "forward", match):
        why = "are lost where they are forwarded, by a rule of somebody else"
        _stops(agents, source, target, way, why)


# What agents would mend.


@pytest.mark.parametrize(
    ("where", "deed", "hop", "why"),
    [
        ("pod", "ip link set eth0 down", "veth", "has nobody at its other end"),
        ("pod", "ip -4 addr flush dev eth0", "bridge", "nobody on wgpy-pods says that he is"),
        ("node", "ip link set {veth} nomaster", "veth", "is not on the bridge wgpy-pods"),
        ("node", "ip link set {veth} down", "veth", "{veth} is down"),
        ("node", "ip link del {veth}", "veth", "{veth} is not there"),
    ],
)
def test_a_pod_that_is_badly_attached(
    unattended: Agents, pods: list[Pod], where: str, deed: str, hop: str, why: str
) -> None:
    agents = unattended
    name = f"victim{abs(hash((where, deed)))}"
    victim = attach(agents.cluster.nodes[0], "v", agents.cluster.lab.namespace(name))
    text = _trace(agents, victim.addresses[4], pods[1].addresses[4])
    veth = text.partition("attached to this node by ")[2].split()[0]
    try:
        (victim.run if where == "pod" else victim.node.run)(*deed.format(veth=veth).split())
        target = pods[1].addresses[4]
        _stops(agents, victim.addresses[4], target, hop, why.format(veth=veth))
    finally:
        detach(victim)


_KEPT = "wg showconf wgpy0 > /run/wgpy/kept; "
_MENDED = "wg syncconf wgpy0 /run/wgpy/kept; rm /run/wgpy/kept"
_PEER = "$(wg show wgpy0 allowed-ips | grep {} | cut -f1)"
_KEPT_ROUTE = "ip route show 10.244.2.0/24 type unicast > /run/wgpy/route; "
_MENDED_ROUTE = "ip route replace $(cat /run/wgpy/route); rm /run/wgpy/route"


@pytest.mark.parametrize(
    ("deed", "undo", "hop", "why"),
    [
        (
            f"{_KEPT_ROUTE} ip route del 10.244.2.0/24 dev wgpy0",
            _MENDED_ROUTE,
            "route",
            "the kernel has no way to 10.244.2.",
        ),
        (
            "ip route add 10.244.2.0/25 via 198.18.0.1",
            "ip route del 10.244.2.0/25",
            "route",
            "leaves by eth0, not by a lane, and is dropped",
        ),
        (
            "sysctl -w net.ipv4.ip_forward=0",
            "sysctl -w net.ipv4.ip_forward=1",
            "route",
            "this host does not forward IPv4",
        ),
        (
            f"{_KEPT} wg set wgpy0 peer {_PEER.format('10.244.2.0/24')} remove",
            _MENDED,
            "lane",
            "wgpy0 has no peer with 10.244.2.",
        ),
        (
            f"{_KEPT_ROUTE} ip link set wgpy0 down",
            f"ip link set wgpy0 up; {_MENDED_ROUTE}",
            "lane",
            "wgpy0 is down",
        ),
        (
            "ip link set wgpy-pods down",
            "ip link set wgpy-pods up",
            "bridge",
            "wgpy-pods is down",
        ),
    ],
)
def test_a_node_that_is_broken(
    unattended: Agents, pods: list[Pod], deed: str, undo: str, hop: str, why: str
) -> None:
    with _done(unattended, 1, deed, undo):
        _stops(unattended, pods[0].addresses[4], pods[1].addresses[4], hop, why)


def test_an_endpoint_where_nobody_is(unattended: Agents, pods: list[Pod]) -> None:
    """The other end is quiet, so that we do not hear from where it really is."""
    own, other = (_PEER.format(f"10.244.{number}.0/24") for number in (1, 2))
    quiet = f"{_KEPT} wg set wgpy0 peer {own} persistent-keepalive 0"
    astray = f"{_KEPT} wg set wgpy0 peer {other} endpoint 192.0.2.66:51871"
    with _done(unattended, 2, quiet, _MENDED), _done(unattended, 1, astray, _MENDED):
        why = f"but {unattended.cluster.nodes[1].name} says that it is at 198.18.0.12"
        _stops(unattended, pods[0].addresses[4], pods[1].addresses[4], "endpoint", why)


def test_a_node_that_is_cut_off(unattended: Agents, pods: list[Pod]) -> None:
    with unattended.cluster.nodes[1].cut_off():
        why = "nothing comes back through the tunnel, and the agent there cannot be asked"
        _stops(unattended, pods[0].addresses[4], pods[1].addresses[4], "underlay", why)


def test_another_bridge_that_is_down(unattended: Agents, pods: list[Pod]) -> None:
    with _done(unattended, 2, "ip link set wgpy-pods down", "ip link set wgpy-pods up"):
        why = "says at once that it has no way to 10.244.2."
        _stops(unattended, pods[0].addresses[4], pods[1].addresses[4], "other bridge", why)
