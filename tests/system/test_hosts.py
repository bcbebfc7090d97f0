"""Two daemons on hosts that change: addresses, routes, marks, namespaces, restarts, wg-quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.counterparts.userspace import Userspace
from interop.netns import Lab, Namespace, add_address
from interop.shell import CommandFailed, run, wait_until
from interop.tunnel import PORT, End, tunnel
from interop.wire import DATA, capture
from tests.system.flows import Flow, crashes

pytestmark = pytest.mark.system

_WGPY = Userspace("wgpy", f"{sys.executable} -m wgpy")
_ROOT = Path(__file__).parents[2]
_BITS = {4: 24, 6: 64}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab
    assert not crashes(tmp_path)


def _endpoint(address: str) -> str:
    return f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"


def _other_address(end: End, version: int) -> str:
    """A second one for eth0, next to `end.outer`."""
    address = f"10.80.0.2{end.number}" if version == 4 else f"fd80::2{end.number}"
    add_address(end.namespace, "eth0", f"{address}/{_BITS[version]}")
    return address


# Sources.


@pytest.mark.parametrize("version", [4, 6])
def test_answers_leave_from_the_address_that_was_spoken_to_and_fail_over_without_loss(
    lab: Lab, version: int
) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY, version)
    addresses = {b.outer(version), _other_address(b, version)}
    # Which one the kernel takes when nobody asks differs; b must leave it for the other.
    chosen = _default_source(b, a.outer(version))
    (spoken_to,) = addresses - {chosen}
    a.configure(f"peer {b.keys.public} endpoint {_endpoint(spoken_to)}")
    with capture(a.namespace, lab.directory) as wire:
        a.ping(b)
        # Not only answers: what b begins itself sticks too.
        assert b.ping_many(a, 5, 0.05) == 0
    assert {m.source for m in wire.messages(DATA)} == {a.outer(version), spoken_to}
    assert a.show("endpoints", b) == _endpoint(spoken_to)
    b.namespace.run("sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1")
    b.namespace.ip(f"address delete {spoken_to}/{_BITS[version]} dev eth0")
    assert b.ping_many(a, 5, 0.05) == 0
    assert a.show("endpoints", b) == _endpoint(chosen)


def _default_source(end: End, destination: str) -> str:
    words = end.namespace.ip(f"route get {destination}").split()
    return words[words.index("src") + 1]


@pytest.mark.parametrize("version", [4, 6])
def test_a_route_that_moves_to_another_link_takes_the_source_with_it(
    lab: Lab, version: int
) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY, version)
    # The address of a that b speaks to is on no link, and reached over either.
    far = "10.99.0.1" if version == 4 else "fd99::1"
    add_address(a.namespace, "lo", f"{far}/{32 if version == 4 else 128}")
    run(
        *f"ip link add eth1 netns {a.namespace.name} type veth".split(),
        *f"peer name eth1 netns {b.namespace.name}".split(),
    )
    net = "10.81.0." if version == 4 else "fd81::"
    for end in (a, b):
        end.namespace.ip("link set eth1 up")
        add_address(end.namespace, "eth1", f"{net}{end.number}/{_BITS[version]}")
    b.namespace.ip(f"route add {far} via {a.outer(version)}")
    b.configure(f"peer {a.keys.public} endpoint {_endpoint(far)}")
    b.ping(a)
    assert a.show("endpoints", b) == b.endpoint(version)
    b.namespace.ip(f"route replace {far} via {net}1")
    assert b.ping_many(a, 5, 0.05) == 0
    assert a.show("endpoints", b) == _endpoint(f"{net}2")


@pytest.mark.parametrize("version", [4, 6])
def test_the_mark_chooses_the_route_from_the_moment_it_is_set(lab: Lab, version: int) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY, version)
    ip = f"-{version}"
    a.namespace.run("ip", ip, "rule", "add", "fwmark", "0x77", "lookup", "77", "priority", "10")
    net = "10.80.0.0/24" if version == 4 else "fd80::/64"
    a.namespace.run("ip", ip, "route", "add", net, "dev", "eth0", "table", "77")
    # Neighbour discovery has no mark: it is done before.
    a.ping(b)
    rule = ("rule", "add", "to", b.outer(version), "lookup", "78", "priority", "20")
    a.namespace.run("ip", ip, *rule)
    a.namespace.run("ip", ip, "route", "add", "unreachable", "default", "table", "78")
    assert not a.reaches(b)
    a.configure("fwmark 0x77")
    a.ping(b)
    assert a.namespace.run("wg", "show", a.interface, "fwmark").strip() == "0x77"
    a.configure("fwmark off")
    assert not a.reaches(b)


# Moves and restarts.


def test_an_interface_that_moves_away_and_back_under_traffic_keeps_its_sockets(lab: Lab) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY)
    inside = lab.namespace("inside")
    a.ping(b)
    _move(a.namespace, inside, a)
    for _ in range(2):
        inside.run(*f"ping -n -c 3 -i 0.1 -W 5 {b.inner()}".split())
    # Where the UDP sockets are, and where they are not.
    assert f":{PORT} " in a.namespace.run("ss", "-Huln")
    assert f":{PORT} " not in inside.run("ss", "-Huln")
    a.configure(f"peer {b.keys.public} persistent-keepalive 5")
    inside.ip(f"link set {a.interface} mtu 1300")
    inside.run(*f"ping -n -c 1 -W 5 -M do -s 1272 {b.inner()}".split())
    _move(inside, a.namespace, a)
    assert Flow(a, b, 1).result()["sum_received"]["bytes"] > 1_000_000


def _move(source: Namespace, target: Namespace, end: End) -> None:
    source.ip(f"link set {end.interface} netns {target.name}")
    # The kernel takes the link down and its addresses away on the way.
    target.ip(f"link set {end.interface} up")
    add_address(target, end.interface, f"{end.inner(4)}/24")


@pytest.mark.parametrize("crash", [False, True])
def test_an_end_that_restarts_is_found_again_when_it_speaks(lab: Lab, crash: bool) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY)
    a.ping(b)
    for _ in range(3):
        assert a.running is not None
        if not crash:
            a.running.stop()
        # Also where it has ended well: tells the lab not to stop it once more.
        a.running.crash()
        assert a.interface not in a.namespace.ip("link show")
        a.start()
        a.add_peer(b, 4)
        a.ping(b)
        b.ping(a)


def test_both_ends_roam_while_a_stream_goes_on(lab: Lab) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY)
    a.ping(b)
    flow = Flow(a, b, 10, "--bidir")
    flow.wait_begun()
    for end, peer in ((a, b), (b, a)) * 2:
        old = peer.show("endpoints", end).rpartition(":")[0]
        new = _next_address(end, old)
        wait_until(
            f"{peer.interface} follows",
            lambda peer=peer, end=end, new=new: (  # type: ignore[misc]
                peer.show("endpoints", end) == _endpoint(new)
            ),
            5,
        )
    assert flow.running
    received = flow.result()
    assert received["sum_received"]["bytes"] > 1_000_000
    assert received["sum_received_bidir_reverse"]["bytes"] > 1_000_000


def _next_address(end: End, old: str) -> str:
    """Eth0 gets another address instead of `old`."""
    new = old[:-1] + str((int(old[-1]) + 2) % 10)
    end.namespace.run("sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1")
    add_address(end.namespace, "eth0", f"{new}/24")
    end.namespace.ip(f"address delete {old}/24 dev eth0")
    return new


# wg-quick.


def test_wg_quick_starts_the_daemon_by_its_name(lab: Lab, tmp_path: Path) -> None:
    a, b = tunnel(lab, _WGPY, _WGPY)
    c = End(lab, a.namespace, _WGPY, lab.interface_name("q"), 9, 1420)
    program = tmp_path / "wgpy"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={_ROOT} exec {sys.executable} -m wgpy "$@"\n')
    program.chmod(0o755)
    config = tmp_path / f"{c.interface}.conf"
    config.touch(0o600)
    config.write_text(
        f"[Interface]\nPrivateKey = {c.keys.private.strip()}\nAddress = {c.inner()}/32\n"
        f"[Peer]\nPublicKey = {b.keys.public}\nEndpoint = {b.endpoint()}\n"
        "AllowedIPs = 10.92.0.2/32\n"
    )
    b.configure(f"peer {c.keys.public} allowed-ips {c.inner()}/32")
    add_address(b.namespace, b.interface, "10.92.0.2/32")
    environment = (
        f"PATH={tmp_path}:{os.environ['PATH']}",
        "WG_QUICK_USERSPACE_IMPLEMENTATION=wgpy",
    )
    a.namespace.run("env", *environment, "wg-quick", "up", str(config))
    try:
        a.namespace.run(*f"ping -n -c 2 -i 0.2 -W 5 -I {c.inner()} 10.92.0.2".split())
        assert c.handshake_time(b) > 0
    finally:
        a.namespace.run("env", *environment, "wg-quick", "down", str(config))
    with pytest.raises(CommandFailed):
        run("wg", "show", c.interface)
    wait_until("the link is gone", lambda: c.interface not in a.namespace.ip("link show"), 5)
