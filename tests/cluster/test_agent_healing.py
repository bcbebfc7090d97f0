"""Nodes ask each other through the tunnel; what is broken between them heals, and is told."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import permutations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from interop.initiator import Initiator
from interop.shell import CommandFailed, wait_until
from tests.cluster.agents import Agents
from tests.cluster.api import Json
from tests.cluster.lossless import lossless
from tests.cluster.node import Node
from tests.cluster.pod import Pod

# Heals against the clock, and what it breaks others would see: not beside other tests.
pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.xdist_group("cluster")]

# Seconds, on a slow machine; a session would live for 180 without being healed.
_HEALED = 90.0
# A lane that is not in use is not missed so soon, and a rotation takes its time.
_HEALED_AT_LEISURE = 300.0
_MARK = 0x99
_PORT = 51871
_DAY_NS = 86_400 * 10**9
# Datagrams a second, from each pod to each other.
_RATE = 20.0


@pytest.fixture(scope="module")
def pods(agents: Agents) -> list[Pod]:
    return [agents.cluster.pod(number, "a") for number in agents.numbers]


def _metrics(agents: Agents, number: int) -> dict[str, float]:
    """Counters of healing, by sample."""
    url = f"http://{agents.metrics_address(number)}/metrics"
    script = f"import urllib.request as u; print(u.urlopen('{url}', timeout=20).read().decode())"
    text = agents.cluster.nodes[number - 1].run("python3", "-c", script)
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    wanted = ("wgpy_heals_total", "wgpy_probes_total")
    return {name: float(value) for name, _, value in lines if name.startswith(wanted)}


def _heals(agents: Agents, number: int) -> dict[str, float]:
    found = _metrics(agents, number)
    return {name.split('"')[1]: n for name, n in found.items() if name.startswith("wgpy_heals")}


def _healing(agents: Agents, number: int) -> list[str]:
    """What it has done for others, and when."""
    told = agents.status(number)
    assert told is not None
    found: list[str] = told["healing"]
    return found


def _reach(pods: list[Pod]) -> bool:
    for one, other in permutations(pods, 2):
        try:
            one.ping(other.addresses[4], patience=1, attempts=1)
        except CommandFailed:
            return False
    return True


def _events(agents: Agents, number: int) -> set[str]:
    """Their sentences. One that is said again within a minute is no other Event."""
    name = agents.cluster.nodes[number - 1].name
    query = f"fieldSelector=involvedObject.name={name},reason=Healing"
    found: list[Json] = agents.admin.get(f"/api/v1/namespaces/default/events?{query}")["items"]
    return {event["message"] for event in found}


@contextmanager
def _rotation(agents: Agents, number: int, patience: float) -> Iterator[None]:
    """Begins before the block, and is over after it."""
    keys = _lane_keys(agents, number)
    agents.run(number, "rotate")
    yield

    def rotated() -> bool:
        return not keys & _lane_keys(agents, number) and agents.ready(number)

    wait_until(f"node {number} has new keys", rotated, patience, every=0.5)


def _lane_keys(agents: Agents, number: int) -> set[str]:
    return {lane["publicKey"] for lane in (agents.object(number) or {})["spec"]["lanes"]}


def test_a_healthy_cluster_asks_and_heals_nothing(agents: Agents, pods: list[Pod]) -> None:
    """Not while keys rotate either."""
    agents.wait_ready()
    with _rotation(agents, 2, 240):
        pass
    for number in agents.numbers:

        def asked(number: int = number) -> bool:
            return _metrics(agents, number).get('wgpy_probes_total{answered="yes"}', 0) >= 6

        wait_until(f"node {number} has asked", asked, 60)
        assert _heals(agents, number) == {"handshake": 0, "peer": 0, "lane": 0}
        assert not _healing(agents, number) and not _events(agents, number)


@contextmanager
def _heals_by_itself(
    agents: Agents, pods: list[Pod], cure: str, patience: float = _HEALED
) -> Iterator[None]:
    """What the block breaks between node 1 and others is whole again, and told by node 1."""
    before, told = _heals(agents, 1)[cure], _healing(agents, 1)
    yield
    wait_until(f"{cure} is tried", lambda: _heals(agents, 1)[cure] > before, patience)
    wait_until("all reach all", partial(_reach, pods), _HEALED, every=0.5)
    done = {line.partition(" ")[2] for line in _healing(agents, 1) if line not in told}
    wait_until("there is an Event", lambda: done & _events(agents, 1), 30)
    wait_until("all is well", lambda: not _complaints(agents), _HEALED)


def _complaints(agents: Agents) -> list[str]:
    told = agents.status(1)
    assert told is not None
    return [p["what"] for p in told["problems"] if "does not answer" in p["what"]]


@contextmanager
def _black_hole(node: Node) -> Iterator[None]:
    """For what a socket sends with _MARK, which is nothing that an agent desires."""
    words = f"fwmark {_MARK} blackhole priority 100"
    node.run(*f"ip rule add {words}".split())
    try:
        yield
    finally:
        node.run(*f"ip rule del {words}".split())


def test_a_lane_that_is_not_in_use_is_made_anew(agents: Agents, pods: list[Pod]) -> None:
    """In a rotation it has new keys, and nobody proves them, as its packets go nowhere.

    The rotation waits for that, then goes on. Pods lose nothing: they use the other lane.
    """
    agents.wait_ready()
    node = agents.cluster.nodes[0]

    def heal() -> None:
        with _heals_by_itself(agents, pods, "lane", _HEALED_AT_LEISURE):
            node.run(*f"wg set wgpy1 fwmark {_MARK}".split())
            with _rotation(agents, 1, _HEALED_AT_LEISURE):
                pass

    with _black_hole(node):
        lossless(agents, pods, _RATE, 4, heal)
    assert "off" in node.run("wg", "show", "wgpy1", "fwmark")
    assert "nobody answers on lane 1: it is made anew" in "".join(_healing(agents, 1))


_QUIET_PEER = """
wg showconf wgpy0 | sed 's/^PersistentKeepalive.*/PersistentKeepalive = 0/' > /run/wgpy/quiet
"""
_FORGET = """
wg set wgpy0 peer {key} remove
wg syncconf wgpy0 /run/wgpy/quiet
"""


@pytest.fixture(scope="module")
def quiet(agents: Agents, pods: list[Pod]) -> Iterator[Agents]:
    """Node 2 has no agent, and sends no keepalives: nobody mends anything there."""
    agents.wait_ready()
    agents.stop_agent(2)
    node = agents.cluster.nodes[1]
    node.run("sh", "-c", f"{_QUIET_PEER} wg syncconf wgpy0 /run/wgpy/quiet")
    yield agents
    agents.start_agent(2)
    wait_until("node 2 has an agent", lambda: agents.status(2), 60, every=0.5)
    agents.wait_ready()


def _key(agents: Agents, of: int, at: int) -> str:
    """Of a node's home lane, as another node's device has it."""
    listed = agents.cluster.nodes[at - 1].run("wg", "show", "wgpy0", "allowed-ips")
    return next(line.split()[0] for line in listed.splitlines() if f"10.244.{of}.0/24" in line)


def test_a_peer_that_has_forgotten_the_session(quiet: Agents, pods: list[Pod]) -> None:
    """WireGuard's own timer does it 15 s after the first question that nobody answers; the agent,
    20 s after the last answer, may be sooner."""
    key = _key(quiet, of=1, at=2)
    node = quiet.cluster.nodes[1]
    node.run("sh", "-c", _FORGET.format(key=key))
    assert f"{key}\t0" in node.run("wg", "show", "wgpy0", "latest-handshakes")
    wait_until("all reach all", partial(_reach, pods[:2]), _HEALED, every=0.5)
    wait_until("all is well", lambda: not _complaints(quiet), _HEALED)


def test_a_peer_that_is_sought_in_the_wrong_place(quiet: Agents, pods: list[Pod]) -> None:
    """While its session lives it might have roamed; so nothing but its silence tells.

    The other one seeks us in the wrong place as well: otherwise we would hear from it.
    """
    node, key = quiet.cluster.nodes[0], _key(quiet, of=2, at=1)
    other, own = quiet.cluster.nodes[1], _key(quiet, of=1, at=2)
    with _heals_by_itself(quiet, pods[:2], "handshake"):
        node.run(*f"wg set wgpy0 peer {key} endpoint 192.0.2.66:51871".split())
        other.run(*f"wg set wgpy0 peer {own} endpoint 192.0.2.77:51871".split())
    found = node.run("wg", "show", "wgpy0", "endpoints")
    assert f"{key}\t198.18.0.12:51871" in found


@pytest.fixture
def refused(quiet: Agents, pods: list[Pod]) -> Iterator[Agents]:
    """Nodes 1 and 2 have no session, and each takes what the other begins for a replay.

    So it is when the clocks of both were ahead, and one has lost the session since: WireGuard
    wants timestamps to grow, and a peer's last one goes only with the peer itself.
    """
    key = _key(quiet, of=1, at=2)
    forget = _FORGET.format(key=key)
    node = quiet.cluster.nodes[1]
    _begin_tomorrow(quiet, sender=2, receiver=1)
    node.run("sh", "-c", forget)
    _begin_tomorrow(quiet, sender=1, receiver=2)
    yield quiet
    node.run("sh", "-c", forget)
    wait_until("all reach all", partial(_reach, pods[:2]), _HEALED, every=0.5)
    wait_until("all is well", lambda: not _complaints(quiet), _HEALED)


def _begin_tomorrow(agents: Agents, sender: int, receiver: int) -> None:
    """The initiation that `sender` sends when its clock is a day ahead."""
    node = agents.cluster.nodes[sender - 1]
    private = b64decode(node.run("wg", "show", "wgpy0", "private-key"))
    initiator = Initiator(X25519PrivateKey.from_private_bytes(private))
    receiving = agents.cluster.nodes[receiver - 1].run("wg", "show", "wgpy0", "public-key").strip()
    message = initiator.begin(receiving, 1, time.time_ns() + _DAY_NS).message
    # From its own port, which is taken: elsewhere it would have roamed to.
    header = struct.pack(">4H", _PORT, _PORT, 8 + len(message), 0)
    kind = (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    with node.namespace.socket(*kind) as sock:
        sock.sendto(header + message, (agents.cluster.internal_ips(receiver)[0], 0))


def test_a_peer_whose_handshakes_are_refused_is_added_again(
    refused: Agents, pods: list[Pod]
) -> None:
    """A new handshake is refused as well; who adds the peer again takes the peer's next one."""
    before = _heals(refused, 1)["handshake"]
    # Node 2 says nothing of its own accord: its pod comes first.
    two = pods[1::-1]
    with _heals_by_itself(refused, two, "peer"):

        def greeted() -> bool:
            return _heals(refused, 1)["handshake"] > before

        wait_until("a handshake is tried", greeted, _HEALED)
        assert not _reach(two)


