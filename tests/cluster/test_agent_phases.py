"""Whatever happens to an agent and to what it keeps: nothing of pods' traffic is seen in the clear.

All pods send to all, datagrams and streams, IPv4 and IPv6, all the time, whether they can be heard
or not; all that nodes send is looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from interop.netns import stop
from interop.shell import CommandFailed, wait_until
from tests.cluster.agents import Agents
from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import ControlPlane
from tests.cluster.plaintext import IPV4, IPV6, Detector
from tests.cluster.pod import Pod

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

_ROOT = Path(__file__).parents[2]
_PATIENCE = 300.0
_UDP = 17
_HEADER = {IPV4: 20, IPV6: 40}
_PROTOCOL = {IPV4: 9, IPV6: 6}
_DATA = b"\4\0\0\0"
# Of both lanes: less is a cluster that is silent.
_SOME = 100


@contextlib.contextmanager
def _chatting(pods: list[Pod]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """All pods send to all the others while the block runs."""
    children = []
    try:
        for pod in pods:
            others = [a for p in pods if p is not pod for a in p.addresses.values()]
            argv = [sys.executable, "-m", "tests.cluster.chatter", *others]
            children.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", pod.namespace.name, *argv],
                    cwd=_ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
        yield children
    finally:
        for child in children:
            stop(child)


def _encrypted(detector: Detector) -> int:
    """Messages with data in them that nodes have sent each other."""
    return sum(
        frame[_PROTOCOL[kind]] == _UDP and frame[_HEADER[kind] + 8 :][:4] == _DATA
        for _, kind, frame in detector.frames()
        if kind in _HEADER and len(frame) > _HEADER[kind]
    )


def _attach(cluster: Cluster, number: int) -> Pod:
    """As soon as the runtime can: when there is a network."""
    attempts = iter(range(10_000))

    found: list[Pod] = []

    def attached() -> bool:
        with contextlib.suppress(CommandFailed, AssertionError):
            found.append(cluster.pod(number, f"early{next(attempts)}"))
        return bool(found)

    wait_until(f"node {number} has a network", attached, _PATIENCE, every=0.2)
    return found[0]


def test_nothing_is_in_the_clear_from_the_first_start_to_the_last_stop(
    installed: ControlPlane, tmp_path: Path
) -> None:
    """Pods come as soon as they can, before any session, and stay for longer than the lanes."""
    with Cluster(installed, tmp_path, "bounds", 4) as cluster, contextlib.ExitStack() as stack:
        agents = Agents(cluster, "--keepalive=5s")
        with cluster.no_plaintext() as start:
            for number in agents.numbers:
                agents.start_launcher(number)
                agents.start_agent(number)
            pods = [_attach(cluster, number) for number in agents.numbers]
            chatting = stack.enter_context(_chatting(pods))
            agents.wait_ready()
        assert _encrypted(start) > _SOME
        with cluster.no_plaintext() as stopped:
            for number in agents.numbers:
                agents.stop_agent(number)
            time.sleep(1)
        # Traffic goes on as it is.
        assert _encrypted(stopped) > _SOME
        with cluster.no_plaintext():
            for number in agents.numbers:
                agents.stop_launcher(number)
            assert not any(agents.daemons(number) for number in agents.numbers)
            time.sleep(2)
        with cluster.no_plaintext() as silent:
            time.sleep(2)
        # With the last lane the last word.
        assert _encrypted(silent) == 0
        told = [json.loads(child.communicate(timeout=30)[0]) for child in chatting]
    assert all(one["datagrams"] > _SOME and one["bytes"] for one in told), told


@pytest.fixture(scope="module")
def pods(agents: Agents) -> Iterator[list[Pod]]:
    pods = [agents.cluster.pod(number, "a") for number in agents.numbers]
    with _chatting(pods):
        yield pods


def _keys(agents: Agents, number: int) -> list[str]:
    told = agents.object(number)
    assert told is not None
    return [lane["publicKey"] for lane in told["spec"]["lanes"]]


def _has_new_keys(agents: Agents, old: dict[int, list[str]]) -> bool:
    return all(
        not set(keys) & set(_keys(agents, number)) and agents.ready(number)
        for number, keys in old.items()
    )


def _steady(agents: Agents) -> None:
    time.sleep(2)


def _rotation(agents: Agents) -> None:
    old = {number: _keys(agents, number) for number in (1, 3)}
    for number in old:
        agents.run(number, "rotate")
    wait_until("both have new keys", partial(_has_new_keys, agents, old), _PATIENCE, every=0.5)


def _agent_killed(agents: Agents) -> None:
    agents.kill_agent(2)
    time.sleep(2)
    agents.start_agent(2)


def _daemon_killed(agents: Agents) -> None:
    for lane in ("wgpy0", "wgpy1"):
        os.kill(agents.daemons(2)[lane], signal.SIGKILL)
        _back(agents, 2)


def _all_daemons_killed_without_an_agent(agents: Agents) -> None:
    """Nobody brings them back until it is there again."""
    agents.kill_agent(4)
    for pid in agents.daemons(4).values():
        os.kill(pid, signal.SIGKILL)
    time.sleep(2)
    agents.start_agent(4)


def _all_links_deleted(agents: Agents) -> None:
    agents.cluster.nodes[2].run("sh", "-c", "ip link del wgpy0; ip link del wgpy1")


def _routes_flushed(agents: Agents) -> None:
    agents.cluster.nodes[0].run("sh", "-c", "ip route flush proto 157; ip -6 route flush proto 157")


def _filter_flushed(agents: Agents) -> None:
    agents.cluster.nodes[0].run("nft", "flush", "ruleset")


def _back(agents: Agents, number: int) -> None:
    node = agents.cluster.nodes[number - 1]
    both = ["wgpy0", "wgpy1"]
    wait_until(
        "both lanes are there", lambda: node.run("wg", "show", "interfaces").split() == both, 60
    )


_PHASES: list[Callable[[Agents], None]] = [
    _steady,
    _rotation,
    _agent_killed,
    _daemon_killed,
    _all_daemons_killed_without_an_agent,
    _all_links_deleted,
    _routes_flushed,
    _filter_flushed,
]


@pytest.mark.parametrize("phase", _PHASES, ids=lambda phase: phase.__name__.strip("_"))
def test_nothing_is_in_the_clear_while(
    agents: Agents, pods: list[Pod], phase: Callable[[Agents], None]
) -> None:
    """Nor while all is brought back."""
    agents.wait_ready()
    with agents.cluster.no_plaintext() as detector:
        phase(agents)
        agents.wait_ready()
        for one, other in ((pods[0], pods[1]), (pods[2], pods[3])):
            wait_until("pods reach each other", partial(_reaches, one, other), _PATIENCE)
    assert _encrypted(detector) > _SOME


def _reaches(one: Pod, other: Pod) -> bool:
    try:
        for version in (4, 6):
            one.ping(other.addresses[version], attempts=1)
    except CommandFailed:
        return False
    return True
