"""The examples run as they stand."""

import subprocess
import sys
from pathlib import Path

import pytest

_EXAMPLES = Path(__file__).parent.parent / "examples"


def _run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, _EXAMPLES / name, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_pure_interface_delivers_a_packet() -> None:
    assert "delivered: True" in _run("interface.py")


@pytest.mark.system
def test_the_device_comes_and_goes() -> None:
    assert "time is over; drops: {}" in _run("device.py", "wtexample", "0.5")
    assert not Path("/sys/class/net/wtexample").exists()
