"""`wgpy capture`: Wireshark's own dissector reads what it wrote, without any settings."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop import cache
from interop.counterparts.userspace import Userspace
from interop.keys import new_key_pair
from interop.netns import Lab
from interop.shell import run, wait_until
from interop.tunnel import End, ends, tunnel

# Sessions are renewed and captured against a clock: not beside other tests.
pytestmark = [pytest.mark.system, pytest.mark.alone]

_WGPY = Userspace("wgpy", f"{sys.executable} -m wgpy")
_CAPTURE = (sys.executable, "-m", "wgpy", "capture")
_PATIENCE = 60.0


@contextlib.contextmanager
def _capture(end: End, path: Path, *options: str) -> Iterator[None]:
    """While the block runs."""
    log = path.with_suffix(".log")
    words = [*_CAPTURE, *options, "--write", str(path), end.interface]
    with log.open("wb") as out:
        child = end.namespace.start(*words, output=out)
        wait_until("it captures", lambda: path.exists() and path.stat().st_size, _PATIENCE)
        yield
        child.send_signal(signal.SIGINT)
        assert child.wait(_PATIENCE) == 0, log.read_text()


def _dissect(path: Path, only: str) -> list[str]:
    """Protocols and lengths of the packets, of those that a filter lets through."""
    fields = ["-T", "fields", "-e", "frame.protocols", "-e", "data.len"]
    return run("tshark", "-r", str(path), "-Y", only, *fields).splitlines()


@pytest.mark.parametrize("psk", [False, True], ids=["", "psk"])
@pytest.mark.parametrize("at", [0, 1], ids=["initiator", "responder"])
def test_tshark_decrypts_what_has_its_keys(at: int, psk: bool, tmp_path: Path) -> None:
    cache.need({"tshark": "tshark"})
    path = tmp_path / "keys.pcapng"
    with Lab(tmp_path) as lab:
        pair = a, b = ends(lab, _WGPY, _WGPY)
        secret = new_key_pair().private if psk else None
        b.add_peer(a, psk=secret)
        a.add_peer(b, 4, psk=secret)
        with _capture(pair[at], path, "--outer", "--keys"):
            for size in (77, 1300):
                a.ping(b, more=f"-s {size}")
                b.ping(a, 6, more=f"-s {size}")
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(_dissect(path, "wg.type == 1")) >= 1
    inside = _dissect(path, "wg && (icmp || icmpv6)")
    assert len(inside) >= 8 and all(":wg:ip:" in line for line in inside), inside
    assert any(line.endswith("\t1292") for line in inside), inside


def test_a_session_that_is_there_begins_anew_so_that_it_can_be_read(tmp_path: Path) -> None:
    cache.need({"tshark": "tshark"})
    with Lab(tmp_path) as lab:
        a, b = tunnel(lab, _WGPY, _WGPY)
        a.ping(b)
        before = a.handshake_time(b)
        path = tmp_path / "later.pcapng"
        with _capture(a, path, "--outer", "--keys"):
            wait_until("a new session", lambda: a.handshake_time(b) > before, _PATIENCE)
            a.ping(b)
        plain = tmp_path / "plain.pcapng"
        with _capture(a, plain, "--outer"):
            a.ping(b)
        # Nobody is told keys any more, and the daemon says that somebody was.
        log = (tmp_path / f"{a.interface}.log").read_text()
    assert len(_dissect(path, "wg && icmp")) >= 2
    assert len(_dissect(plain, "wg.type == 4")) >= 2 and not _dissect(plain, "icmp")
    assert "ALL KEYS" in log and "no longer told" in log


def test_inner_packets_need_no_keys(tmp_path: Path) -> None:
    cache.need({"tshark": "tshark"})
    path = tmp_path / "inner.pcapng"
    with Lab(tmp_path) as lab:
        a, b = tunnel(lab, _WGPY, _WGPY)
        with _capture(a, path):
            a.ping(b)
            a.ping(b, 6)
    assert len(_dissect(path, "icmp || icmpv6")) >= 4 and not _dissect(path, "wg")


def test_messages_that_the_kernel_sends_as_one_are_read_one_by_one(tmp_path: Path) -> None:
    cache.need({"tshark": "tshark"})
    path = tmp_path / "bulk.pcapng"
    with Lab(tmp_path) as lab:
        a, b = tunnel(lab, _WGPY, _WGPY)
        with (tmp_path / "iperf.log").open("wb") as out, _capture(a, path, "--outer", "--keys"):
            server = b.namespace.start("iperf3", "-s", "-1", output=out)
            words = f"iperf3 -c {b.inner()} -n 2M"
            wait_until("iperf3 is through", lambda: _succeeds(a, words), _PATIENCE, every=0.5)
            server.wait(_PATIENCE)
    data = _dissect(path, "wg.type == 4")
    inside = _dissect(path, "wg && (tcp || icmp)")
    # iperf3 ends when all is in its socket's buffer, so not all of it need have left.
    assert len(inside) > 50
    assert path.with_suffix(".log").read_text() == f"{len(_dissect(path, 'frame'))} packets\n"
    # Keepalives have nothing inside.
    assert len(data) - len(inside) <= 5


def _succeeds(end: End, words: str) -> bool:
    enter = ["ip", "netns", "exec", end.namespace.name]
    return (
        subprocess.run([*enter, *words.split()], capture_output=True, check=False).returncode == 0
    )


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    shared = tmp_path / "shared.pcapng"
    shared.touch(mode=0o644)
    with Lab(tmp_path) as lab:
        a, _ = tunnel(lab, _WGPY, _WGPY)
        for words, message in (
            (["wgnowhere"], "wgnowhere: no such WireGuard interface"),
            (["--keys", a.interface], "--keys: packets inside the tunnel need none"),
            (["--outer", "--keys", "--write", str(shared), a.interface], "others can open it"),
            (["--outer", "--count", "0", a.interface], "is not a whole number from 1"),
        ):
            done = subprocess.run([*_CAPTURE, *words], capture_output=True, text=True, check=False)
            assert done.returncode == 1 and message in done.stderr, done.stderr
            assert len(done.stderr.splitlines()) == 1
