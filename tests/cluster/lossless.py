"""Flows that must lose nothing, told apart from a machine that is too busy to carry them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.cluster.agents import Agents
from tests.cluster.flows import Flow, Flows
from tests.cluster.pod import Pod

_ATTEMPTS = 3
_SOFTNET = Path("/proc/net/softnet_stat")
# For what comes while a machine stalls for seconds.
_WIDEN = "for lane in wgpy0 wgpy1; do ip link set $lane txqueuelen 20000; done"
# Dropped by a full queue: of the lanes, of interfaces, and of sockets of both families.
_LOOK = """
tc -s qdisc show | awk '/dropped/ { sub(",", "", $7); print $7 }'
cat /sys/class/net/wgpy*/statistics/tx_dropped 2>/dev/null
awk '/^Udp:/ && $6 ~ /^[0-9]+$/ { print $6 }' /proc/net/snmp
awk '$1 == "Udp6RcvbufErrors" { print $2 }' /proc/net/snmp6
"""


def lossless(
    agents: Agents, pods: list[Pod], rate: float, version: int, deed: Callable[[], None]
) -> list[Flow]:
    """Do something while each pod sends to each other; nothing may be lost, or come twice.

    What full queues have dropped was not lost by the deed: then it is done again.

    :raises AssertionError: more was lost than queues have dropped, or it happens every time.
    """
    told = []
    widen(agents)
    for _ in range(_ATTEMPTS):
        before = queue_drops(agents, pods)
        with Flows(pods, rate, version) as flows:
            deed()
        bad = [flow for flow in flows.flows if flow.lost or flow.again]
        if not bad:
            assert len(flows.flows) == len(pods) * (len(pods) - 1)
            return flows.flows
        dropped = queue_drops(agents, pods) - before
        assert flows.lost <= dropped, f"{flows.lost} lost, {dropped} dropped by queues: {bad}"
        assert not any(flow.again for flow in bad), bad
        told.append(f"{flows.lost} lost, {dropped} dropped by queues")
    raise AssertionError(f"the machine is too busy: {'; '.join(told)}")


def widen(agents: Agents) -> None:
    """Long queues for all lanes: a machine that is busy with other things is late, no more."""
    for node in agents.cluster.nodes:
        node.run("sh", "-c", _WIDEN)


def queue_drops(agents: Agents, pods: list[Pod]) -> int:
    """Packets that full queues of nodes and pods have dropped so far."""
    # Of this machine's CPUs, for all namespaces together.
    backlog = sum(int(line.split()[1], 16) for line in _SOFTNET.read_text().splitlines())
    said = [node.run("sh", "-c", _LOOK) for node in agents.cluster.nodes]
    said += [pod.run("sh", "-c", _LOOK) for pod in pods]
    return backlog + sum(int(word) for text in said for word in text.split())
