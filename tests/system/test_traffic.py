"""What goes through a tunnel of two daemons, while things around it change."""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.counterparts.userspace import Userspace
from interop.netns import Lab, add_address
from interop.shell import ScenarioFailed, run, wait_until
from interop.tunnel import End, tunnel
from interop.wire import DATA, INITIATION, Message, capture
from tests.system.flows import Flow, crashes, drops, lost_on_the_way

pytestmark = pytest.mark.system

_WGPY = Userspace("wgpy", f"{sys.executable} -m wgpy")
_EMPTY = 32
"""Bytes of a keepalive."""
_LARGEST = 65472
"""Bytes of the largest packet, a multiple of 16, that fits a datagram with its 32 and UDP's 28."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab
    assert not crashes(tmp_path)


@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("outer", [4, 6])
def test_tcp_and_udp_of_both_versions_pass_over_both_versions(
    lab: Lab, inner: int, outer: int
) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY, outer)
    with capture(a.namespace, lab.directory) as wire:
        a.ping(b, inner, more="-s 1000")
        b.ping(a, inner, more="-s 1000")
    for end in (a, b):
        sizes = [len(message.payload) for message in wire.messages(DATA, end.outer(outer))]
        assert max(sizes) > 1000
    for sender, receiver in ((a, b), (b, a)):
        sent = Flow(sender, receiver, 1, version=inner).result()
        assert sent["sum_received"]["bytes"] > 1_000_000
        udp = Flow(sender, receiver, 1, "-u -b 5M -l 1200", inner).result()
        assert udp["sum"]["packets"] > 400
        assert lost_on_the_way(udp, receiver) == 0


@pytest.mark.slow
def test_streams_go_on_while_the_keys_change(lab: Lab) -> None:
    # REKEY_AFTER_TIME is 120 s, and only the initiator rekeys on age.
    a, b = tunnel(lab, _WGPY, _WGPY)
    flow = Flow(a, b, 128, "-u -b 4M -l 1200 --bidir")
    wait_until("the first session", lambda: a.handshake_time(b), 10)
    first = a.handshake_time(b)
    end = flow.result()
    assert 119 <= a.handshake_time(b) - first <= 124
    for way, receiver in (("sum", b), ("sum_bidir_reverse", a)):
        assert end[way]["packets"] > 50_000
        assert lost_on_the_way(end, receiver, way) == 0
        assert drops(receiver) == {}


def test_the_listen_port_may_change_under_traffic(lab: Lab) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY)
    flow = Flow(a, b, 10, "--bidir")
    flow.wait_begun()
    for port in (51821, 51822, 51823):
        for end, peer in ((a, b), (b, a)):
            end.configure(f"listen-port {port}")
            moved = f"{end.outer()}:{port}"
            # Traffic alone tells the other end.
            wait_until(moved, lambda p=peer, e=end, m=moved: p.show("endpoints", e) == m, 10)  # type: ignore[misc]
    assert flow.running
    result = flow.result()
    assert result["sum_received"]["bytes"] > 1_000_000
    assert result["sum_received_bidir_reverse"]["bytes"] > 1_000_000


def test_the_mtu_may_change_under_traffic(lab: Lab) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY, mtu=9000)
    flow = Flow(a, b, 6, "--bidir")
    for mtu in (1280, 8920, 1420, 9000):
        for end in (a, b):
            end.namespace.ip(f"link set {end.interface} mtu {mtu}")
        for end, peer in ((a, b), (b, a)):
            end.ping(peer, more=f"-M do -s {mtu - 28}")
            end.ping(peer, 6, more=f"-M do -s {mtu - 48}")
    assert flow.running
    end_ = flow.result()
    assert end_["sum_received"]["bytes"] > 1_000_000
    assert end_["sum_received_bidir_reverse"]["bytes"] > 1_000_000


def test_with_the_largest_mtu_what_fits_a_datagram_passes_and_the_rest_harms_nobody(
    lab: Lab,
) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY, mtu=65535)
    a.ping(b, more=f"-M do -s {_LARGEST - 28}")
    before = sum(drops(a).values())
    with pytest.raises(ScenarioFailed):
        a.ping(b, more=f"-M do -s {65535 - 28}", within=1)
    assert sum(drops(a).values()) == before + 1
    a.ping(b)
    assert Flow(a, b, 1, "-M 1400").result()["sum_received"]["bytes"] > 1_000_000


def test_a_prefix_that_changes_hands_under_traffic_loses_only_what_is_under_way(lab: Lab) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY)
    c = End(lab, lab.namespace("third"), _WGPY, lab.interface_name("c"), 3, 1420)
    _join(lab, a, c)
    c.start()
    c.add_peer(a)
    a.configure(f"peer {c.keys.public} allowed-ips {c.inner()}/32 endpoint 10.81.0.3:51820")
    a.ping(c)
    for end in (b, c):
        add_address(end.namespace, end.interface, "10.90.0.50/32")
    owners = itertools.cycle((b, c))
    a.configure(f"peer {b.keys.public} allowed-ips {b.inner()}/32,10.90.0.50/32")
    with (lab.directory / "ping.txt").open("wb") as out:
        ping = a.namespace.start(
            *["ping", "-n", "-q", "-c", "400", "-i", "0.01", "10.90.0.50"], output=out
        )
    next(owners)
    moves = 0
    while ping.poll() is None:
        owner = next(owners)
        a.configure(f"peer {owner.keys.public} allowed-ips {owner.inner()}/32,10.90.0.50/32")
        moves += 1
        before = owner.show("transfer", a)
        wait_until(
            f"echoes reach {owner.interface}",
            lambda owner=owner, before=before: (  # type: ignore[misc]
                owner.show("transfer", a) != before or ping.poll() is not None
            ),
            5,
        )
    report = (lab.directory / "ping.txt").read_text()
    assert moves >= 10
    received = int(report.split("transmitted, ")[1].split()[0])
    # An answer of the former owner, under way while the prefix moves, has a wrong source.
    assert received >= 400 - moves


def _join(lab: Lab, a: End, c: End) -> None:
    """A second wire, of another network: eth1 of a to eth0 of c."""
    run(
        *f"ip link add eth1 netns {a.namespace.name} type veth".split(),
        *f"peer name eth0 netns {c.namespace.name}".split(),
    )
    for namespace, device, number in ((a.namespace, "eth1", 1), (c.namespace, "eth0", 3)):
        namespace.ip(f"link set {device} up")
        add_address(namespace, device, f"10.81.0.{number}/24")


@pytest.mark.parametrize("speaker", [0, 1])
def test_persistent_keepalives_of_one_end_are_on_the_wire_until_they_are_off(
    lab: Lab, speaker: int
) -> None:
    ends = tunnel(lab, _WGPY, _WGPY)
    own, other = ends[speaker], ends[1 - speaker]
    with capture(own.namespace, lab.directory) as wire:
        own.configure(
            f"peer {other.keys.public} endpoint {other.endpoint()} persistent-keepalive 1"
        )
        wire.wait_for("keepalives", DATA, own.outer(), 60, count=5)
        own.configure(f"peer {other.keys.public} persistent-keepalive off")
    assert len(wire.messages(INITIATION)) == 1
    keepalives = wire.messages(DATA)
    assert {len(message.payload) for message in keepalives} == {_EMPTY}
    # Empty messages are not answered: the other end stays silent.
    assert {message.source for message in keepalives} == {own.outer()}
    # The times are the capture's, and it may be late for one of them.
    assert statistics.median(_gaps(keepalives)[1:]) == pytest.approx(1, abs=0.6)
    assert min(_gaps(keepalives)[1:]) > 0.4
    _is_silent(own, lab)


def test_keepalives_of_both_ends_put_off_each_other(lab: Lab) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY)
    with capture(a.namespace, lab.directory) as wire:
        for end, peer in ((a, b), (b, a)):
            end.configure(f"peer {peer.keys.public} persistent-keepalive 1")
        # What arrives puts off the next one too: one end may be silent while the other speaks.
        wire.wait_for("keepalives", DATA, None, 60, count=6)
        for end, peer in ((a, b), (b, a)):
            end.configure(f"peer {peer.keys.public} persistent-keepalive off")
    for end in (a, b):
        assert all(gap > 0.4 for gap in _gaps(wire.messages(DATA, end.outer()))[1:])
    assert statistics.median(_gaps(wire.messages(DATA))[1:]) < 1.6
    _is_silent(a, lab)


def _is_silent(end: End, lab: Lab) -> None:
    with capture(end.namespace, lab.directory) as silence:
        # More than two intervals, less than a passive keepalive would take.
        time.sleep(2.5)
    assert not silence.messages(DATA)


def _gaps(messages: list[Message]) -> list[float]:
    return [late.at - early.at for early, late in itertools.pairwise(messages)]
