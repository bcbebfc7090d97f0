"""The API server fails in every way that it can: traffic goes on, and all is well afterwards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from interop.shell import wait_until
from tests.cluster.agents import Agents
from tests.cluster.controlplane import ControlPlane
from tests.cluster.flows import Flows
from tests.cluster.pod import Pod
from tests.cluster.trouble import Call, Spoil, Trouble, busiest

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster"), pytest.mark.endurance]

# Datagrams a second, from each pod to each other.
_RATE = 100
_PATIENCE = 120.0
# Seconds of trouble.
_BAD = 20.0
# Calls that an agent may make in so many seconds, whatever happens: in a row of failures each waits
# twice as long as the one before, up to half a minute.
_MOST_CALLS = {1.0: 20, 10.0: 40, 60.0: 80}
_ALL = ("list", "watch", "patch", "create")


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
        made.requests.clear()
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


def _stage(agents: Agents, number: int) -> str:
    """Of its rotation, as the agent itself tells it: that needs no API server."""
    told = agents.status(number)
    assert told is not None
    return str(told["rotation"]["stage"])


def _under_way(agents: Agents, number: int, old: list[str], new: int) -> bool:
    """Whether it rotates, and so many of its keys are new to the API server."""
    return len(set(_keys(agents, number)) - set(old)) == new and _stage(agents, number) != "steady"


def _spoil(how: float, *verbs: str) -> Spoil:
    return lambda call: how if call.verb in verbs else None


def _assert_well(flows: Flows, trouble: Trouble) -> None:
    """Pods noticed nothing, and no agent stormed the API server, neither then nor afterwards."""
    assert [flow for flow in flows.flows if flow.lost or flow.again] == []
    _assert_no_storm(trouble)


def _assert_no_storm(trouble: Trouble) -> None:
    for seconds, most in _MOST_CALLS.items():
        calls = busiest(trouble.requests, seconds)
        assert max(calls.values(), default=0) <= most, (seconds, calls, trouble.calls)


# What the answer is, and the kinds of calls that get it.
_TROUBLES: dict[str, tuple[float, tuple[str, ...]]] = {
    "writes conflict": (409, ("patch", "create")),
    "too many requests": (429, _ALL),
    "internal errors": (500, _ALL),
    "watches expire": (410, ("watch",)),
    "watches and lists expire": (410, ("watch", "list")),
    "all is slow": (3.0, _ALL),
}


@pytest.mark.parametrize("what", _TROUBLES)
def test_a_rotation_gets_through_when_the_trouble_is_over(
    agents: Agents, pods: list[Pod], trouble: Trouble, what: str
) -> None:
    """An agent that starts in the middle of it gets through as well."""
    agents.wait_ready()
    old = _keys(agents, 2)
    how, verbs = _TROUBLES[what]
    with Flows(pods, _RATE) as flows:
        trouble.spoil(_spoil(how, *verbs))
        agents.cluster.relay.cut()
        agents.run(2, "rotate")
        agents.kill_agent(3)
        agents.start_agent(3)
        time.sleep(_BAD)
        trouble.heal()
        wait_until("node 2 has new keys", partial(_rotated, agents, 2, old), _PATIENCE)
        agents.wait_ready()
    spoilt = [request for request in trouble.requests if request.spoilt]
    assert {request.call.verb for request in spoilt} == set(verbs), trouble.calls
    # The one that starts may come no further than its lists.
    if "watch" in verbs:
        watching = {request.pod for request in spoilt if request.call.verb == "watch"}
        assert len(watching) >= len(agents.numbers) - 1, watching
    _assert_well(flows, trouble)


def test_old_lists_are_made_good_by_the_watch(
    agents: Agents, pods: list[Pod], trouble: Trouble
) -> None:
    """A server that answers from a cache which is behind, to agents that have seen newer things."""
    agents.wait_ready()
    old = _keys(agents, 3)
    with Flows(pods, _RATE) as flows:
        trouble.serve_old_lists()
        # So that all list, at first what is true.
        trouble.spoil(_spoil(410, "watch"))
        agents.cluster.relay.cut()
        agents.run(3, "rotate")
        wait_until("a key of node 3 is new", lambda: _keys(agents, 3) != old, _PATIENCE)
        changed_at = time.monotonic()

        def served() -> bool:
            late = (r for r in trouble.requests if r.at > changed_at and r.spoilt)
            pods = {r.pod for r in late if r.call == Call("list", "wireguardnodes")}
            return len(pods) == len(agents.numbers)

        wait_until("all have been served the old list", served, _PATIENCE)
        trouble.spoil(lambda call: None)
        wait_until("node 3 has new keys", partial(_rotated, agents, 3, old), _PATIENCE)
        agents.wait_ready()
    _assert_well(flows, trouble)


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
        wait_until("node 1 has new keys", partial(_rotated, agents, 1, old), _PATIENCE)
    watches = Counter(one.pod for one in trouble.requests if one.call.verb == "watch")
    assert len(watches) == len(agents.numbers) and min(watches.values()) > 3, watches
    _assert_well(flows, trouble)


def test_a_calm_cluster_makes_no_calls_but_its_watches(agents: Agents, trouble: Trouble) -> None:
    agents.wait_ready()
    time.sleep(6)  # the last status
    trouble.requests.clear()
    time.sleep(_BAD)
    assert {call for call in trouble.calls if call.verb != "watch"} == set()
    assert trouble.calls.total() <= 3 * len(agents.numbers)
    assert Call("watch", "nodes") not in trouble.calls or trouble.calls[Call("watch", "nodes")] <= 4


@pytest.mark.parametrize("what, new", [("the API server", 0), ("etcd", 1)])
def test_traffic_does_not_notice_minutes_without(
    agents: Agents,
    installed: ControlPlane,
    pods: list[Pod],
    trouble: Trouble,
    what: str,
    new: int,
) -> None:
    """In the middle of a rotation, which is finished when it is back; nobody storms it then.

    `new` of the two lanes have new keys by then.
    """
    agents.wait_ready()
    old = _keys(agents, 4)
    kill, start = {
        "the API server": (installed.kill_api_server, installed.start_api_server),
        "etcd": (installed.kill_etcd, installed.start_etcd),
    }[what]
    with Flows(pods, _RATE) as flows:
        agents.run(4, "rotate")
        under_way = partial(_under_way, agents, 4, old, new)
        wait_until(f"{new} lanes have new keys", under_way, _PATIENCE)
        kill()
        try:
            assert _stage(agents, 4) != "steady"
            time.sleep(120)
            # It could not end without.
            assert _stage(agents, 4) != "steady"
        finally:
            start()
        wait_until("the API server answers", lambda: agents.object(4), _PATIENCE)
        wait_until("node 4 has new keys", partial(_rotated, agents, 4, old), _PATIENCE)
        agents.wait_ready()
    _assert_well(flows, trouble)
