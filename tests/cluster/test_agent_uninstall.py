"""The agent goes, and leaves a node as it found it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.shell import CommandFailed
from tests.cluster.agents import Agents
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
"""


@pytest.fixture
def cluster(installed: ControlPlane, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(installed, tmp_path, "uninstall", 2) as cluster:
        yield cluster


def test_a_node_is_as_it_was_before(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    # As a host that routes nothing, and has its own address from router advertisements.
    node.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    before = node.run("sh", "-c", _LOOK)
    agents = Agents(cluster)
    agents.start()
    pod = cluster.pod(1, "a")
    pod.ping(cluster.pod(2, "b").addresses[4])
    assert node.run("sh", "-c", _LOOK) != before

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
