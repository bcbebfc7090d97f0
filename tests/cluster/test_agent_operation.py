"""What an operator is told: by kubectl, Events, logs, metrics, health checks, and the doctor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from interop import cache
from interop.shell import CommandFailed, run, wait_until
from tests.cluster.agents import Agents
from tests.cluster.forge import forge, mac_address
from tests.cluster.pod import Pod

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

_LOSE_LARGE = """
table netdev doctor {
  chain ingress {
    type filter hook ingress device "eth0" priority -400
    meta length > 1300 meta l4proto udp drop
  }
}
"""
_FETCH = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=30)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())
"""
_PATIENCE = 60.0
_LANES = ("0", "1")
_RESOURCES = (
    *("guard", "firewall", "forwarding", "lanes", "bridge"),
    *("sysctls", "links", "routes", "neighbours", "cni"),
)
_SPOOFS = ("pod_spoof", "lane_spoof", "underlay_spoof", "neighbour_spoof")


@pytest.fixture(scope="module")
def pods(agents: Agents) -> list[Pod]:
    return [agents.cluster.pod(number, "a") for number in (1, 2)]


def _fetch(pod: Pod, agents: Agents, number: int, path: str) -> tuple[int, str]:
    """Status and text of a page of a node's agent, as a pod gets it."""
    url = f"http://{agents.metrics_address(number)}{path}"
    status, _, text = pod.run(sys.executable, "-c", _FETCH, url).partition(" ")
    return int(status), text


def _metrics(pod: Pod, agents: Agents, number: int) -> dict[tuple[str, ...], float]:
    """By name and values of the labels in the order of their names."""
    status, text = _fetch(pod, agents, number, "/metrics")
    assert status == 200
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_kubectl_has_a_line_for_each_node_that_is_worth_reading(
    agents: Agents, tmp_path: Path
) -> None:
    package, _ = cache.debian("kubectl", "trixie")
    config = agents.admin.kubeconfig(tmp_path / "config")
    kubectl = (str(package / "usr/bin/kubectl"), f"--kubeconfig={config}")
    names = [node.name for node in agents.cluster.nodes]
    words = ("get", "wgn", *names, f"--cache-dir={tmp_path}")
    header, *rows = (line.split() for line in run(*kubectl, *words).splitlines())
    assert header == ["NAME", "READY", "PEERS", "REACHED", "BACKEND", "LANE", "ROTATION", "AGE"]
    # All but the age.
    assert [row[:-1] for row in rows] == [
        [name, "True", "3", "3", agents.plane(number), "0", "steady"]
        for number, name in enumerate(names, start=1)
    ]


def test_the_chosen_data_plane_is_in_log_event_object_status_and_metric(
    agents: Agents, pods: list[Pod]
) -> None:
    for number, node in enumerate(agents.cluster.nodes, start=1):
        plane = agents.plane(number)
        assert f"{plane} data plane" in agents.log(number)
        query = f"fieldSelector=involvedObject.name={node.name},reason=Started"
        events = agents.admin.get(f"/api/v1/namespaces/default/events?{query}")["items"]
        assert [e["type"] for e in events] == ["Normal"]
        assert f"{plane} data plane" in events[0]["message"]
        told = agents.object(number)
        assert told is not None and told["spec"]["backend"] == plane
        first, *_ = agents.run(number, "status").splitlines()
        assert first.endswith(f"{plane} data plane")
        metrics = _metrics(pods[0], agents, number)
        assert [key[1] for key in metrics if key[0] == "wgpy_info"] == [plane]


def test_health_and_readiness_are_told_to_a_pod(agents: Agents, pods: list[Pod]) -> None:
    for number in agents.numbers:
        for path in ("/healthz", "/readyz"):
            assert _fetch(pods[1], agents, number, path) == (200, "ok\n\n")


def test_a_directory_for_the_runtime_that_cannot_be_written_is_told(
    agents: Agents, pods: list[Pod]
) -> None:
    """Found by the look at everything, as the kernel tells nothing of a mount."""
    node = agents.cluster.nodes[0]
    node.run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "/etc/cni/net.d")

    def answered(status: int, text: str) -> bool:
        return _fetch(pods[1], agents, 1, "/readyz") == (status, f"{text}\n\n")

    found = partial(answered, 503, "not in order: cni")
    wait_until("the agent is not ready", found, 2 * _PATIENCE, every=1)
    node.run("umount", "/etc/cni/net.d")
    wait_until("the agent is ready", partial(answered, 200, "ok"), 2 * _PATIENCE, every=1)


def test_metrics_tell_all_that_is_to_be_watched(agents: Agents, pods: list[Pod]) -> None:
    others = [node.name for node in agents.cluster.nodes[1:]]
    before = _metrics(pods[0], agents, 1)
    for _ in range(20):
        pods[0].ping(pods[1].addresses[4], size=5000, patience=_PATIENCE, attempts=1)
    traffic = [f"wgpy_peer_{direction}_bytes_total" for direction in ("received", "sent")]

    def counted() -> dict[tuple[str, ...], float] | None:
        # What is told may be some moments old.
        told = _metrics(pods[0], agents, 1)
        grown = [told[name, "0", others[0]] - before[name, "0", others[0]] for name in traffic]
        return told if min(grown) >= 20 * 5000 else None

    now = wait_until("the traffic is in the metrics", counted, _PATIENCE)
    assert now is not None
    for name in traffic:
        assert {key[2] for key in now if key[0] == name} == set(others)
    # Handshakes.
    ages = [now["wgpy_peer_handshake_age_seconds", "0", other] for other in others]
    assert all(0 <= age < 180 for age in ages)
    assert [now["wgpy_peer_ready", other] for other in others] == [1, 1, 1]
    # Drops by reason, spoofs and leaks.
    assert {key[1] for key in now if key[0] == "wgpy_dropped_packets_total"} == set(_LANES)
    for reason in (*_SPOOFS, "leak"):
        assert now["wgpy_firewall_dropped_packets_total", reason] >= 0
    # Rotation.
    stages = {key[1]: value for key, value in now.items() if key[0] == "wgpy_rotation_stage"}
    assert stages == {"steady": 1, "drain": 0, "prove": 0}
    assert all(now["wgpy_lane_epoch", lane] >= 1 for lane in _LANES)
    # Reconciling: each thing has had its turn, and it took some time.
    for resource in _RESOURCES:
        assert now["wgpy_reconcile_seconds_count", resource] > 0
        assert now["wgpy_reconcile_seconds_sum", resource] > 0
        assert now["wgpy_reconcile_failures_total", resource] >= 0


def test_a_packet_that_is_dropped_as_a_spoof_is_in_the_metrics(
    agents: Agents, pods: list[Pod]
) -> None:
    what = ("wgpy_firewall_dropped_packets_total", "neighbour_spoof")
    before = _metrics(pods[1], agents, 1)[what]
    mac = mac_address(agents.cluster.nodes[0].namespace, "wgpy-pods")
    forge(pods[0].namespace, "eth0", "10.244.3.99", pods[1].addresses[4], mac)

    def counted() -> bool:
        return _metrics(pods[1], agents, 1)[what] == before + 1

    wait_until("it is counted", counted, _PATIENCE, every=0.5)


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
    wait_until("the agent has asked", lambda: warning in agents.run(1, "doctor"), _PATIENCE)


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
    # The second lane's would be the one that the first has.
    text = _said(agents, "--port", "51870")
    assert "ERROR   UDP port 51871 is that of wgpy0" in text


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
