"""`wgpy top` over a tunnel of two daemons, as text and on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.counterparts.userspace import Userspace
from interop.netns import Lab
from interop.shell import wait_until
from interop.tunnel import End, tunnel

pytestmark = pytest.mark.system

_WGPY = Userspace("wgpy", f"{sys.executable} -m wgpy")
_TOP = (sys.executable, "-m", "wgpy", "top")
_PATIENCE = 60.0
# None of its allowed IPs, so the packets have nowhere to go.
_NOWHERE = "10.90.0.77"


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[End, End]]:
    with Lab(tmp_path) as lab:
        yield tunnel(lab, _WGPY, _WGPY)


@contextlib.contextmanager
def _pings(end: End, address: str) -> Iterator[None]:
    with open(os.devnull, "wb") as nowhere:
        child = end.namespace.start(*f"ping -n -i 0.05 {address}".split(), output=nowhere)
        yield
        child.kill()
        child.wait()


def test_as_text_it_tells_rates_ages_and_drops(ends: tuple[End, End]) -> None:
    a, b = ends
    a.ping(b)
    with _pings(a, b.inner()), _pings(a, _NOWHERE):
        text = a.namespace.run(*_TOP, "--interval", "2", a.interface)
    head, drops, _, peer = text.splitlines()
    assert re.fullmatch(rf"{a.interface}, port 51820: \S+ k?bit/s received, .* sent", head)
    assert re.search(r"no-route \d+ \(\+\d+/s\)", drops)
    assert re.fullmatch(
        rf"{re.escape(b.keys.public)} +[\d.]+ k?bit/s +[\d.]+ k?bit/s +(\d+m )?\d+s +"
        r"10\.80\.0\.2:51820",
        peer,
    )
    assert "\x1b" not in text
    # Twenty echoes of 84 bytes a second are 17 kbit/s of messages, and at least a few arrived.
    assert " 0 bit/s" not in peer


def test_an_interface_that_is_not_there_is_an_error() -> None:
    done = subprocess.run([*_TOP, "wgnowhere"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("wgpy: wgnowhere: no such WireGuard interface")


@pytest.mark.parametrize(
    ("ending", "status"),
    [(b"q", 0), (b"\x03", 130), (signal.SIGTERM, 143)],
    ids=["q", "^C", "TERM"],
)
def test_on_a_terminal_it_goes_on_until_told_and_leaves_the_terminal_as_it_was(
    ends: tuple[End, End], ending: bytes | signal.Signals, status: int
) -> None:
    a, b = ends
    a.ping(b)
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    before = termios.tcgetattr(follower)
    shown = bytearray()
    child = subprocess.Popen(
        [*_TOP, "--interval", "0.2", a.interface],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        # The terminal controls it, so that ^C is a signal.
        preexec_fn=lambda: _control(follower),
    )
    try:
        wait_until("three pictures", lambda: _read(leader, shown).count(b"\x1b[H") >= 3, _PATIENCE)
        assert shown.startswith(b"\x1b[?1049h")
        assert a.interface.encode() in shown and b"q to quit" in shown
        if isinstance(ending, bytes):
            os.write(leader, ending)
        else:
            child.send_signal(ending)
        deadline = time.monotonic() + _PATIENCE
        while child.poll() is None and time.monotonic() < deadline:
            _read(leader, shown)
        assert child.returncode == status
        assert b"\x1b[?25h\x1b[?1049l" in _read(leader, shown)
        assert termios.tcgetattr(follower) == before
    finally:
        child.kill()
        child.wait()
        os.close(leader)
        os.close(follower)


def _control(follower: int) -> None:
    fcntl.ioctl(follower, termios.TIOCSCTTY, 0)


def _read(leader: int, shown: bytearray) -> bytearray:
    """What has come until now."""
    while select.select([leader], [], [], 0.05)[0]:
        shown += os.read(leader, 65536)
    return shown
