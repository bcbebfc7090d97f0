"""Whatever ends, and comes back: traffic goes on, or is back soon, and never in the clear."""

from __future__ import annotations

import os
import signal
import time
from base64 import b64encode
from contextlib import suppress
from functools import partial
from itertools import permutations

import pytest

from interop.shell import CommandFailed, wait_until
from tests.cluster.agents import Agents
from tests.cluster.api import Json
from tests.cluster.flows import Flows
from tests.cluster.lossless import lossless, widen
from tests.cluster.pod import Pod, attach, detach

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster"), pytest.mark.alone]

# Datagrams a second, from each pod to each other.
_RATE = 200
_PATIENCE = 300.0
# Seconds without traffic when a lane is lost; how often that may be tried on a machine that is
# busy with other things, and what may not be exceeded even there.
_OUTAGE = 2.0
_ATTEMPTS = 3
_MOST = 15.0


@pytest.fixture(scope="module")
def pods(agents: Agents) -> list[Pod]:
    return [agents.cluster.pod(number, "a") for number in agents.numbers]


def _keys(agents: Agents, number: int) -> list[str]:
    told = agents.object(number)
    assert told is not None
    return [lane["publicKey"] for lane in told["spec"]["lanes"]]


def _has_new_keys(agents: Agents, number: int, old: list[str]) -> bool:
    return not set(old) & set(_keys(agents, number)) and agents.ready(number)


def test_an_agent_that_is_killed_is_missed_by_no_packet_and_has_new_keys_when_it_is_back(
    agents: Agents, pods: list[Pod]
) -> None:
    daemons = agents.daemons(1)

    def kill() -> None:
        old = _keys(agents, 1)
        agents.kill_agent(1)
        time.sleep(3)
        agents.start_agent(1)
        wait_until("node 1 has new keys", partial(_has_new_keys, agents, 1, old), _PATIENCE)

    lossless(agents, pods, _RATE, 4, kill)
    assert agents.daemons(1) == daemons


def test_all_agents_are_upgraded_at_once_without_a_loss(agents: Agents, pods: list[Pod]) -> None:

    def upgrade() -> None:
        old = {number: _keys(agents, number) for number in agents.numbers}
        for number in agents.numbers:
            agents.stop_agent(number)
        for number in agents.numbers:
            agents.start_agent(number)
        for number in agents.numbers:
            new = partial(_has_new_keys, agents, number, old[number])
            wait_until(f"node {number} has new keys", new, 2 * _PATIENCE)

    lossless(agents, pods, _RATE, 6, upgrade)


def test_an_agent_that_is_killed_in_the_middle_of_a_rotation_finishes_it(
    agents: Agents, pods: list[Pod]
) -> None:

    def kill() -> None:
        old = _keys(agents, 3)
        agents.run(3, "rotate")
        told = partial(agents.object, 3)
        wait_until(
            "it uses the spare", lambda: (told() or {})["spec"]["activeLane"] == 1, _PATIENCE
        )
        agents.kill_agent(3)
        agents.start_agent(3)
        wait_until("node 3 has new keys", partial(_has_new_keys, agents, 3, old), _PATIENCE)

    lossless(agents, pods, _RATE, 4, kill)


@pytest.mark.parametrize("what", ["daemon killed", "link deleted"])
def test_traffic_is_back_two_seconds_after_a_lane_was_lost(
    agents: Agents, pods: list[Pod], what: str
) -> None:
    outages = []
    for _ in range(_ATTEMPTS):
        agents.wait_ready()
        outages.append(_outage(agents, pods, what))
        if outages[-1] <= _OUTAGE:
            break
    assert 0 < outages[-1] <= _OUTAGE, outages
    assert max(outages) <= _MOST, outages


def _outage(agents: Agents, pods: list[Pod], what: str) -> float:
    """For how many seconds of packets the flow that lost most was without, when home is lost."""
    before = agents.daemons(2)
    widen(pods)
    with Flows(pods, _RATE) as flows:
        time.sleep(1)
        _lose(agents, what, "wgpy0")
        wait_until("the lane is back", lambda: _is_new(agents, "wgpy0", before), _PATIENCE)
        wait_until("it carries packets", partial(_reaches, pods[0], pods[1]), _PATIENCE)
        time.sleep(1)
    of_node_2 = [1 in way for way in permutations(range(len(pods)), 2)]
    ways = list(zip(of_node_2, flows.flows, strict=True))
    # Others do not notice.
    assert [flow for touched, flow in ways if flow.lost and not touched] == []
    return max(flow.lost for touched, flow in ways if touched) / _RATE


@pytest.mark.parametrize("what", ["daemon killed", "link deleted"])
def test_a_spare_that_was_lost_is_missed_by_nobody(
    agents: Agents, pods: list[Pod], what: str
) -> None:
    def lose() -> None:
        before = agents.daemons(2)
        _lose(agents, what, "wgpy1")
        wait_until("the lane is back", lambda: _is_new(agents, "wgpy1", before), _PATIENCE)

    agents.wait_ready()
    lossless(agents, pods, _RATE, 4, lose)
    agents.wait_ready()


def _lose(agents: Agents, what: str, lane: str) -> None:
    if what == "daemon killed":
        os.kill(agents.daemons(2)[lane], signal.SIGKILL)
    else:
        agents.cluster.nodes[1].run("ip", "link", "del", lane)


def _is_new(agents: Agents, lane: str, before: dict[str, int]) -> bool:
    return agents.daemons(2).get(lane, before[lane]) != before[lane]


