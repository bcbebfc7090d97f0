"""One agent from its start among so many nodes, through quiet, changes and rotations."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from agent.apiserver import Json
from interop.shell import wait_until
from tests.cluster.agents import Agents
from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import ControlPlane
from tests.cluster.trouble import Trouble
from tests.scale.crowd import Crowd, new_keys

T = TypeVar("T")
_ROOT = Path(__file__).parents[2]
_LANES = ("wgpy0", "wgpy1")
_PATIENCE = 900.0
# Seconds, longer than a peer counts as new.
_SETTLED = 75.0
_TICKS = os.sysconf("SC_CLK_TCK")
_CHANGES_A_MINUTE = 100


@dataclass
class Numbers:
    """What was measured. Seconds, MiB, and percent of one CPU."""

    nodes: int
    start_peers: float = 0.0
    start_ready: float = 0.0
    start_cpu: float = 0.0
    start_calls: int = 0
    memory: float = 0.0
    memory_peak: float = 0.0
    idle_cpu: float = 0.0
    idle_calls_a_minute: float = 0.0
    changes_cpu: float = 0.0
    changes_calls_a_minute: float = 0.0
    change_median: float = 0.0
    change_longest: float = 0.0
    other_rotation: float = 0.0
    own_rotation: float = 0.0
    own_rotation_cpu: float = 0.0
    own_rotation_calls: int = 0

    def to_object(self) -> Json:
        return {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(self).items()}


class Subject:
    """The agent that is measured, on a node whose lanes stand in for real ones."""

    def __init__(self, agents: Agents, trouble: Trouble, directory: Path) -> None:
        self._agents = agents
        self._trouble = trouble
        self._log = directory / "lanes.jsonl"
        node = agents.cluster.nodes[0]
        with (directory / "standin.log").open("ab") as output:
            argv = [sys.executable, "-m", "tests.scale.standin", str(self._log), *_LANES]
            node.start(*argv, output=output, environment={"PYTHONPATH": str(_ROOT)})
        ready = (directory / "standin.log").read_text
        wait_until("the lanes are served", lambda: "ready" in ready(), 30)

    def start(self) -> None:
        self._agents.start_agent(1, "--launcher=", "--resync=60s", "--keepalive=5s")

    def rotate(self) -> None:
        self._agents.run(1, "rotate")

    def lane_keys(self) -> list[str]:
        """As it publishes them, home first, once no rotation is under way; else none."""
        spec = (self._agents.object(1) or {}).get("spec") or {}
        if not spec or spec["activeLane"] or len({lane["epoch"] for lane in spec["lanes"]}) > 1:
            return []
        return [lane["publicKey"] for lane in spec["lanes"]]

    @property
    def ready(self) -> bool:
        """As its readiness probe says it."""
        url = f"http://{self._agents.metrics_address(1)}/readyz"
        node = self._agents.cluster.nodes[0]
        argv = [sys.executable, "-c", _ASK, url]
        return node.run(*argv).strip() == "200"

    def changes(self) -> Iterator[Json]:
        """What was done to its lanes, all of it."""
        if self._log.exists():
            yield from map(json.loads, self._log.read_text().splitlines())

    def peers_since(self, count: int) -> float | None:
        """When both lanes had so many peers."""
        at: dict[str, float] = {}
        for told in self.changes():
            if told["peers"] >= count:
                at.setdefault(told["lane"], told["at"])
        return max(at.values()) if len(at) == len(_LANES) else None

    def key_set(self, key: bytes) -> float | None:
        """When a lane got a peer's key."""
        return next((told["at"] for told in self.changes() if key.hex() in told["set"]), None)

    @property
    def cpu(self) -> float:
        """Seconds that it has had so far."""
        pid = self._agents.agent_pid(1)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # And what it waited for: nft, iptables.
        return sum(map(int, fields[11:15])) / _TICKS

    def memory(self, which: str) -> float:
        """VmRSS or VmHWM, MiB."""
        pid = self._agents.agent_pid(1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(which):
                return int(line.split()[1]) / 1024
        raise AssertionError(f"no {which}")

    @property
    def calls(self) -> int:
        return self._trouble.calls.total()


_ASK = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1]).status)
except (urllib.error.HTTPError, OSError) as error:
    print(getattr(error, "code", 0))
