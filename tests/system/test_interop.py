"""A part of the interoperability suite: against wireguard-go, boringtun and the newest kernel.

`make interop` plays all of it. The counterparts are fetched once, into the suite's cache.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from interop.counterparts import COUNTERPARTS
from interop.counterparts.userspace import DebianDaemon
from interop.runner import play_all

pytestmark = pytest.mark.system

_OURS = f"{sys.executable} -m wgpy"
_ROOT = Path(__file__).resolve().parents[2]
_BOTH = ("left", "right")
_ON_THIS_KERNEL = [
    *(f"handshake-{side}" for side in _BOTH),
    *(f"data-over-v4-{side}" for side in _BOTH),
    *(f"data-over-v6-{side}" for side in _BOTH),
    *(f"psk-mismatch-{side}" for side in _BOTH),
    *(f"restart-and-speak-{side}" for side in _BOTH),
    *(f"roaming-over-v6-{side}" for side in _BOTH),
    *(f"forged-packets-move-nobody-{side}" for side in _BOTH),
    *(f"cookie-under-load-{side}" for side in _BOTH),
    *(f"nat-changes-port-{side}" for side in _BOTH),
    *(f"narrow-path-v6-{side}" for side in _BOTH),
    *(f"full-tunnel-{side}" for side in _BOTH),
    *(f"planes-swapped-under-traffic-{side}" for side in _BOTH),
    "counters-end",
    "routing-loop-left",
    "tcp-bulk",
    "tcp-offloads",
    "every-mtu",
]
_OF_ANOTHER = ["handshake-left", "roaming-over-v6-right", "full-tunnel-left", "counters-end"]
_IN_A_GUEST = [
    "rekey-by-time-left",
    "rekey-by-time-right",
    "handshake-left",
    "handshake-right",
    "data-over-v6-left",
    "psk-present-right",
    "roaming-over-v4-left",
    "cookie-under-load-left",
    "cookie-under-load-right",
    "planes-swapped-under-traffic-right",
    "clock-set-back-left",
]


# Two hubs at once have more daemons than a user may have inotify instances (128).
_CELLS = [
    *product(_ON_THIS_KERNEL, ("wireguard-go-bookworm", "wireguard-go-sid")),
    ("hub-and-fifty-spokes", "wireguard-go-sid"),
]


@pytest.mark.parametrize(("scenario", "counterpart"), _CELLS)
def test_wgpy_and_wireguard_go_understand_each_other(
    scenario: str, counterpart: str, tmp_path: Path
) -> None:
    (result,) = play_all(counterpart, [scenario], _OURS, tmp_path)
    assert result.outcome == "pass", result.detail


def test_the_suite_checks_another_implementation_than_wgpy(tmp_path: Path) -> None:
    theirs = COUNTERPARTS["wireguard-go-sid"]
    assert isinstance(theirs, DebianDaemon)
    results = list(play_all(theirs.name, _OF_ANOTHER, theirs.executable(), tmp_path))
    bad = [result for result in results if result.outcome != "pass"]
    assert not bad and len(results) == len(_OF_ANOTHER), "\n".join(map(str, bad))


def test_boringtun_brings_back_what_wgpy_sends(tmp_path: Path) -> None:
    (result,) = play_all("boringtun", ["echo-from-a-stack"], _OURS, tmp_path)
    assert result.outcome == "pass", result.detail


def test_wgpy_and_the_newest_kernel_understand_each_other() -> None:
    bad = [r for r in play_all("kernel-sid", _IN_A_GUEST, _OURS) if r.outcome != "pass"]
    assert not bad, "\n".join(map(str, bad))


def test_a_suite_that_was_killed_leaves_nothing_after_the_next_one_starts() -> None:
    name = f"io{_free_pid()}-left"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(
            [sys.executable, "-c", "from interop.netns import sweep; sweep()"],
            check=True,
            cwd=_ROOT,
        )
        assert not Path("/run/netns", name).exists()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _free_pid() -> int:
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid
