"""Beside streams that fill the tunnel, lone packets and new peers have their turn.

The bounds say that nobody starves, not how quick it is: `make bench` measures that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from interop.bench import measure
from interop.counterparts.userspace import Userspace
from interop.netns import Lab
from interop.shell import wait_until
from interop.tunnel import End, hub, tunnel
from tests.system.flows import Flow, crashes

pytestmark = [pytest.mark.system, pytest.mark.alone]

_WGPY = Userspace("wgpy", f"{sys.executable} -m wgpy")
_ECHOES = 300
_LATEST = 500.0
"""Milliseconds, for 99 of 100 echoes."""
_MEETINGS = 5
_SECONDS = 60
"""Longer than any test: streams end with their lab."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab
    assert not crashes(tmp_path)


@contextmanager
def _beside(flows: list[Flow]) -> Iterator[None]:
    """Each of them goes on meanwhile."""
    for flow in flows:
        # Beside other streams, connections may need a second try.
        flow.wait_begun(within=30)
    before = [flow.received for flow in flows]
    yield
    assert all(flow.running for flow in flows)
    for flow, received in zip(flows, before, strict=True):
        assert flow.received > received + 1_000_000


@pytest.mark.parametrize("streams", [4, 16])
def test_no_echo_is_lost_or_late_beside_the_streams_of_one_peer(lab: Lab, streams: int) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY)
    with _beside([Flow(a, b, _SECONDS, f"-P {streams}")]):
        echoes = measure.ping(a, b, _ECHOES)
    assert echoes.lost == 0
    assert echoes.p99 < _LATEST


@pytest.mark.parametrize("workers", [1, 2])
def test_echoes_come_back_in_time_beside_the_streams_of_five_peers(lab: Lab, workers: int) -> None:
    busy = Userspace("wgpy", f"{sys.executable} -m wgpy --workers {workers}")
    center, others = hub(lab, busy, _WGPY, 5)
    with _beside([Flow(center, other, _SECONDS, "-P 16") for other in others]):
        echoes = measure.ping(center, others[0], _ECHOES)
    # Eighty streams keep a queue full that is short for so many peers (wgpy.device.tunqueue), but
    # it is none that echoes wait in, except perhaps the first one.
    assert echoes.lost <= _ECHOES / 100
    assert echoes.p99 < _LATEST


@pytest.mark.parametrize("initiator", ["the busy one", "the new one"])
def test_a_new_peer_is_met_within_seconds_beside_the_streams_of_another(
    lab: Lab, initiator: str
) -> None:
    center, (other, new) = hub(lab, _WGPY, _WGPY, 2)
    first, second = (center, new) if initiator == "the busy one" else (new, center)
    with _beside([Flow(center, other, _SECONDS, "-P 16 --bidir")]):
        for _ in range(_MEETINGS):
            _forget_each_other(first, second)
            # A handshake that is lost is tried again after 5 s only.
            first.ping(second, within=5)


def test_a_new_peer_is_met_within_seconds_beside_more_datagrams_than_can_be_sent(lab: Lab) -> None:
    center, (other, new) = hub(lab, _WGPY, _WGPY, 2)
    with _beside([Flow(center, other, _SECONDS, "-u -b 0 -l 1200")]):
        for _ in range(_MEETINGS):
            _forget_each_other(center, new)
            # The answer may find the host's queue full.
            new.reaches(center)
            wait_until("they have a session", lambda: center.handshake_time(new) > 0, 5)


def _forget_each_other(one: End, other: End) -> None:
    for end, peer in ((one, other), (other, one)):
        end.configure(f"peer {peer.keys.public} remove")
        end.add_peer(peer, 4)
