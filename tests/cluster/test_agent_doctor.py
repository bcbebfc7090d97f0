"""What the doctor says of a node that is well, and of one that is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from interop.shell import CommandFailed, wait_until
from tests.cluster.agents import Agents

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

_LOSE_LARGE = """
table netdev doctor {
  chain ingress {
    type filter hook ingress device "eth0" priority -400
    meta length > 1300 meta l4proto udp drop
  }
}
"""


def _said(agents: Agents, *options: str) -> str:
    """All that it prints on the first node, whatever it exits with."""
    try:
        return agents.run(1, "doctor", *options)
    except CommandFailed as failure:
        return str(failure)


def test_a_node_that_is_well_has_no_error(agents: Agents) -> None:
    text = agents.run(1, "doctor")
    assert "ERROR" not in text
    for what in (
        "the userspace data plane is available",
        "nftables works",
        "UDP port 51871 is wgpy0's",
        "pod CIDR: 10.244.1.0/24, fd00:244:0:1::/64",
        "the agent may do what it must, and no more",
        "this node's clock is that of the API server",
    ):
        assert what in text, text
    others = [node.name for node in agents.cluster.nodes[1:]]
    for name in others:
        for address in ("10.244.", "fd00:244:"):
            assert f"{name}: packets of 1440 bytes come through to {address}" in text
    # The API server of these tests is too old for it.
    warning = "WARNING write isolation is not in force"
    wait_until("the agent has asked", lambda: warning in agents.run(1, "doctor"), 30)


def test_a_path_that_loses_large_packets_is_found(agents: Agents) -> None:
    """The real size is tried, whatever everybody believes."""
    node = agents.cluster.nodes[1]
    node.run("nft", "-f", "-", stdin=_LOSE_LARGE)
    try:
        text = _said(agents)
    finally:
        node.run(*["nft", "delete", "table", "netdev", "doctor"])
    assert (
        f"ERROR   {node.name}: packets of 64 bytes come through to 10.244.2.1, of 1440 do not"
        in text
    )
    assert "lower its MTU" in text
    assert "ERROR" not in agents.run(1, "doctor")


def test_leftovers_of_other_pod_networks_are_found(agents: Agents) -> None:
    with _done(agents, "touch /etc/cni/net.d/05-other.conf", "rm /etc/cni/net.d/05-other.conf"):
        text = _said(agents)
    assert "ERROR   the container runtime takes 05-other.conf before 10-wgpy.conflist" in text
    with _done(
        agents,
        "ip link add flannel.1 type vxlan id 9 dstport 8472 local 198.18.0.11",
        "ip link del flannel.1",
    ):
        text = _said(agents)
    assert "WARNING interface flannel.1 is left by flannel" in text


def test_a_port_of_somebody_else_is_found(agents: Agents) -> None:
    with agents.cluster.nodes[0].namespace.socket(2, 2) as taken:
        taken.bind(("127.0.0.1", 7001))
        text = _said(agents, "--port", "7000")
    assert "UDP port 7000 is free" in text
    assert "ERROR   UDP port 7001 is somebody else's" in text


def test_a_node_that_kubernetes_does_not_know_is_told(agents: Agents) -> None:
    text = _said(agents, "--node", "nobody")
    assert "ERROR   there is no Node nobody" in text
    assert "kubectl get nodes" in text


@contextmanager
def _done(agents: Agents, deed: str, undo: str) -> Iterator[None]:
    node = agents.cluster.nodes[0]
    node.run(*deed.split())
    try:
        yield
    finally:
        node.run(*undo.split())
