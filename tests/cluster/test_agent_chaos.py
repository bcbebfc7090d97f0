"""Everything at random, on six nodes: what must cost nothing costs nothing, what costs heals.

WGPY_SEED=N plays one run again; WGPY_ROUNDS says how long it is.
"""

from __future__ import annotations

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
from tests.cluster.pod import Pod, attach, detach

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster"), pytest.mark.endurance]

_NODES = 6
# Datagrams a second, from each pod to each other.
_RATE = 20
_PATIENCE = 240.0
_SEEDS = [int(os.environ["WGPY_SEED"])] if "WGPY_SEED" in os.environ else [1, 2]
_ROUNDS = int(os.environ.get("WGPY_ROUNDS", "6"))
_LANES = ("wgpy0", "wgpy1")


class World:
    """The cluster, its pods, and what can happen to them."""

    def __init__(self, agents: Agents, seed: int) -> None:
        self.agents = agents
        self.random = random.Random(seed)
        self.pods: dict[int, Pod] = {}
        self.done: list[str] = []
        self._generation = dict.fromkeys(agents.numbers, 0)
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

    def partition(self, number: int) -> None:
        with self.agents.cluster.nodes[number - 1].cut_off():
            time.sleep(self.random.uniform(1, 20))

    def lose(self, number: int) -> None:
        node = self.agents.cluster.nodes[number - 1]
        node.lose(self.random.choice([5, 20]))
        try:
            self.agents.run(self.random.choice(list(self.agents.numbers)), "rotate")
            time.sleep(15)
        finally:
            node.lose(0)

    def recreate(self, number: int) -> None:
        """The same name, other prefixes."""
        detach(self.pods[number])
        self.agents.stop_agent(number)
        self.agents.cluster.delete_node(number)
        self.agents.collect_garbage(number)
        self._generation[number] += 1
        block = number + 10 * self._generation[number]
        cidrs = [f"10.244.{block}.0/24", f"fd00:244:0:{block:x}::/64"]
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

    # What must be so in the end.

    def heals(self) -> None:
        """Everybody is ready, and everybody reaches everybody."""
        for one, other in permutations(self.pods.values(), 2):
            for version in (4, 6):
                what = f"{one.node.name} reaches {other.node.name} over IPv{version}"
                wait_until(what, partial(_reaches, one, other, version), _PATIENCE, every=0.5)
        self.agents.wait_ready(_PATIENCE)


def _reaches(one: Pod, other: Pod, version: int) -> bool:
    try:
        one.ping(other.addresses[version], patience=1, attempts=1)
    except CommandFailed:
        return False
    return True


@pytest.fixture
def world(
    installed: ControlPlane, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[World]:
    seed: int = request.param
    with (
        Cluster(installed, tmp_path, f"chaos{seed}", _NODES) as cluster,
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


@pytest.mark.parametrize("world", _SEEDS, indirect=True)
def test_a_long_run_of_everything(world: World) -> None:
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
        world.partition,
        world.lose,
        world.recreate,
        world.reboot,
    ]
    numbers = list(world.agents.numbers)
    for _ in range(_ROUNDS):
        with Flows(list(world.pods.values()), _RATE, world.random.choice((4, 6))) as flows:
            for _ in range(world.random.randint(2, 5)):
                deed, number = world.random.choice(harmless), world.random.choice(numbers)
                world.note(f"{deed.__name__} {number}")
                deed(number)
                time.sleep(world.random.uniform(0, 5))
        assert [flow for flow in flows.flows if flow.lost] == [], world.done
        for _ in range(world.random.randint(1, 3)):
            deed, number = world.random.choice(harmful), world.random.choice(numbers)
            world.note(f"{deed.__name__} {number}")
            deed(number)
        world.heals()
        world.note("healed")
