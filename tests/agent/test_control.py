"""The running agent's socket."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest

from agent.control import Control, ControlError, ask
from agent.launcher import listen


class Rig:
    def __init__(self, path: Path) -> None:
        self.path, self.rotations = path, 0
        self.status: dict[str, Any] | None = None

    async def told(self) -> dict[str, Any] | None:
        return self.status

    def rotate(self) -> None:
        self.rotations += 1

    def ask(self, *requests: str) -> list[Any]:
        """Each answer, or the error's text."""

        async def run() -> list[Any]:
            control = Control(self.told, self.rotate)
            serving = asyncio.create_task(control.serve(listen(self.path)))
            try:
                return [await asyncio.to_thread(self._ask, one) for one in requests]
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

        return asyncio.run(run())

    def _ask(self, what: str) -> Any:
        try:
            return ask(self.path, what)
        except ControlError as error:
            return str(error)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "run" / "agent.sock")


def test_status_is_what_the_agent_has_told_last(rig: Rig) -> None:
    rig.status = {"node": "me"}
    assert rig.ask("status") == [{"ok": True, "status": {"node": "me"}}]


def test_an_agent_without_a_status_says_so(rig: Rig) -> None:
    assert rig.ask("status") == ["the agent has only just started, try again"]


def test_rotate_reaches_the_agent(rig: Rig) -> None:
    assert rig.ask("rotate", "rotate") == [{"ok": True}, {"ok": True}]
    assert rig.rotations == 2


def test_what_is_not_known_is_refused_and_harms_nobody(rig: Rig) -> None:
    rig.status = {}
    assert rig.ask("dance", "x" * 10_000, "status") == [
        "request 'dance' is not known",
        f"{rig.path}: the agent hung up; see its log",
        {"ok": True, "status": {}},
    ]


def test_the_socket_is_for_root_alone(rig: Rig) -> None:
    listening = listen(rig.path)
    assert stat.S_IMODE(rig.path.stat().st_mode) == 0o600
    listening.close()


def test_no_agent_is_told_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="see whether the agent's pod runs"):
        ask(tmp_path / "agent.sock", "status")
