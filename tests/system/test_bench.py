"""The benchmark, from its command to its files; and that the null cipher encrypts nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from interop.bench.limits import limits
from interop.bench.result import Result
from interop.netns import Lab
from interop.tunnel import tunnel
from interop.wire import DATA, capture
from tests.system.flows import Flow, crashes

pytestmark = pytest.mark.system

_ROOT = Path(__file__).resolve().parents[2]
_WGPY = f"{sys.executable} -m wgpy"
_DATAGRAM = 1420 + 32
_GO = "wireguard-go-sid"


def test_one_line_is_measured_with_every_pair(tmp_path: Path) -> None:
    readme = (_ROOT / "README.md").read_text()
    words = f"--rounds 1 --only ping --against {_GO} --output {tmp_path}"
    argv = [sys.executable, "-m", "interop.bench", *words.split()]
    done = subprocess.run(argv, cwd=_ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    result = Result.read(tmp_path / "results.json")
    assert (result.errors, result.baseline) == ([], _GO)
    measured = {"wgpy", _GO, "wgpy to go", "go to wgpy", "null cipher", "no tunnel"}
    for key in ("ping", "ping-99"):
        assert set(result.values[key]) == measured
        values = {name: result.median(key, name) or 0.0 for name in measured}
        assert 0 < values["no tunnel"] == min(values.values())
    assert "| ping alone, p50 | ms |" in (tmp_path / "results.md").read_text()
    assert "ping alone, p50" in (tmp_path / "results.svg").read_text()
    # It is of whole runs.
    assert (_ROOT / "README.md").read_text() == readme


def test_without_a_cipher_lone_packets_and_batches_are_on_the_wire_as_they_are(
    tmp_path: Path,
) -> None:
    null = dict(limits(_WGPY))["null cipher"]
    with Lab(tmp_path) as lab:
        a, b = tunnel(lab, null, null)
        with capture(a.namespace, lab.directory) as wire:
            a.ping(b)
            # Slow enough for the capture, and still super-packets.
            Flow(a, b, 1, "-b 50M").result()
        carried = [m.payload for m in wire.messages(DATA) if len(m.payload) > 32]
    # The kernel cuts a batch behind this wire only.
    assert max(map(len, carried)) > 3 * _DATAGRAM
    assert {byte >> 4 for message in carried for byte in message[16::_DATAGRAM]} == {4}
    assert not crashes(tmp_path)
