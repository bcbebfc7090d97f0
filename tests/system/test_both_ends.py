"""The interoperability scenarios with our daemon at both ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from interop.counterparts.userspace import Userspace
from interop.netns import Lab
from interop.scenarios import SCENARIOS
from tests.system.flows import crashes

pytestmark = pytest.mark.system

# Each once: with ours at both ends, the other side is the same play. Not those against a stack
# of its own, nor those that need a kernel; nine minutes of silence are for `make interop` alone.
_SCENARIOS = [
    pytest.param(name, marks=[pytest.mark.slow] if scenario.slow else [])
    for name, scenario in SCENARIOS.items()
    if not name.endswith(("-right", "-a-stack")) and not scenario.kernel
    if name != "keys-erased"
]


@pytest.mark.parametrize("name", _SCENARIOS)
def test_two_of_ours_play(name: str, tmp_path: Path) -> None:
    ours = Userspace("wgpy", f"{sys.executable} -m wgpy")
    with Lab(tmp_path) as lab:
        SCENARIOS[name].play(lab, ours, ours)
    assert not crashes(tmp_path)
