"""Whatever is deleted or altered by hand is back within seconds, and is told."""

from __future__ import annotations

import pytest

from interop.shell import CommandFailed, wait_until
from tests.cluster.agents import Agents
from tests.cluster.api import ApiError, Json
from tests.cluster.pod import Pod
from tests.cluster.slowness import SLOWNESS

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

# What is back soon was seen, and not come upon by a look at everything.
OPTIONS = ("--resync=1h",)
# Seconds, on a machine that has other things to do; it takes one or two, and five of a peer, which
# is no news of the kernel's.
_SOON = 45.0 * SLOWNESS
# Until all else is as it was.
_PATIENCE = 60.0 * SLOWNESS


@pytest.fixture(scope="module")
def pods(agents: Agents) -> list[Pod]:
    return [agents.cluster.pod(number, "a") for number in (1, 2)]


# In any order.
_ALLOWED = "wg show wgpy0 allowed-ips | tr '\\t' ' ' | xargs -L1 | tr ' ' '\\n' | sort"
# What is done on the first node, and how to see whether it is as it was.
_BY_HAND = {
    "link deleted": ("ip link del wgpy0", "wg show wgpy0 private-key; wg show wgpy0 peers | sort"),
    "spare link deleted": ("ip link del wgpy1", "wg show wgpy1 peers | sort"),
    "link down": ("ip link set wgpy0 down", "ip -o link show up dev wgpy0 | cut -d: -f2"),
    "link renamed": (
        "ip link set wgpy0 down && ip link set wgpy0 name mine && ip link set mine up",
        "ip -o link show up dev wgpy0 | cut -d: -f2; ip link show mine",
    ),
    "MTU altered": ("ip link set wgpy0 mtu 1300", "cat /sys/class/net/wgpy0/mtu"),
    "IPv4 address deleted": ("ip -4 addr flush dev wgpy0", "ip -br -4 addr show wgpy0"),
    "IPv6 address deleted": ("ip -6 addr flush dev wgpy0", "ip -br -6 addr show wgpy0"),
    "address added": ("ip addr add 203.0.113.7/24 dev wgpy0", "ip -br addr show wgpy0"),
    "route deleted": ("ip route del 10.244.2.0/24 dev wgpy0", "ip route get 10.244.2.9"),
    "route altered": (
        "ip route replace 10.244.2.0/24 dev wgpy1 proto 157 mtu 1300",
        "ip route show 10.244.2.0/24",
    ),
    "routes flushed": (
        "ip route flush proto 157; ip -6 route flush proto 157",
        "ip route show proto 157; ip -6 route show proto 157",
    ),
    "guard deleted": (
        "ip route del unreachable $(ip route show type unreachable | head -1 | cut -d' ' -f2)",
        "ip route show type unreachable",
    ),
    "table flushed": ("ip route flush table 5157", "ip route show table 5157"),
    "rule deleted": ("ip -6 rule del priority 5157", "ip -6 rule"),
    "sysctl altered": (
        "sysctl -w net.ipv4.conf.wgpy0.rp_filter=1",
        "sysctl net.ipv4.conf.wgpy0.rp_filter",
    ),
    "forwarding switched off": (
        "sysctl -w net.ipv4.ip_forward=0",
        "sysctl net.ipv4.ip_forward net.ipv4.conf.wgpy0.forwarding",
    ),
    "gateways of pods deleted": (
        "ip address flush dev wgpy-pods scope global",
        "ip -o address show dev wgpy-pods scope global | awk '{ print $4 }' | sort",
    ),
    "nftables table deleted": (
        "nft delete table inet wgpy",
        "nft -s list table inet wgpy | grep -c .",
    ),
    "nftables all deleted": ("nft flush ruleset", "nft -s list ruleset | grep -c ."),
    "nftables rule added": (
        "nft insert rule inet wgpy postrouting accept",
        "nft -s list chain inet wgpy postrouting",
    ),
    "nftables set altered": (
        "nft flush set inet wgpy overlay4",
        "nft -s list set inet wgpy overlay4",
    ),
    "bridge table deleted": (
        "nft delete table bridge wgpy",
        # In the order in which they were made, which is no matter.
        "nft -s list table bridge wgpy | grep -v packets | sort",
    ),
    "peer deleted": (
        "wg set wgpy0 peer $(wg show wgpy0 peers | head -1) remove",
        f"{_ALLOWED}; wg show wgpy0 preshared-keys | sort",
    ),
    "peer added": (
        "wg set wgpy0 peer $(wg genkey | wg pubkey) allowed-ips 10.244.2.0/24",
        _ALLOWED,
    ),
    "allowed-ips altered": (
        "wg set wgpy0 peer $(wg show wgpy0 peers | head -1) allowed-ips 0.0.0.0/0",
        _ALLOWED,
    ),
    "preshared key altered": (
        "wg genpsk | wg set wgpy0 peer $(wg show wgpy0 peers | head -1) preshared-key /dev/stdin",
        "wg show wgpy0 preshared-keys | sort",
    ),
    "private key altered": (
        "wg genkey | wg set wgpy0 private-key /dev/stdin",
        "wg show wgpy0 private-key",
    ),
    "port altered": ("wg set wgpy0 listen-port 4711", "wg show wgpy0 listen-port"),
    "CNI file deleted": (
        "rm /etc/cni/net.d/10-wgpy.conflist",
        "cat /etc/cni/net.d/10-wgpy.conflist",
    ),
    "CNI file altered": (
        "echo {} > /etc/cni/net.d/10-wgpy.conflist",
        "cat /etc/cni/net.d/10-wgpy.conflist",
    ),
    "CNI file replaced": (
        "rm /etc/cni/net.d/10-wgpy.conflist; echo {} > /etc/cni/net.d/10-wgpy.conflist",
        "cat /etc/cni/net.d/10-wgpy.conflist; readlink /etc/cni/net.d/10-wgpy.conflist",
    ),
}


