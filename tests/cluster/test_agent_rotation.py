"""New keys on every node, without a packet lost; and the old ones are good for nothing."""

from __future__ import annotations

import select
import socket
import time
from base64 import b64decode
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from interop.initiator import Initiator
from interop.shell import wait_until
from tests.cluster.agents import Agents
from tests.cluster.api import Json
from tests.cluster.lossless import lossless
from tests.cluster.pod import Pod
from tests.cluster.slowness import SLOWNESS

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster"), pytest.mark.alone]

# Datagrams a second, from each pod to each other.
_RATE = 1000 / SLOWNESS
_PATIENCE = 300.0 * SLOWNESS
_LANES = ("wgpy0", "wgpy1")


@pytest.fixture(scope="module")
def pods(agents: Agents) -> list[Pod]:
    return [agents.cluster.pod(number, "a") for number in agents.numbers]


def _keys(agents: Agents, number: int) -> list[str]:
    told = agents.object(number)
    assert told is not None
    return [lane["publicKey"] for lane in told["spec"]["lanes"]]


def _rotated(agents: Agents, number: int, old: list[str]) -> bool:
    return not set(old) & set(_keys(agents, number)) and agents.ready(number)


def test_no_packet_is_lost_while_one_node_after_the_other_gets_new_keys(
    agents: Agents, pods: list[Pod]
) -> None:
    def rotate() -> None:
        for number in agents.numbers:
            old = _keys(agents, number)
            agents.run(number, "rotate")
            _await_keys(agents, number, old)

    flows = lossless(agents, pods, _RATE, 4, rotate)
    assert all(flow.sent > 10 * _RATE for flow in flows)


def test_no_packet_is_lost_while_all_nodes_get_new_keys_at_once(
    agents: Agents, pods: list[Pod]
) -> None:
    def rotate() -> None:
        old = {number: _keys(agents, number) for number in agents.numbers}
        for number in agents.numbers:
            agents.run(number, "rotate")
        for number in agents.numbers:
            _await_keys(agents, number, old[number])

    flows = lossless(agents, pods, _RATE, 6, rotate)
    assert all(flow.sent > 10 * _RATE for flow in flows)


def _await_keys(agents: Agents, number: int, old: list[str]) -> None:
    rotated = partial(_rotated, agents, number, old)
    wait_until(f"node {number} has new keys", rotated, _PATIENCE)


def test_an_annotation_of_the_node_asks_for_new_keys_too(agents: Agents) -> None:
    name, old = agents.cluster.nodes[0].name, _keys(agents, 1)
    agents.admin.merge(
        f"/api/v1/nodes/{name}", {"metadata": {"annotations": {"wgpy.io/rotate": "1"}}}
    )
    _await_keys(agents, 1, old)
    # And that is told.
    query = f"fieldSelector=involvedObject.name={name},reason=KeysRotated"
    path = f"/api/v1/namespaces/default/events?{query}"
    wait_until("there is an Event", lambda: agents.admin.get(path)["items"], 60)


def test_old_keys_are_refused(agents: Agents) -> None:
    """One who has stolen node 2's private keys, and knows all that is public, then and later."""
    stolen = [_initiator(agents, 2, lane) for lane in _LANES]
    old = _keys(agents, 2)
    assert [thief.public_text for thief in stolen] == old
    ours = _keys(agents, 1)
    # It is the keys that do it: with the present ones node 1 answers.
    for lane, thief in enumerate(stolen):
        assert _answers(agents, 1, lane, thief, ours[lane])
    agents.wait_ready()
    agents.run(2, "rotate")
    _await_keys(agents, 2, old)
    for lane, thief in enumerate(stolen):
        assert not _answers(agents, 1, lane, thief, ours[lane])
        # Nor does node 2 answer to its old name.
        one = _initiator(agents, 1, _LANES[lane])
        assert not _answers(agents, 2, lane, one, old[lane])
        assert _answers(agents, 2, lane, one, _keys(agents, 2)[lane])
    shown = [_shown(agents, 1, lane) for lane in _LANES]
    assert not [key for key in old if any(key in text for text in shown)]


def _initiator(agents: Agents, number: int, lane: str) -> Initiator:
    text = agents.cluster.nodes[number - 1].run("wg", "show", lane, "private-key")
    return Initiator(X25519PrivateKey.from_private_bytes(b64decode(text)))


def _shown(agents: Agents, number: int, lane: str) -> str:
    return agents.cluster.nodes[number - 1].run("wg", "show", lane, "dump")


def _answers(agents: Agents, number: int, lane: int, initiator: Initiator, responder: str) -> bool:
    """Whether a node answers any of three initiations, sent from the switch."""
    with agents.cluster.switch.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((agents.cluster.internal_ips(number)[0], 51871 + lane))
        for _ in range(3):
            # Two are too many in 20 ms for one peer.
            time.sleep(0.1)
            sock.send(initiator.initiation(responder, 1))
            if select.select([sock], [], [], 2.0)[0]:
                return True
        return False


def test_the_status_of_the_object_says_how_far_a_rotation_is(agents: Agents) -> None:
    def told() -> Json:
        found = agents.object(3)
        assert found is not None
        rotation: Json = found["status"]["rotation"]
        return rotation

    before = told()
    assert before["stage"] == "steady"
    agents.run(3, "rotate")
    wait_until("it drains", lambda: told()["stage"] == "drain", _PATIENCE)
    assert told()["goal"] == before["goal"] + 1
    wait_until(
        "status tells it",
        lambda: "rotation: drain" in agents.run(3, "status"),
        _PATIENCE,
        every=0.5,
    )
    wait_until("it is done", lambda: told()["stage"] == "steady", _PATIENCE)
