"""Rotation and repair where data planes differ: run in a guest by tests/system/test_agent_mixed.py.

node 1: the kernel's WireGuard   node 2: ours   node 3: the kernel's
"""

from __future__ import annotations

import pytest

from tests.cluster.agents import Agents
from tests.cluster.pod import Pod
from tests.cluster.test_agent_drift import OPTIONS, alter_and_await
from tests.cluster.test_agent_rotation import (
    test_no_packet_is_lost_while_one_node_after_the_other_gets_new_keys,
)

__all__ = [
    "OPTIONS",
    "test_no_packet_is_lost_while_one_node_after_the_other_gets_new_keys",
]

# Each kind of pair is there.
NODES = 3
_BY_HAND = (
    *("link deleted", "link down", "peer deleted", "peer added", "allowed-ips altered"),
    *("private key altered", "preshared key altered", "port altered", "nftables table deleted"),
)


@pytest.fixture(scope="module")
def pods(agents: Agents) -> list[Pod]:
    return [agents.cluster.pod(number, "a") for number in agents.numbers]


def test_planes_are_different(agents: Agents) -> None:
    told = [agents.status(number) for number in agents.numbers]
    planes = [status["backend"] for status in told if status is not None]
    assert planes == ["kernel", "userspace", "kernel"]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("what", _BY_HAND)
def test_what_is_altered_on_either_plane_is_back_soon(
    agents: Agents, pods: list[Pod], what: str, number: int
) -> None:
    alter_and_await(agents, number, what, pods)
