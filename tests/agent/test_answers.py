"""Daemons that answer, that do not, and that are gone."""

from __future__ import annotations

from errno import EAGAIN, EIO, ENODEV, ETIMEDOUT

import pytest

from agent.answers import Answers
from agent.network.base import NetworkError
from wgpy import dataplane
from wgpy.dataplane import DataPlaneError
from wgpy.protocol.config import InterfaceStats

LANES = ("wgpy0", "wgpy1")


class Rig:
    """Two lanes; `errors` are what asking one comes to instead of an answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, can_end: bool = True) -> None:
        self.now = 100.0
        self.errors: dict[str, int] = {}
        self.port = 1
        self.ended: list[str] = []
        self.refusal: NetworkError | None = None
        monkeypatch.setattr(dataplane, "get_interface", self._get)
        self.answers = Answers(LANES, self._end if can_end else None, lambda: self.now)

    def _get(self, name: str, patience: float) -> InterfaceStats:
        assert patience <= 5
        if number := self.errors.get(name):
            raise DataPlaneError(number, f"{name}: trouble")
        return InterfaceStats(listen_port=self.port)

    def _end(self, name: str) -> None:
        if self.refusal:
            raise self.refusal
        self.ended.append(name)
        self.errors[name] = ENODEV

    def ports(self) -> dict[str, int]:
        return {name: told.listen_port for name, told in self.answers.ask().items()}

    def advice(self) -> list[str]:
        return [problem.advice for problem in self.answers.problems()]


def test_a_daemon_that_is_silent_is_as_it_was_and_the_other_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in (ETIMEDOUT, EAGAIN):
        rig = Rig(monkeypatch)
        rig.ports()
        rig.port, rig.errors = 2, {"wgpy0": number}
        assert rig.ports() == {"wgpy0": 1, "wgpy1": 2}
        (problem,) = rig.answers.problems()
        assert (problem.severity, problem.what) == ("error", "wgpy0: its daemon does not answer")
        with pytest.raises(NetworkError, match="wgpy0: its daemon does not answer"):
            rig.answers.expect("wgpy0")
        rig.answers.expect("wgpy1")
        rig.errors.clear()
        assert rig.ports() == {"wgpy0": 2, "wgpy1": 2}
        assert rig.advice() == [] and rig.ended == []


def test_one_that_stays_silent_is_ended_and_then_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(monkeypatch)
    rig.ports()
    rig.errors = {"wgpy0": ETIMEDOUT}
    rig.ports()
    rig.now += 29.9
    assert "wgpy0" in rig.ports()
    assert rig.ended == []
    rig.now += 0.1
    assert list(rig.ports()) == ["wgpy1"]
    assert rig.ended == ["wgpy0"]
    assert rig.advice() == []
    rig.answers.expect("wgpy0")


def test_silence_counts_from_the_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    rig.ports()
    for _ in range(4):
        rig.errors = {"wgpy0": ETIMEDOUT}
        rig.ports()
        rig.now += 20
        rig.errors = {}
        rig.ports()
    assert rig.ended == []


def test_one_that_nobody_can_end_is_told_on_and_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    rig.refusal = NetworkError("launcher: it was not started here")
    alone = Rig(monkeypatch, can_end=False)
    for one, advice in ((alone, "kill it"), (rig, f"kill it: {rig.refusal.what}")):
        monkeypatch.setattr(dataplane, "get_interface", one._get)
        one.ports()
        one.errors = {"wgpy0": ETIMEDOUT}
        one.ports()
        one.now += 60
        assert one.ports() == {"wgpy0": 1, "wgpy1": 1}
        assert one.advice() == [advice]


def test_what_kept_one_from_being_ended_is_forgotten_with_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(monkeypatch)
    rig.refusal = NetworkError("launcher: it was not started here")
    rig.ports()
    rig.errors = {"wgpy0": ETIMEDOUT}
    rig.ports()
    rig.now += 60
    rig.ports()
    rig.errors.clear()
    rig.ports()
    rig.errors = {"wgpy0": ETIMEDOUT}
    rig.ports()
    assert rig.advice() == ["after 30 seconds another takes its place"]


def test_one_that_has_never_told_anything_stops_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what it has: nothing can be decided."""
    rig = Rig(monkeypatch)
    rig.errors = {"wgpy0": ETIMEDOUT}
    with pytest.raises(NetworkError, match="does not answer"):
        rig.answers.ask()
    rig.now += 30
    assert rig.ports() == {"wgpy1": 1}


def test_one_that_has_ended_is_left_out_and_other_errors_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(monkeypatch)
    rig.ports()
    rig.errors = {"wgpy1": ENODEV}
    assert rig.ports() == {"wgpy0": 1}
    rig.errors = {"wgpy1": EIO}
    with pytest.raises(NetworkError, match="wgpy1: trouble"):
        rig.answers.ask()
