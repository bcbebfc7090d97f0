"""`wgpy-agent demo`: what is said before anything is played."""

from __future__ import annotations

import sys

import pytest

from agent.cli import main


@pytest.mark.parametrize("count", ["2", "7", "-1", "three"])
def test_too_few_or_too_many_nodes_are_refused(
    count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["demo", f"--nodes={count}"])
    assert "is no number from 3 to 6" in capsys.readouterr().err


def test_without_its_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("agent.demo", "rich"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["demo"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("wgpy-agent: demo: ") and line.endswith("pip install 'wgpy[demo]'")


def test_without_root_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == (
        "wgpy-agent: demo: root is needed, to make network namespaces and TUN interfaces\n"
    )
