"""`make demo`'s cluster, run as anyone would, interrupted, and with what it must notice."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Alone, as each looks at what of the host is there before and after it.
pytestmark = [pytest.mark.system, pytest.mark.alone]

_DEMO = (sys.executable, "-P", "-m", "agent", "demo")
_ROOT = Path(__file__).parents[2]
# Seconds: of a run, which takes about one minute, on a machine with other things to do.
_PATIENCE = 600
_HOST = ("/etc/cni", "/etc/cni/net.d", "/run/wgpy", "/run/wireguard", "/var/lib/cni")


@pytest.fixture(autouse=True)
def started(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Demos of the test. No namespace, process, file or directory of theirs is left at the end."""
    before = _namespaces(), [path for path in _HOST if Path(path).exists()]
    demos: list[subprocess.Popen[str]] = []
    yield demos
    for demo in demos:
        if demo.poll() is None:
            demo.terminate()
            demo.communicate(timeout=_PATIENCE)
    assert (_namespaces(), [path for path in _HOST if Path(path).exists()]) == before
    assert not list(tmp_path.glob("wgpy-demo-*"))
    # All that a demo starts has its environment.
    assert not _processes(f"TMPDIR={tmp_path}")


def _namespaces() -> set[str]:
    return {path.name for path in Path("/run/netns").glob("wgpy-demo-*-node*")}


def _processes(marked: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if marked.encode() in path.read_bytes().split(b"\0"):
                found.append((path.parent / "cmdline").read_text().replace("\0", " "))
    return found


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(started: list[subprocess.Popen[str]], tmp_path: Path) -> Start:
    def start(*options: str, **more: str) -> subprocess.Popen[str]:
        demo = subprocess.Popen(
            [*_DEMO, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=_ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path), **more},
        )
        started.append(demo)
        return demo

    return start


def _read_until(demo: subprocess.Popen[str], text: str) -> None:
    assert demo.stdout is not None
    for line in demo.stdout:
        if text in line:
            return
    pytest.fail(f"it ended without {text!r}")


def test_it_plays_its_whole_story_in_plain_text(start: Start, tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    demo = start("--svg", str(picture), COLUMNS="100")
    out, err = demo.communicate(timeout=_PATIENCE)
    assert (demo.returncode, err) == (0, ""), out + err
    # Colours are for terminals.
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100
    steps = re.findall(r"^(ok |NOT) (.*) \(\d+\.\d s\)$", out, re.MULTILINE)
    assert len(steps) == 9 and {verdict for verdict, _ in steps} == {"ok "}
    rotated = re.search(r"(\d+) keys replaced, (\d+) packets sent, 0 lost", out)
    assert rotated and int(rotated[1]) == 6 and int(rotated[2]) > 600
    assert re.search(r"[1-9]\d* +encrypted +04 00 00 00", out)
    assert re.search(r" 20 +in the clear, on purpose +wgpy-in-the-clear", out)
    assert re.search(r" 0 +leaked", out)
    assert re.search(r"6 flows between pods: \d+ packets sent, \d+ arrived, 0 lost", out)
    assert out.count("● up") == 3 and out.count("peers 2 of 2") == 3
    assert picture.read_text().startswith("<svg")


def test_on_a_terminal_it_is_live_and_gives_the_cursor_back_when_interrupted(
    tmp_path: Path,
) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environ = {**os.environ, "TMPDIR": str(tmp_path), "TERM": "xterm-256color"}
    environ.pop("NO_COLOR", None)
    demo = subprocess.Popen(
        _DEMO, stdout=theirs, stderr=theirs, start_new_session=True, cwd=_ROOT, env=environ
    )
    os.close(theirs)
    text, deadline = "", time.monotonic() + _PATIENCE
    with contextlib.suppress(OSError):  # how the end of a terminal reads
        while data := os.read(ours, 65536):
            text += data.decode(errors="replace")
            if "an agent on each node" in text and demo.poll() is None:
                # As a terminal does it: to all of the group, and twice by an impatient hand.
                os.killpg(demo.pid, signal.SIGINT)
                os.killpg(demo.pid, signal.SIGINT)
            assert time.monotonic() < deadline
    os.close(ours)
    assert demo.wait(_PATIENCE) == 128 + signal.SIGINT
    assert "● up" in text or "◌ starting" in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") > -1
    assert "Traceback" not in text


def test_ended_while_pods_talk_it_leaves_nothing(start: Start) -> None:
    demo = start()
    _read_until(demo, "every pod talks")
    demo.terminate()
    _, err = demo.communicate(timeout=_PATIENCE)
    assert (demo.returncode, err) == (128 + signal.SIGTERM, "")


def test_one_frame_in_the_clear_is_a_failure(start: Start) -> None:
    demo = start()
    _read_until(demo, "an agent on each node")
    said = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
    said += "s.sendto(b'wgpy-in-the-clear', ('198.18.0.12', 9))"
    inside = ["ip", "netns", "exec", f"wgpy-demo-{demo.pid}-node1"]
    subprocess.run([*inside, sys.executable, "-c", said], check=True, timeout=60)
    _, err = demo.communicate(timeout=_PATIENCE)
    assert demo.returncode == 1
    assert "frames told of pods in the clear" in err


def test_one_packet_that_is_lost_is_a_failure(start: Start) -> None:
    demo = start()
    _read_until(demo, "ok  every pod talks")
    rules = "table ip t { chain c { type filter hook input priority 0; limit rate 1/hour drop; }; }"
    inside = ["ip", "netns", "exec", f"wgpy-demo-{demo.pid}-pod1"]
    subprocess.run([*inside, "nft", rules], check=True, timeout=60)
    _, err = demo.communicate(timeout=_PATIENCE)
    assert demo.returncode == 1
    assert re.search(r"\d+ of \d+ packets between pods were lost", err)


def test_without_plugins_it_says_what_to_install(tmp_path: Path) -> None:
    hidden = " && ".join(
        f"mount -t tmpfs none {d}" for d in ("/usr/lib/cni", "/opt") if Path(d).is_dir()
    )
    script = f"{hidden} && cd {_ROOT} && exec {' '.join(_DEMO)}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "apt-get install containernetworking-plugins" in done.stderr
    assert len(done.stderr.splitlines()) == 1
