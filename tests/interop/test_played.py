"""A matrix that goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.played import Played
from interop.results import Result


def _result(scenario: str, outcome: str) -> Result:
    return Result(scenario, "kernel-sid", "7.2.13", outcome, 1.0, "why")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a matrix that was played halfway, and killed while it wrote."""
    path = tmp_path / "matrix.jsonl"
    played = Played(path, "wgpy 0.1")
    played.start()
    for scenario, outcome in (("a", "pass"), ("b", "fail"), ("c", "error"), ("d", "n/a")):
        played.add(_result(scenario, outcome))
    with path.open("a") as out:
        out.write('{"scenario": "e')
    return path


def test_only_what_did_not_pass_is_left(path: Path) -> None:
    played = Played(path, "wgpy 0.1")
    played.resume()
    assert played.left("kernel-sid", list("abcde")) == ["b", "c", "e"]
    assert played.left("boringtun", ["a"]) == ["a"]


def test_the_last_result_counts_and_none_is_forgotten(path: Path) -> None:
    played = Played(path, "wgpy 0.1")
    played.resume()
    played.add(_result("b", "pass"))
    again = Played(path, "wgpy 0.1")
    again.resume()
    assert again.left("kernel-sid", list("abcde")) == ["c", "e"]
    assert [r.outcome for r in again.results if r.scenario == "b"] == ["fail", "pass"]


def test_a_new_start_forgets(path: Path) -> None:
    played = Played(path, "wgpy 0.1")
    played.start()
    played.resume()
    assert played.results == []


def test_nothing_is_gone_on_with_that_is_not_there_or_of_something_else(path: Path) -> None:
    with pytest.raises(SystemExit, match="another implementation"):
        Played(path, "wgpy 0.2").resume()
    path.write_text("")
    with pytest.raises(SystemExit, match="nothing to resume"):
        Played(path, "wgpy 0.1").resume()
