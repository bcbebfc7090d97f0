"""The demo as it is looked at."""

from __future__ import annotations

import io
from itertools import permutations
from pathlib import Path

import pytest
from rich.console import Console

from agent.demo.screen import NODE_WIDTH, screen
from agent.demo.show import Live, Plain, write_svg
from agent.demo.state import Count, Lane, Machine, State, Step


def played() -> State:
    """Node 3 is switched off."""
    state = State()
    for number in (1, 2, 3):
        lanes = (Lane("AbCd1+", 3, True), Lane("xYz/12", 12))
        up = Machine(f"node-{number}", f"198.18.0.1{number}", "up", "userspace", lanes)
        up.pod, up.peers, up.stage = f"10.244.{number}.2", (2, 2), "steady"
        state.machines[number] = up
    state.machines[2].silent = ("node-3",)
    state.machines[3] = Machine("node-3", "198.18.0.13")
    state.flows = {
        pair: Count(100, 98, 2, excused=3 in pair) for pair in permutations((1, 2, 3), 2)
    }
    state.frames = {"data": 1234, "handshake": 12, "clear": 11}
    state.control, state.cipher, state.clear = 10, b"\x04\0\0\0" + bytes(60), b"read me\0\0\x01"
    state.steps = [Step(f"step {n}", "seen", 1.5, ["a detail"]) for n in range(9)]
    state.steps.append(Step("the last", "running", details=["its detail"]))
    return state


def drawn(state: State, width: int, rows: int | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, record=True)
    console.print(screen(state, rows))
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_it_fits_and_nothing_is_cut(width: int) -> None:
    lines = drawn(played(), width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    for part in (
        "198.18.0.11  userspace",
        "key ▸AbCd1+… epoch 3",
        "key  xYz/12… epoch 12",
        "peers 2 of 2",
        "pod 10.244.1.2",
        "silent: node-3",
        "node-3 ○ off",
        "1234   encrypted",
        "04 00 00 00",
        "10     in the clear, on purpose read me",
        "1      leaked",
        "2 flows between pods: 200 packets sent, 196 arrived, 4 lost",
        "✓ step 0  1.5 s",
        "… the last",
    ):
        assert part in text


def test_on_a_small_terminal_the_newest_steps_are_seen() -> None:
    lines = drawn(played(), 80, rows=23)
    assert len(lines) <= 23
    assert "step 0" not in "\n".join(lines)
    assert lines[-2:] == ["  … the last", "      its detail"]


def test_as_text_it_tells_steps_and_at_the_end_what_came_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = played()
    with Plain(state) as plain:
        plain.tell(state.steps[-1])
        plain.tell(state.steps[0])
        assert capsys.readouterr().out.splitlines() == [
            "... the last",
            "ok  step 0 (1.5 s)",
            "      a detail",
        ]
        state.verdict = "all was seen"
        plain.end()
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "peers 2 of 2" in told and "step 0" not in told
    assert told.endswith("  all was seen\n")


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb"), ("TERM", "")])
def test_no_live_screen_where_none_is_wanted(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(3 * NODE_WIDTH))
    assert Live.fits(3)
    assert not Live.fits(4)
    monkeypatch.setenv(name, value)
    assert not Live.fits(3)


def test_the_picture_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "demo.svg"
    write_svg(played(), path)
    text = path.read_text()
    assert text.startswith("<svg")
    assert "url(http" not in text and "@import" not in text
    assert "198.18.0.11" in text
