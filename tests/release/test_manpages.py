"""The manual pages are what the commands say now, and such as man and mandoc take."""

from __future__ import annotations

import subprocess

import pytest

from interop import cache
from scripts.manpages import pages
from wgpy.tools.commands import COMMANDS


def test_they_are_up_to_date() -> None:
    for path, text in pages().items():
        assert path.read_text() == text, f"{path.name}: run python -m scripts.manpages"


def test_every_command_and_option_has_its_place() -> None:
    wgpy, agent = pages().values()
    for name in COMMANDS:
        assert f"\n.Ss {name}\n" in wgpy
    assert all(f"\\-\\-{option}" in wgpy for option in ("foreground", "workers", "keylog"))
    assert all(
        f"\n.It {command}\n" in agent for command in ("run", "status", "doctor", "uninstall")
    )
    assert "\\-\\-rotate\\-every TIME" in agent


@pytest.mark.system
@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_man_and_mandoc_have_nothing_to_say(path: object) -> None:
    cache.need({"mandoc": "mandoc", "man": "man-db"})
    lint = ["mandoc", "-Tlint", "-Wwarning", str(path)]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    show = ["man", "--warnings", "-l", str(path)]
    done = subprocess.run(show, capture_output=True, text=True, check=True)
    assert done.stderr == "" and "DESCRIPTION" in done.stdout
