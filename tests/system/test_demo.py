"""`wgpy demo`, run as anyone would, and interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wgpy.cli import main

pytestmark = pytest.mark.system

_DEMO = [sys.executable, "-m", "wgpy", "demo"]


def _start(**more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _DEMO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **more},
    )


def _left_behind(pid: int, directory: Path) -> list[str]:
    """Namespaces, sockets, processes and files of the demo that was process `pid`."""
    found = [path.name for path in Path("/run/netns").glob(f"wgpy-demo-{pid}-*")]
    found += [path.name for path in Path("/var/run/wireguard").glob(f"demo{pid}*")]
    found += [path.name for path in directory.glob("wgpy-demo-*")]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"demo{pid}" in process.read_text():
                found.append(str(process))
        except OSError:
            pass
    return found


def test_it_shows_a_tunnel_in_plain_text_and_cleans_up(tmp_path: Path) -> None:
    demo = _start(TMPDIR=str(tmp_path))
    started = time.monotonic()
    out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (0, "")
    assert time.monotonic() - started < 30
    # Colours are for terminals.
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100
    tunnel, wire = re.split(r"What the (?:tunnel carries|wire shows).*\n", out)[1:]
    inner, outer = _bytes_of_hexdump(tunnel), _bytes_of_hexdump(wire)
    assert b"What alice tells bob is nobody else's business." in inner
    # An echo request of alice with its length, in a transport message with padding, 32 more.
    assert inner[0] == 0x45 and inner[20] == 8
    assert int.from_bytes(inner[2:4], "big") == len(inner)
    assert outer[:4] == bytes([4, 0, 0, 0])
    assert len(outer) == -(-len(inner) // 16) * 16 + 32
    assert len(re.findall(r"\d\.\d\d Gbit/s", out)) == 2
    assert not _left_behind(demo.pid, tmp_path)


def _bytes_of_hexdump(text: str) -> bytes:
    rows = re.findall(r"^ +[0-9a-f]{4}  ((?:[0-9a-f]{2} )+)", text, re.MULTILINE)
    return bytes.fromhex("".join(rows))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "after",
    ["└", "two network namespaces", "two daemons", "keys exchanged", "more echoes", "from alice"],
)
def test_interrupted_after_any_step_it_leaves_nothing(
    after: str, number: signal.Signals, tmp_path: Path
) -> None:
    demo = _start(TMPDIR=str(tmp_path))
    assert demo.stdout is not None
    for line in demo.stdout:
        if after in line:
            break
    # As a terminal does it: to all of the group, and twice by an impatient hand.
    os.killpg(demo.pid, number)
    os.killpg(demo.pid, number)
    _, err = demo.communicate(timeout=30)
    assert (demo.returncode, err) == (128 + number, "")
    assert not _left_behind(demo.pid, tmp_path)


def test_without_root_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Another user may not be able to read this Python at all.
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == (
        "wgpy: demo: root is needed, to make network namespaces and a TUN interface\n"
    )


def test_without_the_tun_device_it_says_so() -> None:
    script = f"mount -t tmpfs none /dev/net && exec {' '.join(_DEMO)}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "/dev/net/tun is missing" in done.stderr
    assert len(done.stderr.splitlines()) == 1
