"""The image: what it copies is there, what it copies is enough, and what it starts is in it."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from tests.agent.kustomize import BASES, MANIFESTS, build

_ROOT = Path(__file__).parents[2]
_LINES = (_ROOT / "Containerfile").read_text().replace("\\\n", " ").splitlines()
_PROJECT: dict[str, Any] = tomllib.loads((_ROOT / "pyproject.toml").read_text())


def words(instruction: str) -> list[list[str]]:
    """Of each line with that instruction, in their order."""
    return [shlex.split(line)[1:] for line in _LINES if line.startswith(f"{instruction} ")]


def copied() -> set[str]:
    """From the source tree."""
    return {path for line in words("COPY") if not line[0].startswith("--") for path in line[:-1]}


def test_what_is_copied_is_there_and_not_kept_from_the_builder() -> None:
    assert all((_ROOT / path).exists() for path in copied())
    ignored = (_ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == copied()


def test_what_is_built_is_copied() -> None:
    project, wheel = _PROJECT["project"], _PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    shared = {path.partition("/")[0] for path in wheel["shared-data"]}
    files = {"pyproject.toml", project["readme"], *project["license-files"]}
    assert copied() == {*wheel["packages"], *shared, *files}


def test_what_it_starts_is_a_program_of_ours_and_what_manifests_say_its_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (entry,) = (line.partition(" ")[2] for line in _LINES if line.startswith("ENTRYPOINT "))
    (program,) = json.loads(entry)
    assert program == "/opt/wgpy/bin/wgpy-agent"
    assert Path(program).name in _PROJECT["project"]["scripts"]
    assert main(["--help"]) == 0
    commands = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    for base in BASES:
        started = [
            container["args"][0]
            for one in build(MANIFESTS / base)
            if one["kind"] == "DaemonSet"
            for container in one["spec"]["template"]["spec"]["containers"]
        ]
        assert len(started) == 2
        assert set(started) <= commands
