"""What `interop run --keylog` keeps can be read in the clear by Wireshark's own dissector."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from interop import cache
from interop.shell import run

pytestmark = pytest.mark.system

_OURS = f"{sys.executable} -m wgpy"
_ROOT = Path(__file__).resolve().parents[2]
_MARK = "77677079706c61696e74657874"
"""The bytes that the pings of `data-over-v6` repeat."""


@pytest.mark.parametrize("scenario", ["data-over-v6-left", "psk-present-right"])
def test_tshark_decrypts_what_was_kept(scenario: str, tmp_path: Path) -> None:
    cache.need({"tshark": "tshark"})
    suite = [sys.executable, "-m", "interop", "run", scenario, "--against", "wireguard-go-sid"]
    suite += ["--implementation", _OURS, "--keylog", "--keep", str(tmp_path)]
    done = subprocess.run(suite, cwd=_ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (keys,) = tmp_path.rglob("*.keys")
    assert keys.stat().st_mode & 0o777 == 0o600
    inside = _dissect(keys.with_suffix(".pcap"), "-o", f"wg.keylog_file:{keys}")
    assert any("wg:ip:icmp" in line for line in inside)
    if scenario == "data-over-v6-left":
        assert any(":wg:ip:ipv6:icmpv6" in line and _MARK in line for line in inside)
    # Without the keys the dissector sees no inner packet at all.
    assert not any("icmp" in line for line in _dissect(keys.with_suffix(".pcap")))


def _dissect(capture: Path, *options: str) -> list[str]:
    """The protocols of each WireGuard message, and the payload of an echo inside."""
    fields = ["-T", "fields", "-e", "frame.protocols", "-e", "data.data"]
    return run("tshark", *options, "-r", str(capture), "-Y", "wg", *fields).splitlines()
