"""Everything at random, on six nodes: what must cost nothing costs nothing, what costs heals.

`make chaos SEED=N` plays one run again; ROUNDS says how long it is.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice, permutations
from pathlib import Path

import pytest

from interop.shell import CommandFailed, wait_until
from tests.cluster.agents import Agents
from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import ControlPlane
from tests.cluster.deeds import Deed, Round, rounds
from tests.cluster.flows import Flows
from tests.cluster.invariants import broken_invariants
from tests.cluster.lossless import queue_drops, widen
from tests.cluster.pod import Pod, attach, detach
from tests.cluster.slowpath import slow_path

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

# Datagrams a second, from each pod to each other.
_RATE = 20
_PATIENCE = 240.0
_SEEDS = [int(os.environ["WGPY_SEED"])] if "WGPY_SEED" in os.environ else [1, 2]
_ROUNDS = int(os.environ.get("WGPY_ROUNDS", "6"))
_LANES = ("wgpy0", "wgpy1")
_VERSIONS = (4, 6)
# Seconds that a slow path holds datagrams: less than flows wait for the last ones.
_LATE = (0.0, 0.25)


class World:
    """The cluster, its pods, and what can happen to them."""

    def __init__(self, agents: Agents) -> None:
        self.agents = agents
        self.pods: dict[int, Pod] = {}
        self.done: list[str] = []
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

    def restart_agent(self, number: int, chance: random.Random) -> None:
        self.agents.kill_agent(number)
        time.sleep(chance.uniform(0, 2))
        self.agents.start_agent(number)

    def rotate(self, number: int, chance: random.Random) -> None:
        self.agents.run(number, "rotate")

    def cut_watches(self, number: int, chance: random.Random) -> None:
        self.agents.cluster.relay.cut()

    def restart_launcher(self, number: int, chance: random.Random) -> None:
        self.agents.kill_launcher(number)
        self.agents.start_launcher(number)

    # What it may notice, for as long as it lasts.

    def kill_daemon(self, number: int, chance: random.Random) -> None:
        lane = chance.choice(_LANES)
        if pid := self.agents.daemons(number).get(lane):
            os.kill(pid, signal.SIGKILL)

    def delete_link(self, number: int, chance: random.Random) -> None:
        lane = chance.choice(_LANES)
        self.agents.cluster.nodes[number - 1].run("sh", "-c", f"ip link del {lane} || true")

    def flush(self, number: int, chance: random.Random) -> None:
        what = chance.choice(["nft flush ruleset", "ip route flush proto 157"])
        self.agents.cluster.nodes[number - 1].run(*what.split())

    def delete_object(self, number: int, chance: random.Random) -> None:
        self.agents.collect_garbage(number)

    def partition(self, number: int, chance: random.Random) -> None:
        with self.agents.cluster.nodes[number - 1].cut_off():
            time.sleep(chance.uniform(1, 20))

    def recreate(self, number: int, chance: random.Random) -> None:
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

    def reboot(self, number: int, chance: random.Random) -> None:
        detach(self.pods[number])
        self.agents.reboot(number)
        time.sleep(chance.uniform(0, 5))
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
    def weather(self, kind: str, numbers: tuple[int, ...], chance: random.Random) -> Iterator[None]:
        """`lossy` nodes lose packets for it."""
        self.note(f"{kind}: nodes {numbers}")
        with contextlib.ExitStack() as stack:
            for number in numbers:
                node = self.agents.cluster.nodes[number - 1]
                if kind == "late":
                    stack.enter_context(slow_path(node, *_LATE, chance.getrandbits(32)))
                elif kind == "lossy":
                    stack.callback(node.lose, 0)
                    node.lose(chance.choice([5, 20]))
            yield

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
    def lossless(self, numbers: set[int], version: int) -> Iterator[None]:
        """Between the pods of these nodes nothing is lost, or comes twice, while the block runs."""
        pods = [pod for number, pod in self.pods.items() if number in numbers]
        if len(pods) < 2:
            yield
            return
        widen(pods)
        before = queue_drops(self.agents, pods)
        with Flows(pods, _RATE, version) as flows:
            yield
        dropped = queue_drops(self.agents, pods) - before
        bad = [flow for flow in flows.flows if flow.lost or flow.again]
        if bad:
            self.note(f"{flows.lost} lost, {dropped} dropped by full queues")
        # The machine is busy, and this is not about its queues.
        assert flows.lost <= dropped, (bad, self.done)
        assert not any(flow.again for flow in bad), (bad, self.done)

    def play(self, one: Round) -> None:
        """First what nobody may notice, then what only one node may, and in the end all is well."""
        chance = random.Random(one.chance)
        well = set(self.agents.numbers) - set(one.nodes if one.weather == "lossy" else ())
        with self.weather(one.weather, one.nodes, chance):
            with self.lossless(well, chance.choice(_VERSIONS)):
                for deed in one.harmless:
                    self._do(deed)
                    time.sleep(chance.uniform(0, 5))
            for deed in one.harmful:
                well.discard(deed.number)
                with self.lossless(well, chance.choice(_VERSIONS)):
                    self._do(deed)
        self.heals()

    def _do(self, deed: Deed) -> None:
        self.note(f"{deed.name} {deed.number}")
        getattr(self, deed.name)(deed.number, random.Random(deed.chance))


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
        world = World(agents)
        try:
            yield world
        finally:
            print(f"seed {seed}:", *world.done, sep="\n  ")
            for pod in world.pods.values():
                detach(pod)


def _play(world: World, seed: int, count: int) -> None:
    for one in islice(rounds(seed, world.agents.numbers), count):
        world.play(one)


@pytest.mark.endurance
@pytest.mark.parametrize("seed", _SEEDS)
def test_a_long_run_of_everything(installed: ControlPlane, tmp_path: Path, seed: int) -> None:
    with new_world(installed, tmp_path, 6, seed) as world:
        _play(world, seed, _ROUNDS)


@pytest.mark.endurance
def test_a_short_run_of_everything(installed: ControlPlane, tmp_path: Path) -> None:
    with new_world(installed, tmp_path, 4, 7) as world:
        _play(world, 7, 1)
