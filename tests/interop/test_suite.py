"""The suite as a whole: what it imports, and what its scenarios tell about themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from interop.cache import CannotFetch
from interop.counterparts import COUNTERPARTS
from interop.known import KNOWN_FAULTS
from interop.runner import play_all
from interop.scenarios import SCENARIOS

_INTEROP = Path(__file__).resolve().parents[2] / "interop"


def test_the_suite_imports_nothing_of_the_implementation_it_checks() -> None:
    for path in _INTEROP.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] not in ("wgpy", "tun", "agent"), f"{path}: {name}"


def test_every_scenario_has_a_sentence_and_a_picture() -> None:
    for path in (_INTEROP / "scenarios").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and _is_scenario(node):
                text = ast.get_docstring(node) or ""
                sentence, _, rest = text.partition("\n\n")
                assert sentence.endswith("."), f"{node.name}: no sentence first"
                assert rest.strip(), f"{node.name}: no picture of its topology"


def test_known_faults_name_scenarios_and_counterparts_that_exist() -> None:
    for scenario, counterpart in KNOWN_FAULTS:
        assert scenario in SCENARIOS
        assert counterpart in COUNTERPARTS


@pytest.mark.parametrize("counterpart", COUNTERPARTS)
def test_a_counterpart_that_cannot_be_had_is_told_for_each_scenario(
    counterpart: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: str) -> None:
        raise CannotFetch("no way to the mirror")

    monkeypatch.setattr("interop.cache.need", lambda _: None)
    for fetch in ("userspace.debian", "kernel.debian_kernel", "boringtun.venv"):
        monkeypatch.setattr(f"interop.counterparts.{fetch}", gone)
    names = ["handshake-left", "echo-from-a-stack"]
    results = list(play_all(counterpart, names, "true", tmp_path))
    assert [result.scenario for result in results] == names
    told = {(result.outcome, result.detail) for result in results}
    assert told == {("unavailable", "no way to the mirror")}


def _is_scenario(function: ast.FunctionDef) -> bool:
    calls = [d.func for d in function.decorator_list if isinstance(d, ast.Call)]
    return any(isinstance(f, ast.Name) and f.id.endswith("scenario") for f in calls)
