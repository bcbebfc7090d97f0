"""The daemon without each of its kernel's features, and with the rest of them."""

from __future__ import annotations

import sys
from itertools import combinations, compress, product
from pathlib import Path

import pytest

from interop.counterparts.userspace import Userspace
from interop.netns import Lab
from interop.tunnel import tunnel
from tests.system.carried import bulk, datagrams
from tests.system.test_daemon import drops

pytestmark = pytest.mark.system

_SWITCHES = (
    "--no-tun-offloads",
    "--no-uso",
    "--no-udp-gso",
    "--no-udp-gro",
    "--no-recvmmsg",
    "--no-sendmmsg",
    "--no-multibuffer",
    "--workers 2",
)
_RUNS = range(8)
# Each switch of each end is set in four of the runs 1 .. 7, no two of them in the same four. So
# any two meet: both set (four and four of seven overlap), either alone, and none in run 0. All
# are set in run 1.
_FOURS = list(combinations(_RUNS[1:], 4))[: 2 * len(_SWITCHES)]


def _set(run: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is set at the left and at the right end."""
    here = [run in four for four in _FOURS]
    left, right = here[: len(_SWITCHES)], here[len(_SWITCHES) :]
    return tuple(compress(_SWITCHES, left)), tuple(compress(_SWITCHES, right))


def test_any_two_switches_of_both_ends_meet_in_all_ways() -> None:
    runs = [[switch in end for end in _set(run) for switch in _SWITCHES] for run in _RUNS]
    for one, other in combinations(zip(*runs, strict=True), 2):
        assert set(zip(one, other, strict=True)) == set(product((True, False), repeat=2))


@pytest.mark.parametrize("run", _RUNS)
def test_tcp_and_datagrams_pass_both_ways_whatever_is_switched_off(
    tmp_path: Path, run: int
) -> None:
    left, right = (
        Userspace("wgpy", " ".join([f"{sys.executable} -m wgpy", *end])) for end in _set(run)
    )
    with Lab(tmp_path) as lab:
        a, b = tunnel(lab, left, right)
        for version, (sender, receiver) in product((4, 6), ((a, b), (b, a))):
            sender.ping(receiver, version)
            bulk(sender, receiver, 4, version)
            datagrams(sender, receiver, version)
        for end in (a, b):
            assert not {"bad-super-packet", "tun-error", "send-error"} & drops(end).keys()
            assert "Traceback" not in (tmp_path / f"{end.interface}.log").read_text()