def test_daemons_outlive_the_launcher_and_come_back_with_it(
    agents: Agents, pods: list[Pod]
) -> None:

    def kill() -> None:
        agents.kill_launcher(4)
        time.sleep(2)
        agents.start_launcher(4)
        time.sleep(2)

    lossless(agents, pods, _RATE, 4, kill)
    os.kill(agents.daemons(4)["wgpy0"], signal.SIGKILL)
    wait_until("there is a new daemon", lambda: len(agents.daemons(4)) == 2, _PATIENCE)
    wait_until("it carries packets", partial(_reaches, pods[0], pods[3]), _PATIENCE)


def _reaches(one: Pod, other: Pod) -> bool:
    try:
        for version in (4, 6):
            one.ping(other.addresses[version], attempts=1, patience=1)
    except CommandFailed:
        return False
    return True


def test_a_node_that_is_deleted_is_nobodys_peer_and_one_with_other_prefixes_takes_its_place(
    agents: Agents, pods: list[Pod]
) -> None:
    cluster, node = agents.cluster, agents.cluster.nodes[3]
    detach(pods[3])
    agents.stop_agent(4)
    cluster.delete_node(4)
    agents.collect_garbage(4)
    one = agents.cluster.nodes[0]
    wait_until("it is gone", lambda: "10.244.4.0" not in one.run("ip", "route"), _PATIENCE)
    assert one.run("wg", "show", "wgpy0", "peers").count("\n") == 2
    cluster.create_node(4, ["10.244.44.0/24", "fd00:244:0:44::/64"])
    agents.start_agent(4)
    agents.wait_ready()
    pod = attach(node, "new", cluster.lab.namespace("new4"))
    try:
        assert pod.addresses[4].startswith("10.244.44.")
        for other in pods[:3]:
            wait_until("the new pod is reached", partial(_reaches, other, pod), _PATIENCE)
            wait_until("the new pod reaches", partial(_reaches, pod, other), _PATIENCE)
    finally:
        detach(pod)


def test_after_a_reboot_no_pod_starts_before_the_agent_does(
    agents: Agents, pods: list[Pod]
) -> None:
    node = agents.cluster.nodes[2]
    old = _keys(agents, 3)
    detach(pods[2])
    agents.reboot(3)
    with pytest.raises((CommandFailed, AssertionError)):
        attach(node, "early", agents.cluster.lab.namespace("early"))
    agents.start_launcher(3)
    agents.start_agent(3)
    wait_until("node 3 has new keys", partial(_has_new_keys, agents, 3, old), _PATIENCE)
    pod = attach(node, "late", agents.cluster.lab.namespace("late"))
    try:
        for other in pods[:2]:
            wait_until("it is reached", partial(_reaches, other, pod), _PATIENCE)
            wait_until("it reaches", partial(_reaches, pod, other), _PATIENCE)
    finally:
        with suppress(CommandFailed):
            detach(pod)


def test_a_node_that_publishes_nonsense_harms_nobody(agents: Agents, pods: list[Pod]) -> None:
    """Keys that nobody has, at an address where nobody is, in an object that is well-formed."""
    name = "nonsense"
    spec = {"podCIDR": "10.244.200.0/24", "podCIDRs": ["10.244.200.0/24"]}
    agents.admin.create("/api/v1/nodes", {"metadata": {"name": name}, "spec": spec})
    told = agents.object(1)
    assert told is not None
    key = {
        "publicKey": b64encode(bytes(range(32))).decode(),
        "boxKey": b64encode(bytes(32)).decode(),
    }
    lanes = [{**lane, **key} for lane in told["spec"]["lanes"]]
    lanes[1]["publicKey"] = b64encode(bytes(range(1, 33))).decode()
    body = {
        "apiVersion": "wgpy.io/v1alpha1",
        "kind": "WireGuardNode",
        "metadata": {"name": name},
        "spec": {**told["spec"], "lanes": lanes, "endpoints": ["192.0.2.77"]},
    }
    try:
        lossless(agents, pods[:2], _RATE, 4, partial(_publish, agents, body))
    finally:
        agents.admin.delete(f"/api/v1/nodes/{name}")
    wait_until("it is forgotten", lambda: name not in str(agents.status(1)), _PATIENCE)


def _publish(agents: Agents, body: Json) -> None:
    """For as long as it takes node 1 to say what it thinks of it."""
    name = body["metadata"]["name"]

    def told() -> bool:
        problems = (agents.status(1) or {"problems": []})["problems"]
        return any(name in problem["what"] for problem in problems)

    agents.admin.create("/apis/wgpy.io/v1alpha1/wireguardnodes", body)
    try:
        wait_until("it is told", told, _PATIENCE, every=0.5)
    finally:
        agents.admin.delete(f"/apis/wgpy.io/v1alpha1/wireguardnodes/{name}")


def test_nothing_of_it_depends_on_the_api_server_staying_there(
    agents: Agents, pods: list[Pod]
) -> None:
    def connected() -> bool:
        told = agents.status(1)
        assert told is not None
        return bool(told["connected"])

    def refuse() -> None:
        agents.cluster.relay.refuse(True)
        try:
            wait_until("the agent notices", lambda: not connected(), _PATIENCE, every=0.5)
            time.sleep(2)
        finally:
            agents.cluster.relay.refuse(False)

    lossless(agents, pods[:2], _RATE, 4, refuse)
    wait_until("it is connected again", connected, _PATIENCE, every=0.5)