def test_a_lane_whose_packets_go_nowhere_is_made_anew(agents: Agents, pods: list[Pod]) -> None:
    agents.wait_ready()
    node = agents.cluster.nodes[0]
    with _black_hole(node):
        with _heals_by_itself(agents, pods, "lane"):
            node.run(*f"wg set wgpy0 fwmark {_MARK}".split())
        assert "off" in node.run("wg", "show", "wgpy0", "fwmark")
        assert "nobody answers on lane 0: it is made anew" in "".join(_healing(agents, 1))


def test_a_daemon_that_hangs_is_replaced(agents: Agents, pods: list[Pod]) -> None:
    """On a node that is busy with no other cure; its agent goes on meanwhile, and tells."""
    hung = agents.daemons(4)["wgpy0"]
    os.kill(hung, signal.SIGSTOP)
    told = "wgpy0: its daemon does not answer"

    def problems() -> list[str]:
        return [problem["what"] for problem in (agents.status(4) or {"problems": []})["problems"]]

    wait_until("it is told", lambda: told in problems(), _HEALED, every=0.5)
    wait_until("it is another", lambda: agents.daemons(4).get("wgpy0", hung) != hung, _HEALED)
    wait_until("all reach all", partial(_reach, pods), _HEALED, every=0.5)
    wait_until("all is well", lambda: told not in problems(), _HEALED, every=0.5)
