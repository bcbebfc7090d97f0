"""The API server fails in every way that it can: traffic goes on, and all is well afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pytest

from interop.shell import wait_until
from tests.cluster.agents import Agents
from tests.cluster.controlplane import ControlPlane
from tests.cluster.flows import Flows
from tests.cluster.pod import Pod
from tests.cluster.trouble import Call, Spoil, Trouble

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster"), pytest.mark.endurance]

# Datagrams a second, from each pod to each other.
_RATE = 100
_PATIENCE = 120.0
# Seconds of trouble.
_BAD = 20.0
# Calls a second that an agent may make at most, while nothing works and right after it; and over
# minutes, as each waits longer and longer.
_STORM = 3.0
_PATIENT = 1.0


@pytest.fixture(scope="module")
def pods(agents: Agents) -> list[Pod]:
    return [agents.cluster.pod(number, "a") for number in agents.numbers]


@pytest.fixture
def trouble(agents: Agents, installed: ControlPlane) -> Iterator[Trouble]:
    """All agents reach the API server through it."""
    made = Trouble(installed)
    agents.cluster.relay.lead_to(made.port)
    try:
        for number in agents.numbers:
            wait_until("the agent is connected", partial(_connected, agents, number), _PATIENCE)
        made.calls.clear()
        yield made
    finally:
        agents.cluster.relay.lead_to(installed.port)
        made.close()


def _connected(agents: Agents, number: int) -> bool:
    return bool((agents.status(number) or {}).get("connected"))


def _keys(agents: Agents, number: int) -> list[str]:
    told = agents.object(number)
    assert told is not None
    return [lane["publicKey"] for lane in told["spec"]["lanes"]]


def _rotated(agents: Agents, number: int, old: list[str]) -> bool:
    return not set(old) & set(_keys(agents, number)) and agents.ready(number)


def _refuse(status: int, *verbs: str) -> Spoil:
    return lambda call: status if call.verb in verbs else None


_TROUBLES: dict[str, Spoil] = {
    "writes conflict": _refuse(409, "patch", "create"),
    "too many requests": _refuse(429, "get", "list", "watch", "patch", "create"),
    "internal errors": _refuse(500, "get", "list", "watch", "patch", "create"),
    "watches expire": _refuse(410, "watch"),
    "watches and lists expire": _refuse(410, "watch", "list"),
    "all is slow": lambda call: 3.0,
}


@pytest.mark.parametrize("what", _TROUBLES)
def test_a_rotation_gets_through_when_the_trouble_is_over(
    agents: Agents, pods: list[Pod], trouble: Trouble, what: str
) -> None:
    agents.wait_ready()
    old = _keys(agents, 2)
    with Flows(pods, _RATE) as flows:
        trouble.spoil(_TROUBLES[what])
        agents.cluster.relay.cut()
        agents.run(2, "rotate")
        began = time.monotonic()
        time.sleep(_BAD)
        calls, seconds = trouble.calls.total(), time.monotonic() - began
        trouble.heal()
        wait_until("node 2 has new keys", partial(_rotated, agents, 2, old), _PATIENCE)
        agents.wait_ready()
    assert [flow for flow in flows.flows if flow.lost] == []
    assert calls <= _STORM * seconds * len(agents.numbers), trouble.calls


def test_old_lists_are_made_good_by_the_watch(
    agents: Agents, pods: list[Pod], trouble: Trouble
) -> None:
    """A server that answers from a cache which is behind, after all agents were cut off."""
    agents.wait_ready()
    trouble.serve_old_lists()
    # So that it has something old to serve.
    trouble.spoil(_refuse(410, "watch"))
    agents.cluster.relay.cut()
    time.sleep(2)
    old = _keys(agents, 3)
    with Flows(pods, _RATE) as flows:
        trouble.spoil(lambda call: None)
        agents.run(3, "rotate")
        wait_until("node 3 has new keys", partial(_rotated, agents, 3, old), _PATIENCE)
    assert [flow for flow in flows.flows if flow.lost] == []


def test_watches_that_are_cut_all_the_time_do_not_keep_news_back(
    agents: Agents, pods: list[Pod], trouble: Trouble
) -> None:
    agents.wait_ready()
    old = _keys(agents, 1)
    with Flows(pods, _RATE) as flows:
        agents.run(1, "rotate")
        began = time.monotonic()
        while time.monotonic() - began < _BAD:
            time.sleep(1)
            agents.cluster.relay.cut()
        calls, seconds = trouble.calls.total(), time.monotonic() - began
        wait_until("node 1 has new keys", partial(_rotated, agents, 1, old), _PATIENCE)
    assert [flow for flow in flows.flows if flow.lost] == []
    # Three watches each, begun anew.
    assert calls <= _STORM * seconds * len(agents.numbers), trouble.calls


def test_a_calm_cluster_makes_no_calls_but_its_watches(agents: Agents, trouble: Trouble) -> None:
    agents.wait_ready()
    time.sleep(6)  # the last status
    trouble.calls.clear()
    time.sleep(_BAD)
    assert {call for call in trouble.calls if call.verb != "watch"} == set()
    assert trouble.calls.total() <= 3 * len(agents.numbers)
    assert Call("watch", "nodes") not in trouble.calls or trouble.calls[Call("watch", "nodes")] <= 4


@pytest.mark.parametrize("what", ["the API server", "etcd"])
def test_traffic_does_not_notice_minutes_without(
    agents: Agents, installed: ControlPlane, pods: list[Pod], trouble: Trouble, what: str
) -> None:
    """In the middle of a rotation, which is finished when it is back; nobody storms it then."""
    agents.wait_ready()
    old = _keys(agents, 4)
    with Flows(pods, _RATE) as flows:
        agents.run(4, "rotate")
        time.sleep(3)
        trouble.calls.clear()
        began = time.monotonic()
        if what == "etcd":
            installed.kill_etcd()
        else:
            installed.kill_api_server()
        time.sleep(120)
        if what == "etcd":
            installed.start_etcd()
        else:
            installed.start_api_server()
        wait_until("node 4 has new keys", partial(_rotated, agents, 4, old), _PATIENCE)
        seconds = time.monotonic() - began
    assert trouble.calls.total() <= _PATIENT * seconds * len(agents.numbers), trouble.calls
    assert [flow for flow in flows.flows if flow.lost] == []