@pytest.mark.parametrize("what", _BY_HAND)
def test_what_is_altered_on_a_node_is_back_soon(agents: Agents, pods: list[Pod], what: str) -> None:
    alter_and_await(agents, 1, what, pods)


def alter_and_await(agents: Agents, number: int, what: str, pods: list[Pod]) -> None:
    """Do what _BY_HAND names on a node; it is undone and told, and the first two pods reach."""
    deed, look = _BY_HAND[what]
    node = agents.cluster.nodes[number - 1]

    def seen() -> str:
        return node.run("sh", "-c", f"{{ {look}; }} 2>&1; true")

    agents.wait_ready()
    before = seen()
    assert before.strip()
    told = _told(agents, number)
    node.run("sh", "-c", deed)
    # A quick agent may have it back before it can be seen to be gone.
    wait_until(f"it is as it was: {before}", lambda: seen() == before, _SOON, every=0.2)
    wait_until("it is told", lambda: _told(agents, number) != told, _SOON, every=0.5)
    wait_until("packets flow", lambda: _reach(pods), _PATIENCE)


def _told(agents: Agents, number: int = 1) -> list[str]:
    """All that a node has found altered lately, with its time."""
    told = agents.status(number)
    assert told is not None
    drift: list[str] = told["drift"]
    return drift


def _reach(pods: list[Pod]) -> bool:
    one, other, *_ = pods
    try:
        for version in (4, 6):
            one.ping(other.addresses[version], patience=1, attempts=5)
            other.ping(one.addresses[version], patience=1, attempts=5)
    except CommandFailed:
        return False
    return True


@pytest.mark.parametrize("deed", ["deleted", "altered"])
def test_what_is_altered_in_kubernetes_is_back_soon(
    agents: Agents, pods: list[Pod], deed: str
) -> None:
    path = f"/apis/wgpy.io/v1alpha1/wireguardnodes/{agents.cluster.nodes[0].name}"

    def value() -> Json:
        try:
            found: Json = agents.admin.get(path)["spec"]
        except ApiError:
            return {}
        return found

    agents.wait_ready()
    before, told = value(), _told(agents)
    if deed == "deleted":
        agents.admin.delete(path)
    else:
        agents.admin.merge(path, {"spec": {"activeLane": 1, "endpoints": ["192.0.2.66"]}})

    wait_until("it is as it was", lambda: value() == before, _SOON, every=0.2)
    wait_until("it is told", lambda: _told(agents) != told, _SOON, every=0.5)
    wait_until("packets flow", lambda: _reach(pods), _PATIENCE)


def test_a_smaller_path_makes_smaller_packets_soon(agents: Agents, pods: list[Pod]) -> None:
    """The underlay is nobody's to put right, but what goes over it has to fit."""
    one, target = agents.cluster.nodes[0], pods[1].addresses[4]

    def inner() -> str:
        return one.run(*f"ip route get {target}".split()).partition(" mtu ")[2].split(" ")[0]

    agents.wait_ready()
    before = inner()
    _resize(agents, 1400)
    try:
        wait_until("the route is smaller", lambda: inner() == "1340", _SOON, every=0.2)
        wait_until("packets flow", lambda: _reach(pods), _PATIENCE)
        pods[0].ping(target, size=4000, patience=_PATIENCE, attempts=1)
    finally:
        _resize(agents, 1500)
    wait_until("the route is as it was", lambda: inner() == before, _SOON, every=0.2)


def _resize(agents: Agents, mtu: int) -> None:
    for node in agents.cluster.nodes:
        node.run(*f"ip link set eth0 mtu {mtu}".split())


_CHAIN = """
path=/etc/cni/net.d/10-wgpy.conflist
python3 -c '
import json, sys
whole = json.load(open(sys.argv[1]))
whole["plugins"].append({"type": "tuning", "sysctl": {"net.ipv4.ip_default_ttl": "77"}})
print(json.dumps(whole))
' $path > /etc/cni/net.d/.mesh && mv /etc/cni/net.d/.mesh $path
"""


def test_a_plugin_that_others_chain_to_ours_stays_and_is_used(
    agents: Agents, pods: list[Pod]
) -> None:
    """Put in the place of our file, as a service mesh does it."""
    node = agents.cluster.nodes[0]
    path = "/etc/cni/net.d/10-wgpy.conflist"

    def seen(command: str) -> str:
        return node.run("sh", "-c", f"{command} {path} || true")

    node.run("sh", "-ec", _CHAIN)
    try:
        wait_until("it is ours again", lambda: seen("readlink"), _SOON, every=0.2)
        assert '"tuning"' in node.run("cat", path)
        chained = agents.cluster.pod(1, "chained")
        assert chained.run("sysctl", "-n", "net.ipv4.ip_default_ttl") == "77\n"
        chained.ping(pods[1].addresses[4])
        chained.ping(pods[0].addresses[6])
    finally:
        node.run("rm", path)
    wait_until("it is there again", lambda: seen("cat"), _SOON, every=0.2)
    assert '"tuning"' not in seen("cat")


def test_drift_is_an_event_that_an_operator_sees(agents: Agents) -> None:
    name = agents.cluster.nodes[0].name
    query = f"fieldSelector=involvedObject.name={name},reason=Drift"
    events = agents.admin.get(f"/api/v1/namespaces/default/events?{query}")["items"]
    assert events
    assert all(event["message"].startswith("put right: ") for event in events)
