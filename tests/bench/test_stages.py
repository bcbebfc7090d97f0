"""The measurement of single stages works: each has a figure, and its ratio to the stored one."""

import json
from pathlib import Path

import pytest

from tests.bench import stages
from tests.bench.stage import Stage, best

pytestmark = pytest.mark.system


def test_each_stage_has_a_figure_and_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = tmp_path / "stored.json"
    stored.write_text(json.dumps({"coalesce": 0.01}))
    monkeypatch.setattr(stages, "_STORED", stored)
    stages.main(["--seconds", "0", str(tmp_path / "new")])
    found = json.loads((tmp_path / "new" / "stages.json").read_text())
    for part in ("split", "seal_batch", "open_batch", "coalesce", "AllowedIPs", "replay window"):
        assert any(name.startswith(part) for name in found)
    for part in ("Tun.read", "Tun.write", "UDP send", "UDP receive", "Diffie-Hellman"):
        assert any(name.startswith(part) for name in found)
    # Less than a second each, for once.
    assert all(0 < took < 1e6 for took in found.values())
    ratios = {line[:44].strip(): line.split()[-1] for line in capsys.readouterr().out.splitlines()}
    assert float(ratios.pop("coalesce")) > 10
    assert {ratios[name] for name in found if name != "coalesce"} == {"-"}
    assert not list(Path("/run/netns").glob("stages*"))


def test_what_a_run_needs_is_made_before_each_and_costs_nothing() -> None:
    made: list[int] = []
    used = 0

    def run() -> None:
        nonlocal used
        used += 1
        assert len(made) == used

    assert best(Stage("some", 1, run, lambda: made.append(sum(range(200_000)))), 0.02) < 1000
    assert used == len(made) > 0
