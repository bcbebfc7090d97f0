"""Flows that must lose nothing, told apart from a machine that is too busy to carry them."""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster.agents import Agents
from tests.cluster.flows import Flow, Flows
from tests.cluster.pod import Pod

_ATTEMPTS = 3
# For what comes while a machine stalls for seconds.
_WIDEN = "for lane in wgpy0 wgpy1; do ip link set $lane txqueuelen 20000; done"
# Dropped by a full queue: of the lanes, of interfaces, of sockets of both families, and a CPU's
# backlog, which the kernel counts at the veth that the packet was for. Nothing else is dropped
# there, and these are the namespace's own, unlike what /proc/net/softnet_stat counts.
_LOOK = """
tc -s qdisc show | awk '/dropped/ { sub(",", "", $7); print $7 }'
cat /sys/class/net/wgpy*/statistics/tx_dropped 2>/dev/null
awk '/^Udp:/ && $6 ~ /^[0-9]+$/ { print $6 }' /proc/net/snmp
awk '$1 == "Udp6RcvbufErrors" { print $2 }' /proc/net/snmp6
ip -s link show type veth | awk 'at == NR { print $4 } $1 == "RX:" { at = NR + 1 }'
"""


def lossless(
    agents: Agents, pods: list[Pod], rate: float, version: int, deed: Callable[[], None]
) -> list[Flow]:
    """Do something while each pod sends to each other; nothing may be lost, or come twice.

    What full queues have dropped was not lost by the deed: then it is done again.

    :raises AssertionError: more was lost than queues have dropped, or it happens every time.
    """
    told = []
    widen(pods)
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


def widen(pods: list[Pod]) -> None:
    """Long queues for all lanes of their nodes: a machine that is busy is late, no more."""
    for pod in pods:
        pod.node.run("sh", "-c", _WIDEN)


def queue_drops(agents: Agents, pods: list[Pod]) -> int:
    """Packets that full queues have dropped so far, on the way from one of these pods to another.

    That is in the pods, on their nodes and on the switch between them.
    """
    ends = [space for pod in pods for space in (pod.namespace, pod.node.namespace)]
    said = [space.run("sh", "-c", _LOOK) for space in (*ends, agents.cluster.switch)]
    return sum(int(word) for text in said for word in text.split())
