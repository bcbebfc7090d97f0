"""The agent goes, and leaves a node as it found it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.shell import CommandFailed
from tests.cluster.agents import CAPABLE, Agents
from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import ControlPlane
from tests.cluster.pod import detach

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

# All that an agent touches, in an order that says nothing.
_LOOK = """
ip -br addr; ip rule; ip -6 rule
ip route show table all | sort; ip -6 route show table all | grep -v ^fe80 | sort
nft -s list ruleset
sysctl -a 2>/dev/null | grep -E '^net\\.(ipv4|ipv6|bridge)' | sort
find /etc/cni/net.d /run/wgpy /run/wireguard /var/lib/wgpy | sort
for program in iptables ip6tables; do
  for variant in "" -nft -legacy; do
    command -v $program$variant-save || continue
    # Without counters and times.
    $program$variant-save | sed -E 's/ ?\\[[0-9:]+\\]//; /^# (Generated|Completed) /d'
  done
done
"""
# As Docker does it: what is forwarded needs a rule, in whichever of iptables' variants.
_CLOSE = """
for program in iptables ip6tables; do
  for variant in -nft -legacy; do
    $program$variant -P FORWARD DROP
    $program$variant -A FORWARD -i docker0 -j ACCEPT
  done
done
"""
# The older variant asks for it.
_RAW = tuple(word.replace("+net_admin", "+net_admin,+net_raw") for word in CAPABLE)


@pytest.fixture
def cluster(installed: ControlPlane, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(installed, tmp_path, "uninstall", 2) as cluster:
        yield cluster


def test_a_node_is_as_it_was_before(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    # As a host that routes nothing, and has its own address from router advertisements.
    node.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    node.run("sh", "-ec", _CLOSE)
    before = node.run("sh", "-c", _LOOK)
    agents = Agents(cluster)
    agents.prefixes[1] = _RAW
    agents.start()
    pod = cluster.pod(1, "a")
    pod.ping(cluster.pod(2, "b").addresses[4])
    during = node.run("sh", "-c", _LOOK)
    for program in ("iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy"):
        assert "-A FORWARD -i docker0 -j ACCEPT" in _saved(before, program)
        assert "-A FORWARD -j WGPY-ACCEPT" in _saved(during, program)

    with pytest.raises(CommandFailed, match="an agent runs on this node"):
        agents.run(1, "uninstall")
    agents.stop_agent(1)
    with pytest.raises(CommandFailed, match="pods are still attached to wgpy-pods"):
        agents.run(1, "uninstall")
    detach(pod)
    agents.stop_launcher(1)
    agents.run(1, "uninstall")
    assert node.run("sh", "-c", _LOOK) == before
    # And once more: there is nothing, and that is no failure.
    agents.run(1, "uninstall")


def _saved(seen: str, program: str) -> str:
    """What there is by one variant of iptables."""
    _, _, rest = seen.partition(f"/{program}-save\n")
    return rest.partition("tables-")[0]