"""


@contextmanager
def subject(plane: ControlPlane, directory: Path) -> Iterator[Subject]:
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(plane, directory, "scale", 1))
        trouble = Trouble(plane)
        stack.callback(trouble.close)
        cluster.relay.lead_to(trouble.port)
        yield Subject(Agents(cluster), trouble, directory)


async def measure(
    plane: ControlPlane, directory: Path, count: int, seconds: float, say: Callable[[str], None]
) -> Numbers:
    """`count` nodes, the measured one among them; quiet and changes last `seconds` each."""
    numbers = Numbers(count)
    async with Crowd(plane, count - 1) as crowd:
        say(f"{count} nodes are there")
        with subject(plane, directory) as agent:
            await _start(agent, numbers, say)
            await _quiet(agent, numbers, seconds, say)
            await _changes(agent, crowd, numbers, seconds, say)
            await _rotations(agent, crowd, numbers, say)
            numbers.memory_peak = agent.memory("VmHWM")
    return numbers


async def _start(agent: Subject, numbers: Numbers, say: Callable[[str], None]) -> None:
    began = time.time()
    agent.start()
    at = await _until(lambda: agent.peers_since(numbers.nodes - 1))
    numbers.start_peers = at - began
    await _until(lambda: agent.ready)
    numbers.start_ready = time.time() - began
    numbers.start_cpu = agent.cpu
    # Until nothing is new to it any more.
    await asyncio.sleep(_SETTLED)
    numbers.start_calls = agent.calls
    numbers.memory = agent.memory("VmRSS")
    say(f"started: {numbers.to_object()}")


async def _quiet(
    agent: Subject, numbers: Numbers, seconds: float, say: Callable[[str], None]
) -> None:
    cpu, calls = agent.cpu, agent.calls
    await asyncio.sleep(seconds)
    numbers.idle_cpu = 100 * (agent.cpu - cpu) / seconds
    numbers.idle_calls_a_minute = 60 * (agent.calls - calls) / seconds
    say(f"quiet: {numbers.to_object()}")


async def _changes(
    agent: Subject, crowd: Crowd, numbers: Numbers, seconds: float, say: Callable[[str], None]
) -> None:
    cpu, calls, began = agent.cpu, agent.calls, time.monotonic()
    changes = min(len(crowd.nodes), int(seconds * _CHANGES_A_MINUTE / 60))
    chosen = random.Random(1).sample(range(len(crowd.nodes)), changes)
    written: list[tuple[bytes, float]] = []
    for position, number in enumerate(chosen):
        await asyncio.sleep(began + position * 60 / _CHANGES_A_MINUTE - time.monotonic())
        node = await crowd.renew(number)
        written.append((node.lanes[1].public_key, time.time()))
    await _until(lambda: agent.key_set(written[-1][0]))
    took = time.monotonic() - began
    numbers.changes_cpu = 100 * (agent.cpu - cpu) / took
    numbers.changes_calls_a_minute = 60 * (agent.calls - calls) / took
    keys = {key: told["at"] for told in agent.changes() for key in told["set"]}
    late = sorted(keys[key.hex()] - at for key, at in written)
    numbers.change_median, numbers.change_longest = late[len(late) // 2], late[-1]
    say(f"changes: {numbers.to_object()}")


async def _rotations(
    agent: Subject, crowd: Crowd, numbers: Numbers, say: Callable[[str], None]
) -> None:
    """Of another node, all its steps as soon as they are seen; then of the own one."""
    began = time.time()
    old = crowd.nodes[0]
    lanes = old.lanes[0], new_keys(1, old.lanes[1].epoch + 1)
    spare = await crowd.say(0, replace(old, lanes=lanes))
    await _until(lambda: agent.key_set(spare.lanes[1].public_key))
    moved = await crowd.say(0, replace(spare, active_lane=1))
    home = new_keys(0, spare.lanes[1].epoch)
    back = await crowd.say(0, replace(moved, lanes=(home, spare.lanes[1]), active_lane=0))
    at = await _until(lambda: agent.key_set(back.lanes[0].public_key))
    numbers.other_rotation = at - began

    before = set(agent.lane_keys())
    cpu, calls, began = agent.cpu, agent.calls, time.time()
    agent.rotate()
    await _until(lambda: (keys := agent.lane_keys()) and not before & set(keys))
    numbers.own_rotation = time.time() - began
    numbers.own_rotation_cpu = agent.cpu - cpu
    numbers.own_rotation_calls = agent.calls - calls
    say(f"rotations: {numbers.to_object()}")


async def _until(condition: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + _PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it does not come to that"
        await asyncio.sleep(0.5)
    return found
