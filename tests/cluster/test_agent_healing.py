"""Nodes ask each other through the tunnel; what is broken between them heals, and is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import permutations

import pytest

from interop.shell import CommandFailed, wait_until
from tests.cluster.agents import Agents
from tests.cluster.api import Json
from tests.cluster.pod import Pod

# Heals against the clock, and what it breaks others would see: not beside other tests.
pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.xdist_group("cluster")]

# Seconds, on a slow machine; a session would live for 180 without being healed.
_HEALED = 90.0
_MARK = 0x99


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
    """What it has done for others, without the time."""
    told = agents.status(number)
    assert told is not None
    return [line.partition(" ")[2] for line in told["healing"]]


def _reach(pods: list[Pod]) -> bool:
    for one, other in permutations(pods, 2):
        try:
            one.ping(other.addresses[4], patience=1, attempts=1)
        except CommandFailed:
            return False
    return True


def _events(agents: Agents, number: int) -> list[Json]:
    name = agents.cluster.nodes[number - 1].name
    query = f"fieldSelector=involvedObject.name={name},reason=Healing"
    found: list[Json] = agents.admin.get(f"/api/v1/namespaces/default/events?{query}")["items"]
    return found


def test_a_healthy_cluster_asks_and_heals_nothing(agents: Agents, pods: list[Pod]) -> None:
    """Not while keys rotate either."""
    agents.wait_ready()
    agents.run(2, "rotate")
    keys = [lane["publicKey"] for lane in (agents.object(2) or {})["spec"]["lanes"]]

    def rotated() -> bool:
        now = [lane["publicKey"] for lane in (agents.object(2) or {})["spec"]["lanes"]]
        return not set(keys) & set(now) and agents.ready(2)

    wait_until("node 2 has new keys", rotated, 240, every=0.5)
    for number in agents.numbers:

        def asked(number: int = number) -> bool:
            return _metrics(agents, number).get('wgpy_probes_total{answered="yes"}', 0) >= 6

        wait_until(f"node {number} has asked", asked, 60)
        assert _heals(agents, number) == {"handshake": 0, "peer": 0, "lane": 0}
        assert _healing(agents, number) == [] and _events(agents, number) == []


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


@contextmanager
def _heals_by_itself(agents: Agents, pods: list[Pod], cure: str) -> Iterator[None]:
    """What the block breaks between node 1 and others is whole again, and told by node 1."""
    before = _heals(agents, 1)
    told = _healing(agents, 1)
    yield
    wait_until(f"{cure} is tried", lambda: _heals(agents, 1)[cure] > before[cure], _HEALED)
    wait_until("all reach all", partial(_reach, pods), _HEALED, every=0.5)
    assert _healing(agents, 1) != told
    wait_until("there is an Event", lambda: bool(_events(agents, 1)), 30)
    wait_until("all is well", lambda: not _complaints(agents), _HEALED)


def _complaints(agents: Agents) -> list[str]:
    told = agents.status(1)
    assert told is not None
    return [p["what"] for p in told["problems"] if "does not answer" in p["what"]]


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


def test_a_lane_whose_packets_go_nowhere_is_made_anew(agents: Agents, pods: list[Pod]) -> None:
    """The socket's mark, which is nothing that an agent desires, leads into a black hole."""
    agents.wait_ready()
    node = agents.cluster.nodes[0]
    words = f"fwmark {_MARK} blackhole priority 100"
    node.run(*f"ip rule add {words}".split())
    try:
        with _heals_by_itself(agents, pods, "lane"):
            node.run(*f"wg set wgpy0 fwmark {_MARK}".split())
        assert "off" in node.run("wg", "show", "wgpy0", "fwmark")
        assert "nobody answers on lane 0: it is made anew" in _healing(agents, 1)
    finally:
        node.run(*f"ip rule del {words}".split())


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
