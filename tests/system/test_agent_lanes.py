"""The agent's lanes on each data plane that this machine can run, with and without the launcher.

Where there is only one, the other's tests say so when they are skipped; test_agent_kernel.py runs
the kernel's in a guest.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.backend import Backend, LaneDesired, LanesDesired
from agent.launcherclient import LauncherClient
from agent.network.base import NetworkError
from agent.network.watch import Watch
from interop.shell import wait_until
from tests.system.tunhost import Namespace
from wgpy import dataplane
from wgpy.dataplane import Plane
from wgpy.protocol.config import (
    AllowedIPChange,
    Endpoint,
    InterfaceChange,
    PeerChange,
    Secret,
)

pytestmark = pytest.mark.system

# UAPI sockets are named after interfaces, in one directory for the whole machine.
LANES = (f"an{os.getpid()}a", f"an{os.getpid()}b")
_PEER = PeerChange(
    b"\x11" * 32,
    preshared_key=Secret(b"\x22" * 32),
    endpoint=Endpoint("192.0.2.2", 51871),
    persistent_keepalive=25,
    allowed_ips=(
        AllowedIPChange(ip_network("10.244.2.0/24")),
        AllowedIPChange(ip_network("fd00:244:0:2::/64")),
    ),
)
_OTHER = PeerChange(b"\x33" * 32, allowed_ips=(AllowedIPChange(ip_network("10.244.4.0/24")),))


def _config(*peers: PeerChange) -> InterfaceChange:
    return InterfaceChange(private_key=Secret(b"\x40" * 32), listen_port=51871, peers=peers)


def _desired(config: InterfaceChange | None) -> LanesDesired:
    return LanesDesired((LaneDesired(LANES[0], config), LaneDesired(LANES[1])))


@pytest.fixture(params=["kernel", "userspace"])
def plane(request: pytest.FixtureRequest) -> Plane:
    chosen: Plane = request.param
    available = dataplane.probe()
    if reason := available.kernel_reason if chosen == "kernel" else available.userspace_reason:
        pytest.skip(f"no {chosen} plane: {reason}")
    return chosen


@pytest.fixture
def host() -> Iterator[Namespace]:
    namespace = Namespace(f"an{os.getpid()}h")
    try:
        yield namespace
        with namespace.inside():
            Backend("auto", LANES).remove()
    finally:
        namespace.remove()


@contextmanager
def _launched(host: Namespace, directory: Path) -> Iterator[LauncherClient]:
    path = directory / "dataplane.sock"
    code = f"from pathlib import Path; from agent.launcher import run; run(Path({str(path)!r}))"
    with host.inside():
        process = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_until("the launcher listens", path.exists, 30)
        yield LauncherClient(path)
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert not path.exists()


@pytest.fixture
def launcher(host: Namespace, tmp_path: Path) -> Iterator[LauncherClient]:
    with _launched(host, tmp_path) as client:
        yield client


def test_lanes_are_made_once_and_configured_once(host: Namespace, plane: Plane) -> None:
    with host.inside():
        backend = Backend(plane, LANES)
        assert len(backend.reconcile(_desired(_config(_PEER)))) == 5
        assert backend.reconcile(_desired(_config(_PEER))) == []
        stats = backend.stats()
    assert sorted(stats) == sorted(LANES)
    (peer,) = stats[LANES[0]].peers
    assert peer.allowed_ips == tuple(a.network for a in _PEER.allowed_ips)
    assert stats[LANES[1]].peers == ()


def test_an_agent_that_starts_anew_adopts_the_lanes_and_changes_only_what_differs(
    host: Namespace, plane: Plane
) -> None:
    with host.inside():
        Backend(plane, LANES).reconcile(_desired(_config(_PEER)))
        indexes = [socket.if_nametoindex(lane) for lane in LANES]
        adopting = Backend(plane, LANES)
        assert adopting.reconcile(_desired(None)) == []
        assert adopting.reconcile(_desired(_config(_PEER))) == []
        assert adopting.reconcile(_desired(_config(_PEER, _OTHER))) == [
            f"{LANES[0]}: peer 33333333 is new"
        ]
        assert adopting.reconcile(_desired(_config(_OTHER))) == [
            f"{LANES[0]}: peer 11111111 is removed"
        ]
        assert [socket.if_nametoindex(lane) for lane in LANES] == indexes


_PEER_DRIFT = (
    PeerChange(_PEER.public_key, remove=True),
    PeerChange(_PEER.public_key, preshared_key=Secret(b"\x55" * 32)),
    PeerChange(_PEER.public_key, endpoint=Endpoint("192.0.2.99", 1)),
    PeerChange(_PEER.public_key, persistent_keepalive=1),
    PeerChange(_PEER.public_key, replace_allowed_ips=True),
    _OTHER,
)


@pytest.mark.parametrize("drift", _PEER_DRIFT)
def test_a_peer_that_was_altered_by_hand_is_repaired(
    host: Namespace, plane: Plane, drift: PeerChange
) -> None:
    with host.inside():
        backend = Backend(plane, LANES)
        backend.reconcile(_desired(_config(_PEER)))
        before = dataplane.get_interface(LANES[0])
        dataplane.set_interface(LANES[0], InterfaceChange(peers=(drift,)))
        assert dataplane.get_interface(LANES[0]) != before
        assert len(backend.reconcile(_desired(_config(_PEER)))) == 1
        assert dataplane.get_interface(LANES[0]) == before


def test_a_lane_that_was_deleted_by_hand_is_made_again(host: Namespace, plane: Plane) -> None:
    with host.inside():
        backend = Backend(plane, LANES)
        backend.reconcile(_desired(_config(_PEER)))
    host.ip("link", "del", LANES[0])
    with host.inside():
        backend.reconcile(_desired(_config(_PEER)))
        assert len(dataplane.get_interface(LANES[0]).peers) == 1
        assert backend.reconcile(_desired(_config(_PEER))) == []


def test_a_lane_of_the_other_plane_is_removed_first(host: Namespace, plane: Plane) -> None:
    other: Plane = "kernel" if plane == "userspace" else "userspace"
    if (available := dataplane.probe()).best != "kernel" or not available.userspace:
        pytest.skip("there is one plane only")
    with host.inside():
        Backend(other, LANES).reconcile(_desired(_config(_PEER)))
        backend = Backend(plane, LANES)
        assert len(backend.reconcile(_desired(_config(_PEER)))) == 7
        assert backend.reconcile(_desired(_config(_PEER))) == []


@pytest.mark.parametrize("words", ["link add {} type bridge", "tuntap add {} mode tun"])
def test_what_is_left_of_another_kind_is_removed_first(
    host: Namespace, plane: Plane, words: str
) -> None:
    host.ip(*words.format(LANES[0]).split())
    with host.inside():
        backend = Backend(plane, LANES)
        changed = backend.reconcile(_desired(_config(_PEER)))
        assert any("is removed" in sentence for sentence in changed)
        assert len(dataplane.get_interface(LANES[0]).peers) == 1


def test_one_lane_that_cannot_be_does_not_stop_the_other(host: Namespace, plane: Plane) -> None:
    lanes = LaneDesired("no:name"), LaneDesired(LANES[0], _config(_PEER))
    with host.inside():
        backend = Backend(plane, LANES)
        with pytest.raises(NetworkError, match="'no:name' is not an interface name") as caught:
            backend.reconcile(LanesDesired(lanes))
        assert len(backend.stats()[LANES[0]].peers) == 1
    assert any(LANES[0] in sentence for sentence in caught.value.changed)


def test_daemons_outlive_the_agent_under_the_launcher(
    host: Namespace, launcher: LauncherClient
) -> None:
    with host.inside():
        Backend("userspace", LANES, launcher).reconcile(_desired(_config(_PEER)))
        daemons = launcher.daemons()
        assert sorted(daemons) == sorted(LANES)
        again = Backend("userspace", LANES, launcher)
        assert again.reconcile(_desired(_config(_PEER))) == []
    assert launcher.daemons() == daemons
    assert not launcher.start(LANES[0])


def test_a_daemon_that_is_killed_takes_its_link_along_and_comes_back_only_when_asked(
    host: Namespace, launcher: LauncherClient
) -> None:
    with host.inside():
        backend = Backend("userspace", LANES, launcher)
        backend.reconcile(_desired(_config(_PEER)))
        with Watch(LANES) as watch:
            os.kill(launcher.daemons()[LANES[0]], signal.SIGKILL)
            wait_until("its link's end", lambda: "lanes" in watch.changes(), 10)
        wait_until("the end", lambda: sorted(launcher.daemons()) == [LANES[1]], 10)
        assert sorted(backend.stats()) == [LANES[1]]
        assert len(backend.reconcile(_desired(_config(_PEER)))) == 4
        assert len(dataplane.get_interface(LANES[0]).peers) == 1


def test_a_daemon_that_hangs_keeps_nobody_and_is_replaced(
    host: Namespace, launcher: LauncherClient
) -> None:
    now = 100.0
    with host.inside():
        backend = Backend("userspace", LANES, launcher, clock=lambda: now)
        backend.reconcile(_desired(_config(_PEER)))
        before = backend.stats()
        hung = launcher.daemons()[LANES[0]]
        os.kill(hung, signal.SIGSTOP)
        began = time.monotonic()
        assert backend.stats() == before
        lanes = (LaneDesired(LANES[0], _config(_OTHER)), LaneDesired(LANES[1], _config()))
        with pytest.raises(NetworkError, match="its daemon does not answer") as caught:
            backend.reconcile(LanesDesired(lanes))
        # Longer than that it asks nobody; this machine may be busy.
        assert time.monotonic() - began < 20
        assert any(LANES[1] in sentence for sentence in caught.value.changed)
        now += 30
        assert list(backend.stats()) == [LANES[1]]
        assert list(backend.problems()) == []
        backend.reconcile(_desired(_config(_PEER)))
        assert launcher.daemons()[LANES[0]] != hung
        assert len(backend.stats()[LANES[0]].peers) == 1


def test_the_launcher_takes_its_daemons_with_it_when_it_is_told_to_end(
    host: Namespace, tmp_path: Path
) -> None:
    with _launched(host, tmp_path) as launcher, host.inside():
        Backend("userspace", LANES, launcher).reconcile(_desired(None))
        assert len(dataplane.list_interfaces()) >= 2
    with host.inside():
        assert Backend("userspace", LANES).stats() == {}
