"""Everything at random, on six nodes: what must cost nothing costs nothing, what costs heals.

`make chaos SEED=N` plays one run again; ROUNDS says how long it is.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import permutations
from pathlib import Path

import pytest

from interop.shell import CommandFailed, wait_until
from tests.cluster.agents import Agents
from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import ControlPlane
from tests.cluster.flows import Flows
from tests.cluster.invariants import broken_invariants
from tests.cluster.lossless import queue_drops
from tests.cluster.pod import Pod, attach, detach
from tests.cluster.slowpath import slow_path

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

# Datagrams a second, from each pod to each other.
_RATE = 20
_PATIENCE = 240.0
_SEEDS = [int(os.environ["WGPY_SEED"])] if "WGPY_SEED" in os.environ else [1, 2]
_ROUNDS = int(os.environ.get("WGPY_ROUNDS", "6"))
_LANES = ("wgpy0", "wgpy1")
# Seconds that a slow path holds datagrams: less than flows wait for the last ones.
_LATE = (0.0, 0.25)


class World:
    """The cluster, its pods, and what can happen to them."""

    def __init__(self, agents: Agents, seed: int) -> None:
        self.agents = agents
        self.random = random.Random(seed)
        self.pods: dict[int, Pod] = {}
        self.done: list[str] = []
        # Nodes that something was done to, and that are not healed yet.
        self.hurt: set[int] = set()
        self._generation = dict.fromkeys(agents.numbers, 0)
        self._cidrs = {number: agents.cluster.pod_cidrs(number) for number in agents.numbers}
        for number in agents.numbers:
            self.new_pod(number)

    def new_pod(self, number: int) -> None:
        space = self.agents.cluster.lab.namespace(f"p{number}-{self._generation[number]}")
        self.pods[number] = attach(self.agents.cluster.nodes[number - 1], "p", space)

    def note(self, what: str) -> None:
        self.done.append(f"{time.strftime('%H:%M:%S')} {what}")

    # What traffic must not notice.

    def restart_agent(self, number: int) -> None:
        self.agents.kill_agent(number)
        time.sleep(self.random.uniform(0, 2))
        self.agents.start_agent(number)

    def rotate(self, number: int) -> None:
        self.agents.run(number, "rotate")

    def cut_watches(self, number: int) -> None:
        self.agents.cluster.relay.cut()

    def restart_launcher(self, number: int) -> None:
        self.agents.kill_launcher(number)
        self.agents.start_launcher(number)

    # What it may notice, for as long as it lasts.

    def kill_daemon(self, number: int) -> None:
        lane = self.random.choice(_LANES)
        if pid := self.agents.daemons(number).get(lane):
            os.kill(pid, signal.SIGKILL)

    def delete_link(self, number: int) -> None:
        lane = self.random.choice(_LANES)
        self.agents.cluster.nodes[number - 1].run("sh", "-c", f"ip link del {lane} || true")

    def flush(self, number: int) -> None:
        what = self.random.choice(["nft flush ruleset", "ip route flush proto 157"])
        self.agents.cluster.nodes[number - 1].run(*what.split())

    def delete_object(self, number: int) -> None:
        self.agents.collect_garbage(number)

    def partition(self, number: int) -> None:
        with self.agents.cluster.nodes[number - 1].cut_off():
            time.sleep(self.random.uniform(1, 20))

    def recreate(self, number: int) -> None:
        """The same name, other prefixes."""
        detach(self.pods[number])
        self.agents.stop_agent(number)
        self.agents.cluster.delete_node(number)
        self.agents.collect_garbage(number)
        self._generation[number] += 1
        block = number + 10 * self._generation[number]
        cidrs = self._cidrs[number] = [f"10.244.{block}.0/24", f"fd00:244:0:{block:x}::/64"]
        self.agents.cluster.create_node(number, cidrs)
        self.agents.start_agent(number)
        wait_until("it has its keys", lambda: self.agents.object(number), _PATIENCE)
        wait_until("it has a network", partial(self._attached, number), _PATIENCE, every=0.5)

    def reboot(self, number: int) -> None:
        detach(self.pods[number])
        self.agents.reboot(number)
        time.sleep(self.random.uniform(0, 5))
        self.agents.start_launcher(number)
        self.agents.start_agent(number)
        self._generation[number] += 1
        wait_until("it has a network", partial(self._attached, number), _PATIENCE, every=0.5)

    def _attached(self, number: int) -> bool:
        try:
            self.new_pod(number)
        except (CommandFailed, AssertionError):
            self._generation[number] += 1
            return False
        return True

    # How the network between the nodes is, while all that happens.

    @contextlib.contextmanager
    def weather(self) -> Iterator[set[int]]:
        """The nodes that lose packets for it."""
        numbers = self.random.sample(list(self.agents.numbers), 2)
        kind = self.random.choice(["clear", "late", "late", "lossy"])
        self.note(f"{kind}: nodes {numbers}")
        with contextlib.ExitStack() as stack:
            for number in numbers:
                node = self.agents.cluster.nodes[number - 1]
                if kind == "late":
                    stack.enter_context(slow_path(node, *_LATE, self.random.getrandbits(32)))
                elif kind == "lossy":
                    stack.callback(node.lose, 0)
                    node.lose(self.random.choice([5, 20]))
            yield set(numbers) if kind == "lossy" else set()

    # What must be so in the end.

    def heals(self) -> None:
        """Everybody is ready and reaches everybody, and all is as it should be."""
        for one, other in permutations(self.pods.values(), 2):
            for version in (4, 6):
                what = f"{one.node.name} reaches {other.node.name} over IPv{version}"
                wait_until(what, partial(_reaches, one, other, version), _PATIENCE, every=0.5)
        self.agents.wait_ready(_PATIENCE)
        wait_until("every invariant holds", self._is_well, _PATIENCE, every=2)
        self.note("healed")

    def _is_well(self) -> bool:
        broken = broken_invariants(self.agents, self._cidrs)
        if broken:
            self.note("; ".join(broken))
        return not broken

    @contextlib.contextmanager
    def lossless(self, numbers: set[int]) -> Iterator[None]:
        """Between the pods of these nodes nothing is lost while the block runs."""
        pods = [pod for number, pod in self.pods.items() if number in numbers]
        if len(pods) < 2:
            yield
            return
        before = queue_drops(self.agents, pods)
        with Flows(pods, _RATE, self.random.choice((4, 6))) as flows:
            yield
        bad = [flow for flow in flows.flows if flow.lost]
        # The machine is busy, and this is not about its queues.
        dropped = queue_drops(self.agents, pods) - before if bad else 0
        assert flows.lost <= dropped, (bad, self.done)


def _reaches(one: Pod, other: Pod, version: int) -> bool:
    try:
        one.ping(other.addresses[version], patience=1, attempts=1)
    except CommandFailed:
        return False
    return True


@contextlib.contextmanager
def new_world(plane: ControlPlane, directory: Path, nodes: int, seed: int) -> Iterator[World]:
    """What its nodes send is never in the clear."""
    with (
        Cluster(plane, directory, f"chaos{nodes}x{seed}", nodes) as cluster,
        cluster.no_plaintext(),
    ):
        agents = Agents(cluster, "--keepalive=5s")
        agents.start()
        world = World(agents, seed)
        try:
            yield world
        finally:
            print(f"seed {seed}:", *world.done, sep="\n  ")
            for pod in world.pods.values():
                detach(pod)


def play(world: World, rounds: int) -> None:
    """In each round, first what nobody may notice, then what only one node may."""
    harmless: list[Callable[[int], None]] = [
        world.restart_agent,
        world.rotate,
        world.cut_watches,
        world.restart_launcher,
    ]
    harmful: list[Callable[[int], None]] = [
        world.kill_daemon,
        world.delete_link,
        world.flush,
        world.delete_object,
        world.partition,
        world.recreate,
        world.reboot,
    ]
    everybody = set(world.agents.numbers)
    for _ in range(rounds):
        with world.weather() as lossy:
            with world.lossless(everybody - lossy):
                for _ in range(world.random.randint(2, 5)):
                    deed, number = _chosen(world, harmless)
                    deed(number)
                    time.sleep(world.random.uniform(0, 5))
            for _ in range(world.random.randint(1, 3)):
                deed, number = _chosen(world, harmful)
                with world.lossless(everybody - lossy - {number} - world.hurt):
                    deed(number)
                world.hurt.add(number)
        world.heals()
        world.hurt.clear()


def _chosen(world: World, deeds: list[Callable[[int], None]]) -> tuple[Callable[[int], None], int]:
    deed, number = world.random.choice(deeds), world.random.choice(list(world.agents.numbers))
    world.note(f"{deed.__name__} {number}")
    return deed, number


@pytest.mark.endurance
@pytest.mark.parametrize("seed", _SEEDS)
def test_a_long_run_of_everything(installed: ControlPlane, tmp_path: Path, seed: int) -> None:
    with new_world(installed, tmp_path, 6, seed) as world:
        play(world, _ROUNDS)


@pytest.mark.endurance
def test_a_short_run_of_everything(installed: ControlPlane, tmp_path: Path) -> None:
    with new_world(installed, tmp_path, 4, 7) as world:
        play(world, 1)
