"""The link of a real TUN is followed, wherever it goes."""

import contextlib
import errno
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.tunhost import Namespace, two_namespaces
from tun import LinkMonitor, Tun

pytestmark = pytest.mark.system


@pytest.fixture
def namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    with two_namespaces() as pair:
        yield pair


@pytest.fixture
def linked(namespaces: tuple[Namespace, Namespace]) -> Iterator[tuple[Namespace, Tun, LinkMonitor]]:
    left, _ = namespaces
    with left.inside():
        tun = Tun.open("tt%d")
        link = LinkMonitor(tun)
    with contextlib.closing(tun), contextlib.closing(link):
        yield left, tun, link


def wait(link: LinkMonitor) -> None:
    """Read events until one is of this interface."""
    while True:
        assert select.select([link.fileno()], [], [], 10)[0], "no event"
        if link.read():
            return


def test_a_link_says_up_down_mtu_and_name(linked: tuple[Namespace, Tun, LinkMonitor]) -> None:
    left, tun, link = linked
    assert not link.state().up
    assert link.state().name == "tt0"
    left.ip("link", "set", "tt0", "up")
    wait(link)
    assert link.state().up
    left.ip("link", "set", "tt0", "mtu", "1300")
    wait(link)
    assert link.state().mtu == 1300
    left.ip("link", "set", "tt0", "down")
    wait(link)
    assert not link.state().up
    left.ip("link", "set", "tt0", "name", "other")
    wait(link)
    assert link.state().name == tun.name == "other"


def test_a_link_says_nothing_of_other_interfaces(
    linked: tuple[Namespace, Tun, LinkMonitor],
) -> None:
    left, _, link = linked
    link.read()
    left.ip("link", "add", "tb0", "type", "bridge")
    left.ip("link", "set", "tb0", "up")
    assert select.select([link.fileno()], [], [], 10)[0]
    assert not link.read()


def test_a_link_tells_its_addresses(linked: tuple[Namespace, Tun, LinkMonitor]) -> None:
    left, _, link = linked
    assert link.addresses() == (None, None)
    left.ip("link", "set", "tt0", "up")
    left.ip("address", "add", "fe80::9/64", "dev", "tt0")
    assert link.addresses() == (None, None)
    for address in ("10.1.0.1/24", "10.2.0.1/24", "fd01::1/64"):
        left.ip("address", "add", address, "dev", "tt0")
    wait(link)
    assert link.addresses() == (
        socket.inet_pton(socket.AF_INET, "10.1.0.1"),
        socket.inet_pton(socket.AF_INET6, "fd01::1"),
    )


def test_a_link_says_that_it_is_gone(linked: tuple[Namespace, Tun, LinkMonitor]) -> None:
    left, _, link = linked
    left.ip("link", "del", "tt0")
    with pytest.raises(OSError) as caught:
        wait(link)
    assert caught.value.errno == errno.EBADFD


def test_a_link_is_followed_into_another_namespace_and_back(
    namespaces: tuple[Namespace, Namespace], linked: tuple[Namespace, Tun, LinkMonitor]
) -> None:
    left, right = namespaces
    _, tun, link = linked
    descriptors = len(os.listdir("/proc/self/fd"))
    for here, there in ((left, right), (right, left)):
        here.ip("link", "set", tun.name, "netns", there.name)
        wait(link)
        assert not link.state().up
        there.ip("link", "set", tun.name, "mtu", "1333", "up")
        wait(link)
        while not link.state().up or link.state().mtu != 1333:
            wait(link)
        link.set_mtu(1420)
        link.set_queue_length(1000)
        assert "qlen 1000" in there.ip("link", "show", tun.name)
        assert link.read()
        assert link.state().queue_length == 1000
        assert f"{tun.name}: " in there.ip("link", "show", tun.name)
        assert "mtu 1420" in there.ip("link", "show", tun.name)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_link_has_no_queue_discipline_if_it_shall_not(
    linked: tuple[Namespace, Tun, LinkMonitor],
) -> None:
    left, tun, link = linked
    link.set_no_queue_discipline()
    left.ip("link", "set", tun.name, "up")
    left.ip("link", "set", tun.name, "down")
    left.ip("link", "set", tun.name, "up")
    assert "qdisc noqueue" in left.ip("link", "show", tun.name)


def test_an_interface_born_in_another_namespace_is_followed(
    namespaces: tuple[Namespace, Namespace],
) -> None:
    left, _ = namespaces
    with left.inside():
        tun = Tun.open("tt%d")
    with contextlib.closing(tun), contextlib.closing(LinkMonitor(tun)) as link:
        left.ip("link", "set", "tt0", "up")
        wait(link)
        assert link.state().up


def test_events_that_were_lost_are_made_good(linked: tuple[Namespace, Tun, LinkMonitor]) -> None:
    left, _, link = linked
    flips = "".join(f"link set tt0 mtu {1300 + k}\n" for k in range(4000))
    argv = ["ip", "-n", left.name, "-batch", "-"]
    subprocess.run(argv, check=True, input=flips, text=True)
    link.read()
    assert link.state().mtu == 1300 + 3999


_WITHOUT_RIGHTS = """
import ctypes, logging, select, sys
from tun import LinkMonitor, Tun
logging.basicConfig(format="%(message)s", stream=sys.stdout)
libc = ctypes.CDLL(None, use_errno=True)

def drop(capabilities):
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    for k in range(6):
        sets[k] &= ~(capabilities >> (32 if k > 2 else 0)) & 0xFFFFFFFF
    assert libc.capset(header, sets) == 0

tun = Tun.open("tt%d")
"""
_EVERY_CAPABILITY, _CAP_NET_ADMIN, _CAP_SYS_ADMIN = 2**64 - 1, 1 << 12, 1 << 21


def run_without(capabilities: int, namespace: Namespace, rest: str) -> subprocess.Popen[str]:
    code = f"{_WITHOUT_RIGHTS}\ndrop({capabilities})\n{rest}"
    with namespace.inside():
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )


def test_without_rights_a_link_is_followed_where_it_is(
    namespaces: tuple[Namespace, Namespace],
) -> None:
    rest = "link = LinkMonitor(tun); print(link.state()); print(link.addresses())"
    with run_without(_EVERY_CAPABILITY, namespaces[0], rest) as process:
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "name='tt0'" in out


@pytest.mark.parametrize("missing", [_CAP_SYS_ADMIN, _CAP_SYS_ADMIN | _CAP_NET_ADMIN])
def test_without_rights_a_link_that_moves_away_counts_as_up(
    namespaces: tuple[Namespace, Namespace], missing: int
) -> None:
    rest = """if True:
        link = LinkMonitor(tun)
        print("ready")
        while not link.state().up:
            assert select.select([link.fileno()], [], [], 10)[0]
            link.read()
        print(link.state())
    """
    left, right = namespaces
    with run_without(missing, left, rest) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        left.ip("link", "set", "tt0", "netns", right.name)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "cannot follow tt0 into its new network namespace" in out
    assert "up=True" in out
