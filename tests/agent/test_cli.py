"""The command `wgpy-agent`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.cli import main
from agent.launcher import listen
from tests.agent.snapshots import snapshot


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """A socket that answers one request with a status."""
    path = tmp_path / "agent.sock"
    listening = listen(path)

    def serve() -> None:
        stream, _ = listening.accept()
        with stream, stream.makefile("rb") as requests:
            requests.readline()
            answer = {"ok": True, "status": snapshot().to_object()}
            stream.sendall(json.dumps(answer).encode() + b"\n")
        listening.close()

    threading.Thread(target=serve, daemon=True).start()
    return path


def test_status_is_for_humans_and_for_programs(
    agent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", f"--control={agent}"]) == 0
    assert capsys.readouterr().out.startswith("node me: wgpy 1.0, userspace data plane\n")


def test_status_as_json_is_the_snapshot(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", f"--control={agent}"]) == 0
    assert json.loads(capsys.readouterr().out)["node"] == "me"


@pytest.mark.parametrize("command", ["status", "rotate"])
def test_without_an_agent_the_error_says_where_it_was_sought(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.sock"
    assert main([command, f"--control={path}"]) == 1
    assert f"no agent listens at {path}" in capsys.readouterr().err


def test_rotate_asks_the_agent(agent: Path) -> None:
    assert main(["rotate", f"--control={agent}"]) == 0


@pytest.mark.parametrize("argv", [[], ["dance"]])
def test_no_command_is_a_usage_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "usage: wgpy-agent COMMAND" in capsys.readouterr().err


def test_the_data_plane_loads_nothing_of_kubernetes() -> None:
    """It is to outlive the agent, in as little memory as it can."""
    code = "import agent.cli, agent.launcher, agent.log, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"kubernetes", "aiohttp", "prometheus_client"} & set(done.stdout.split())
