"""The matrix that the suite writes."""

from __future__ import annotations

from pathlib import Path

from interop.matrix import write
from interop.results import Result


def test_a_result_survives_its_line_of_json() -> None:
    result = Result("handshake-left", "kernel-sid", "7.2", "fail", 1.5, 'a "quoted"\nreason')
    assert result.line().count("\n") == 1
    assert Result.parse(result.line()) == result


def test_the_matrix_tells_version_result_and_duration_of_each_cell(tmp_path: Path) -> None:
    results = [
        Result("handshake-left", "kernel-sid", "7.2.13", "pass", 1.5),
        Result("handshake-left", "boringtun", "-", "unavailable", 0, "no wheel | here"),
        Result("tcp-bulk", "kernel-sid", "7.2.13", "fail", 2.0, "the bytes\ndiffer"),
    ]
    write(tmp_path / "matrix.md", "wgpy", "0.1", results)
    lines = (tmp_path / "matrix.md").read_text().splitlines()
    assert "| kernel-sid | 7.2.13 |" in lines
    assert "| handshake-left | pass 1.5 s | not had |" in lines
    assert "| tcp-bulk | **FAIL** 2.0 s | not run |" in lines
    assert "- handshake-left, boringtun: not had: no wheel \\| here" in lines
    assert "- tcp-bulk, kernel-sid: **FAIL**: the bytes differ" in lines
    assert not any("again" in line for line in lines if line.startswith("#"))


def test_a_counterpart_that_cannot_be_had_is_told_of_once(tmp_path: Path) -> None:
    gone = [Result(n, "boringtun", "-", "unavailable", 0, "no") for n in ("ecn-left", "tcp-bulk")]
    write(tmp_path / "matrix.md", "wgpy", "0.1", gone)
    text = (tmp_path / "matrix.md").read_text()
    assert "- ecn-left, tcp-bulk, boringtun: not had: no\n" in text


def test_of_a_cell_that_was_played_again_both_are_told(tmp_path: Path) -> None:
    results = [
        Result("tcp-bulk", "kernel-sid", "7.2.13", "fail", 2.0, "slow"),
        Result("tcp-bulk", "kernel-sid", "7.2.13", "pass", 3.0),
    ]
    write(tmp_path / "matrix.md", "wgpy", "0.1", results)
    lines = (tmp_path / "matrix.md").read_text().splitlines()
    assert "| tcp-bulk | pass 3.0 s |" in lines
    again = lines.index("## Played again, and what came of it before")
    assert lines[again + 2] == "- tcp-bulk, kernel-sid: **FAIL**: slow"
