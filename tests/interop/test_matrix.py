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
    assert "- handshake-left, boringtun: no wheel \\| here" in lines
    assert "- tcp-bulk, kernel-sid: the bytes differ" in lines
