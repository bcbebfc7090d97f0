"""The order of a node's resources, and what waits for what."""

from __future__ import annotations

from math import inf

from agent.keepers import Keepers
from agent.machine import NEEDS
from agent.network.base import NetworkError

ORDER = (
    *("guard", "firewall", "forwarding", "lanes", "bridge"),
    *("sysctls", "links", "routes", "neighbours", "cni"),
)


class Thing:
    """Notes its turns; out of order while `trouble` says so."""

    def __init__(self, name: str, turns: list[str]) -> None:
        self.name = name
        self.trouble = ""
        self._turns = turns

    def reconcile(self, desired: int) -> list[str]:
        self._turns.append(self.name)
        if self.trouble:
            raise NetworkError(self.trouble, "mend it")
        return []

    def remove(self) -> None:
        """Nothing to remove."""


class Rig:
    def __init__(self) -> None:
        self.now = 100.0
        self.turns: list[str] = []
        self.things = {name: Thing(name, self.turns) for name in ORDER}
        self.keepers = Keepers(self.things.values(), NEEDS, lambda: self.now)

    def want(self, value: int = 1) -> None:
        for name in ORDER:
            self.keepers[name].want(value)

    def turn(self) -> list[str]:
        self.turns.clear()
        self.keepers.turn()
        return list(self.turns)


def test_what_keeps_packets_from_leaking_is_first_and_the_runtime_hears_last() -> None:
    rig = Rig()
    rig.want()
    assert rig.turn() == list(ORDER)
    assert rig.keepers.unsettled == []
    assert rig.keepers.due_at == inf
    assert rig.turn() == []


def test_without_leak_guard_or_firewall_there_is_no_lane_and_no_pod_network() -> None:
    for name in ("guard", "firewall"):
        rig = Rig()
        rig.things[name].trouble = "not permitted"
        rig.want()
        others = {"guard", "firewall", "forwarding", "sysctls", "neighbours"}
        assert set(rig.turn()) == others
        assert rig.keepers.unsettled == [name, "lanes", "bridge", "links", "routes", "cni"]


def test_routes_do_not_change_until_their_lanes_have() -> None:
    rig = Rig()
    rig.want()
    rig.turn()
    rig.things["lanes"].trouble = "the daemon does not start"
    rig.want(2)
    turns = rig.turn()
    assert "lanes" in turns
    assert not {"links", "routes", "cni"} & set(turns)
    rig.things["lanes"].trouble = ""
    rig.now += 0.5
    assert rig.turn() == ["lanes", "links", "routes", "cni"]


def test_what_waits_for_another_is_due_when_the_other_is() -> None:
    rig = Rig()
    rig.things["lanes"].trouble = "the daemon does not start"
    rig.want()
    rig.turn()
    assert rig.keepers.due_at == 100.5
    rig.now = 100.4
    assert rig.turn() == []


def test_only_what_was_named_is_looked_at_and_strangers_are_nobody() -> None:
    rig = Rig()
    rig.want()
    rig.turn()
    rig.keepers.look(["routes", "stranger"])
    assert rig.turn() == ["routes"]
    rig.keepers.look()
    assert rig.turn() == list(ORDER)


def test_what_is_not_in_order_is_told_with_its_advice() -> None:
    rig = Rig()
    rig.things["links"].trouble = "there is no interface wgpy0"
    rig.want()
    rig.turn()
    (problem,) = rig.keepers.problems()
    assert problem.severity == "error"
    assert problem.what == "links: there is no interface wgpy0"
    assert problem.advice == "mend it"
    rig.things["links"].trouble = ""
    rig.now += 1
    rig.turn()
    assert list(rig.keepers.problems()) == []
