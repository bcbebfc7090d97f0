"""Who is ill, and what is tried for whom. Time is a number."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from itertools import pairwise

from agent.healer import Healer
from agent.healing import Healing, Patient, PeerLane, Question, Remedy
from agent.lanefacts import Timing
from agent.model import Address
from agent.network.base import NetworkError
from tests.agent import virtualtime
from tests.agent.virtualtime import now

TIMING = Timing(keepalive=5)


def address(name: str) -> Address:
    return ip_address(f"10.244.{ord(name)}.1")


def patient(name: str, route: int | None = 0, proven: bool = True) -> Patient:
    lanes = {lane: PeerLane(f"{name}{lane}".encode(), True, 0) for lane in (0, 1)}
    if not proven and route is not None:
        lanes[1 - route] = replace(lanes[1 - route], proven=False)
    return Patient(route, address(name), lanes)


@dataclass
class World:
    """Peers that answer, or do not; each second as the agent has it."""

    names: str = "abc"
    silent: str = ""
    # Lanes that anything is heard on.
    heard: tuple[int, ...] = (0,)
    # Peers that have not shaken hands on the lane that is not in use.
    unproven: str = ""
    at: float = 1000.0
    done: list[tuple[float, Remedy]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.healing = Healing(TIMING)

    def live(self, seconds: int) -> list[Remedy]:
        """What was done meanwhile."""
        before = len(self.done)
        for _ in range(seconds):
            self.at += 1
            if self.at % 5 == 0:
                self.healing.note(self.at, {name: self._patient(name) for name in self.names})
            if question := self.healing.next(self.at):
                peer = question.peer
                self.asked.append(peer)
                self.healing.heard(self.at, peer, peer not in self.silent)
            self.done += [(self.at, remedy) for remedy in self.healing.remedies(self.at)]
        return [remedy for _, remedy in self.done[before:]]

    def _patient(self, name: str) -> Patient:
        found = patient(name, proven=name not in self.unproven)
        lanes = {
            lane: replace(one, rx_bytes=int(self.at) if lane in self.heard else 0)
            for lane, one in found.lanes.items()
        }
        return replace(found, lanes=lanes)


def cures(remedies: list[Remedy], peer: str) -> list[str]:
    return [remedy.cure for remedy in remedies if remedy.peer == peer]


def test_a_healthy_cluster_is_left_alone_and_asked_seldom() -> None:
    world = World()
    assert world.live(3600) == []
    # Each every ten seconds.
    assert 330 <= world.asked.count("a") <= 361
    assert world.healing.silent == []


def test_many_peers_are_asked_one_a_second_each_in_its_turn() -> None:
    world = World(names="".join(chr(number) for number in range(33, 33 + 90)))
    world.live(5)
    world.asked.clear()
    world.live(900)
    assert len(world.asked) <= 900
    counts = {world.asked.count(name) for name in world.names}
    assert min(counts) >= 9 and max(counts) <= 11


def test_who_falls_silent_is_treated_step_by_step_and_later_and_later() -> None:
    world = World()
    world.live(60)
    world.silent = "b"
    assert world.live(20) == [Remedy("handshake", 0, "b", b"b0")]
    assert world.healing.silent == ["b"]
    world.live(3600)
    times = [at for at, remedy in world.done if remedy.cure == "peer"]
    gaps = [round(later - earlier) for earlier, later in pairwise(times)]
    assert gaps[:5] == [40, 80, 160, 320, 600] and set(gaps[5:]) == {600}
    # The others answer: the lane is not to blame.
    assert {remedy.peer for _, remedy in world.done} == {"b"}


def test_who_answers_again_is_well() -> None:
    world = World()
    world.live(60)
    world.silent = "b"
    world.live(30)
    world.silent = ""
    world.done.clear()
    assert world.live(600) == []
    assert world.healing.silent == []
    world.silent = "b"
    assert world.live(20) == [Remedy("handshake", 0, "b", b"b0")]


def test_one_question_that_is_lost_is_nothing() -> None:
    world = World()
    world.live(60)
    for _ in range(50):
        before = len(world.asked)
        world.silent = "abc"
        while len(world.asked) == before:
            world.live(1)
        world.silent = ""
        world.live(30)
    assert world.done == []


def test_who_has_never_answered_is_not_judged() -> None:
    world = World(silent="b")
    assert world.live(3600) == []


def test_a_lane_that_hears_and_on_which_nobody_answers_is_made_anew() -> None:
    world = World()
    world.live(60)
    world.silent = "abc"
    remedies = world.live(60)
    assert remedies[-1] == Remedy("lane", 0)
    for name in "abc":
        assert cures(remedies, name) == ["handshake", "peer"]
    world.live(3600)
    assert len([at for at, remedy in world.done if remedy.cure == "lane"]) <= 12


def test_a_node_that_hears_nothing_at_all_does_not_blame_its_lane() -> None:
    """It is cut off."""
    world = World()
    world.live(60)
    world.silent, world.heard = "abc", ()
    assert "lane" not in {remedy.cure for remedy in world.live(3600)}


def test_a_handshake_on_the_idle_lane_that_never_comes() -> None:
    """Only the peers that lack it, and the lane itself when they all do."""
    world = World(unproven="a")
    assert world.live(60) == []
    assert world.live(30) == [Remedy("peer", 1, "a", b"a1")]
    assert "lane" not in {remedy.cure for remedy in world.live(3600)}
    world = World(unproven="abc")
    remedies = world.live(150)
    assert remedies[-1] == Remedy("lane", 1)
    assert cures(remedies, "a") == ["peer", "peer"]


def test_peers_that_go_are_forgotten() -> None:
    world = World()
    world.live(60)
    world.silent = "b"
    world.live(30)
    world.names = "ac"
    world.done.clear()
    world.live(5)
    assert world.live(600) == [] and world.healing.silent == []


def test_a_route_that_moves_begins_anew() -> None:
    healing = Healing(TIMING)
    healing.note(0, {"a": patient("a")})
    healing.heard(10, "a", True)
    for at in (20, 22, 24):
        healing.heard(at, "a", False)
    assert healing.silent == ["a"]
    healing.note(25, {"a": patient("a", route=1)})
    assert healing.silent == [] and healing.remedies(26) == []


def test_the_healer_asks_does_and_tells() -> None:
    async def run() -> None:
        asked: list[bool] = []
        done: list[list[Remedy]] = []
        told: list[tuple[list[Remedy], list[str]]] = []
        reachable = True

        async def ask(question: Question) -> bool:
            assert question == Question("a", 0, address("a"))
            return reachable

        async def do(remedies: list[Remedy]) -> None:
            done.append(remedies)
            raise NetworkError("wgpy0: there is no such device")

        healer = Healer(do, lambda *what: told.append(what), asked.append, TIMING, now, ask)
        healer._healing.note(now(), {"a": patient("a")})
        task = asyncio.create_task(healer.run())
        await asyncio.sleep(30)
        assert asked and all(asked) and not told
        reachable = False
        await asyncio.sleep(20)
        assert done == [[Remedy("handshake", 0, "a", b"a0")]]
        assert told == [(done[0], ["a"])]
        reachable = True
        await asyncio.sleep(25)
        assert told[-1] == ([], [])
        task.cancel()

    virtualtime.play(run)
