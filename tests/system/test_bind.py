"""Binds in two namespaces with two links between them.

left  eth0  10.0.0.1  fd00::1    ----  eth0  10.0.0.2  fd00::2    right
      eth1  10.0.1.1  fd00:1::1  ----  eth1  10.0.1.2  fd00:1::2
"""

import ctypes
import errno
import logging
import os
import pathlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import pytest

from interop.shell import wait_until
from tests.device.datagrams import datagrams, drain
from wgpy.device.bind import Bind, Received, SendResult
from wgpy.device.options import DeviceOptions
from wgpy.device.routes import RouteMonitor
from wgpy.protocol.config import Endpoint
from wgpy.protocol.path import Path, Source

pytestmark = pytest.mark.system

SENT = SendResult()
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Host:
    """A namespace."""

    name: str
    exits: ExitStack

    def run(self, command: str) -> str:
        argv = ["ip", "netns", "exec", self.name, *command.split()]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def ip(self, *commands: str) -> None:
        for command in commands:
            self.run(f"ip {command}")

    def bind(self, options: DeviceOptions | None = None, port: int = 0, fwmark: int = 0) -> Bind:
        with self.inside():
            bind = Bind.open(port, fwmark, options or DeviceOptions())
        self.exits.callback(bind.close)
        return bind

    def monitor(self) -> RouteMonitor:
        with self.inside():
            monitor = RouteMonitor()
        self.exits.callback(monitor.close)
        return monitor

    def index(self, interface: str) -> int:
        with self.inside():
            return socket.if_nametoindex(interface)

    @contextmanager
    def inside(self) -> Iterator[None]:
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.name}") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Pair(NamedTuple):
    left: Host
    right: Host


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as exits:
        hosts = []
        for side in "lr":
            name = f"tb{os.getpid()}{side}"
            subprocess.run(["ip", "netns", "add", name], check=True)
            exits.callback(subprocess.run, ["ip", "netns", "delete", name], check=True)
            hosts.append(Host(name, exits))
        left, right = hosts
        for host in hosts:
            host.ip("link set lo up")
            host.run("sysctl -qw net.ipv6.conf.default.accept_dad=0")
            # Answers may take another link than requests.
            host.run("sysctl -qw net.ipv4.conf.all.rp_filter=0")
            host.run("sysctl -qw net.ipv4.conf.default.rp_filter=0")
        for link in range(2):
            ends = [f"eth{link} address 02:0:0:0:{link}:{number}" for number in (1, 2)]
            left.ip(f"link add {ends[0]} type veth peer {ends[1]} netns {right.name}")
        for number, host in enumerate(hosts, 1):
            for link in range(2):
                host.ip(
                    f"address add 10.0.{link}.{number}/24 dev eth{link}",
                    f"address add fd00:{link}::{number}/64 dev eth{link} nodad",
                    f"address add fe80::{number}/64 dev eth{link} nodad",
                    f"link set eth{link} up",
                )
                # A new link is deaf to the search for neighbours for a second, or for longer.
                for net in (f"fd00:{link}", "fe80"):
                    other = f"{net}::{3 - number} lladdr 02:0:0:0:{link}:{3 - number}"
                    host.ip(f"neighbour add {other} dev eth{link}")
        yield Pair(left, right)


def receive(bind: Bind, host: str, count: int = 1) -> list[tuple[Received, list[bytes]]]:
    """What came for `bind`, once there are `count` datagrams."""
    batches: list[tuple[Received, list[bytes]]] = []
    deadline = time.monotonic() + 5
    while sum(len(rows) for _, rows in batches) < count:
        assert time.monotonic() < deadline, f"{count} datagrams expected, got {batches}"
        batches += drain(bind, host)
    return batches


def exchange(sender: Bind, receiver: Bind, to: str, source: Source | None = None) -> Received:
    """Send one datagram to an address; as it was received."""
    assert sender.send([b"hello"], 5, 5, Path(Endpoint(to, receiver.port), source), 0) == SENT
    ((received, rows),) = receive(receiver, to)
    assert rows == [b"hello"]
    return received


FAMILIES = pytest.mark.parametrize("net", ["10.0.0.", "fd00::"])


# Sources.


@FAMILIES
def test_answers_leave_from_any_of_several_addresses_that_was_spoken_to(
    pair: Pair, net: str
) -> None:
    bits = 24 if "." in net else 64
    for last in (20, 21, 22):
        pair.right.ip(f"address add {net}{last}/{bits} dev eth0")
    elsewhere = "10.7.7.7" if "." in net else "fd77::7"
    pair.right.ip(f"address add {elsewhere} dev lo")
    pair.left.ip(f"route add {elsewhere} via {net}2")
    client, server = pair.left.bind(), pair.right.bind()
    monitor = pair.right.monitor()
    for address in (f"{net}2", f"{net}20", f"{net}21", f"{net}22", elsewhere):
        request = exchange(client, server, address)
        assert request.path.source == Source(address, pair.right.index("eth0"))
        assert monitor.still_valid(request.path, 0)
        for size in (10, 100):
            assert server.send([bytes(size)], 10, size, request.path, 0) == SENT
            for answer, _ in receive(client, net, size // 10):
                assert answer.path.endpoint == Endpoint(address, server.port)


def _await_no_news(monitor: RouteMonitor) -> None:
    """On a busy machine those of what was done before may come late."""
    wait_until("there is no news", lambda: not monitor.drain(), 5)


@FAMILIES
@pytest.mark.parametrize("udp_gso", [True, False])
def test_a_source_that_vanished_is_left_out_at_once(pair: Pair, net: str, udp_gso: bool) -> None:
    bits = 24 if "." in net else 64
    pair.right.ip(f"address add {net}9/{bits} dev eth0")
    client, server = pair.left.bind(), pair.right.bind(DeviceOptions(udp_gso=udp_gso))
    monitor = pair.right.monitor()
    path = exchange(client, server, f"{net}9").path
    assert monitor.still_valid(path, 0)
    _await_no_news(monitor)
    pair.right.ip(f"address delete {net}9/{bits} dev eth0")
    assert monitor.drain()
    assert not monitor.still_valid(path, 0)
    for size in (10, 100):
        assert server.send([bytes(size)], 10, size, path, 0) == SendResult(source_lost=True)
        for answer, _ in receive(client, net, size // 10):
            assert answer.path.endpoint == Endpoint(f"{net}2", server.port)
    # Only of the path with that source: others are sent as before.
    assert server.send([bytes(100)], 10, 100, Path(path.endpoint), 0) == SENT


@FAMILIES
def test_a_source_is_not_valid_when_its_route_moves_to_another_interface(
    pair: Pair, net: str
) -> None:
    peer, other = ("10.5.5.5", "10.0.1.1") if "." in net else ("fd55::5", "fd00:1::1")
    pair.left.ip(f"address add {peer} dev lo")
    pair.right.ip(f"route add {peer} via {net}1 dev eth0")
    client, server = pair.left.bind(), pair.right.bind()
    monitor = pair.right.monitor()
    path = exchange(client, server, f"{net}2", Source(peer, 0)).path
    assert path.endpoint.host == peer
    assert monitor.still_valid(path, 0)

    pair.right.ip(f"route replace {peer} via {other} dev eth1")
    assert monitor.drain()
    assert not monitor.still_valid(path, 0)

    # Without any route there is nothing better: the kernel keeps the source.
    pair.right.ip(f"route delete {peer}")
    assert monitor.drain()
    assert monitor.still_valid(path, 0)
    assert server.send([b"x"], 1, 1, path, 0) == SendResult(error=errno.ENETUNREACH)

    pair.right.ip(f"route add unreachable {peer}")
    assert monitor.still_valid(path, 0)
    assert server.send([b"x"], 1, 1, path, 0).error

    pair.right.ip(f"route delete unreachable {peer}", f"route add {peer} via {net}1 dev eth0")
    assert monitor.still_valid(path, 0)


@FAMILIES
def test_the_mark_takes_part_in_the_choice_of_the_route(pair: Pair, net: str) -> None:
    family, other = ("-4", "10.0.1.1") if "." in net else ("-6", "fd00:1::1")
    client, server = pair.left.bind(), pair.right.bind()
    monitor = pair.right.monitor()
    path = exchange(client, server, f"{net}2").path
    pair.right.ip(
        f"{family} route add {net}1 via {other} dev eth1 table 77",
        f"{family} rule add fwmark 0x77 lookup 77",
    )
    assert monitor.drain()
    assert monitor.still_valid(path, 0)
    assert not monitor.still_valid(path, 0x77)


@FAMILIES
def test_a_source_whose_routes_are_gone_is_left_out_at_once(pair: Pair, net: str) -> None:
    family, bits = ("-4", 24) if "." in net else ("-6", 64)
    pair.right.ip(f"address add {net}9/{bits} dev eth0")
    client, server = pair.left.bind(), pair.right.bind()
    monitor = pair.right.monitor()
    path = exchange(client, server, f"{net}9").path
    pair.right.ip(f"{family} rule add from {net}9 unreachable")
    assert monitor.drain()
    assert not monitor.still_valid(path, 0)
    assert server.send([b"x"], 1, 1, path, 0) == SendResult(source_lost=True)
    # From whichever address the kernel prefers.
    receive(client, net)


def test_link_local_peers_are_answered_on_their_link(pair: Pair) -> None:
    client, server = pair.left.bind(), pair.right.bind()
    monitor = pair.right.monitor()
    for link in range(2):
        here, there = pair.left.index(f"eth{link}"), pair.right.index(f"eth{link}")
        to = Path(Endpoint("fe80::2", server.port, here), Source("fe80::1", here))
        assert client.send([b"x"], 1, 1, to, 0) == SENT
        ((request, _),) = receive(server, "fe80::2")
        assert request.path.endpoint == Endpoint("fe80::1", client.port, there)
        assert request.path.source == Source("fe80::2", there)
        assert monitor.still_valid(request.path, 0)
        assert server.send([b"yes"], 3, 3, request.path, 0) == SENT
        ((answer, _),) = receive(client, "fe80::1")
        assert answer.path.endpoint == Endpoint("fe80::2", server.port, here)
    pair.right.ip("address delete fe80::2/64 dev eth1")
    assert not monitor.still_valid(request.path, 0)


@pytest.mark.parametrize(
    "change",
    [
        "link set eth1 mtu 1400",
        "link set eth1 down",
        "address add 10.8.0.1/32 dev eth0",
        "address add fd08::1/64 dev eth0",
        "route add 10.9.0.0/16 dev eth0",
        "route add fd09::/64 dev eth0",
        "-4 rule add from 10.9.0.0/16 lookup main",
        "-6 rule add from fd09::/64 lookup main",
    ],
)
def test_the_monitor_wakes_up_for_every_kind_of_change(pair: Pair, change: str) -> None:
    monitor = pair.right.monitor()
    _await_no_news(monitor)
    pair.right.ip(change)
    assert monitor.drain()
    _await_no_news(monitor)


def test_more_changes_than_the_monitor_can_be_told_are_a_change(pair: Pair) -> None:
    monitor = pair.right.monitor()
    monitor._events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for number in range(20):
        pair.right.ip(f"route add 10.9.{number}.0/24 dev eth0")
    assert monitor.drain()
    _await_no_news(monitor)


# The outer header.


@FAMILIES
def test_the_outer_header_is_as_the_kernel_has_it(pair: Pair, net: str) -> None:
    with pair.right.inside():
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    pair.right.exits.enter_context(wire)
    wire.settimeout(5)
    client, server = pair.left.bind(), pair.right.bind()
    assert client.send([b"hello"], 5, 5, Path(Endpoint(f"{net}2", server.port)), 0x8A) == SENT
    while True:
        packet = wire.recv(2000)
        if packet.endswith(b"hello"):
            break
    if "." in net:
        assert packet[1] == 0x8A
        assert packet[6] & 0x40 == 0, "don't fragment"
        checksum = packet[20 + 6 : 20 + 8]
    else:
        assert int.from_bytes(packet[:4], "big") >> 20 & 0xFF == 0x8A
        checksum = packet[40 + 6 : 40 + 8]
    assert checksum != b"\0\0"


@FAMILIES
def test_a_datagram_larger_than_the_link_is_fragmented(pair: Pair, net: str) -> None:
    client, server = pair.left.bind(), pair.right.bind()
    path = Path(Endpoint(f"{net}2", server.port))
    assert client.send([bytes(9000)], 9000, 9000, path, 0) == SENT
    ((_, rows),) = receive(server, net)
    assert rows == [bytes(9000)]


@FAMILIES
def test_ecn_marks_of_the_wire_arrive(pair: Pair, net: str) -> None:
    client, server = pair.left.bind(), pair.right.bind()
    path = Path(Endpoint(f"{net}2", server.port))
    for tos in (0, 1, 2, 3):
        assert client.send([bytes(1000)], 100, 1000, path, tos) == SENT
    batches = receive(server, net, 40)
    assert [received.ecn for received, _ in batches] == [0, 1, 2, 3]


# What the network does.


@FAMILIES
def test_a_path_with_a_small_mtu_falls_back_for_large_segments_only(
    pair: Pair, net: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pair.left.ip(f"route add {net}2 dev eth0 mtu 1300")
    client, server = pair.left.bind(), pair.right.bind()
    path = Path(Endpoint(f"{net}2", server.port), Source(f"{net}1", 0))
    rows = [bytes((k,)) * 1400 for k in range(8)]
    for _ in range(3):
        assert client.send([*rows], 1400, 8 * 1400, path, 0) == SENT
        batches = receive(server, net, 8)
        assert [row for _, some in batches for row in some] == rows
    assert client.send([bytes(8000)], 1000, 8000, path, 0) == SENT
    assert len(receive(server, net, 8)) == 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "UDP_SEGMENT fails with E" in record.message


@pytest.mark.parametrize("udp_gso", [True, False])
@pytest.mark.parametrize("source", [None, Source("10.0.0.99", 1)])
def test_a_full_socket_tells_what_left_and_goes_on_later(
    pair: Pair, udp_gso: bool, source: Source | None
) -> None:
    pair.left.run("tc qdisc add dev eth0 root tbf rate 8kbit burst 4k limit 100m")
    client, server = pair.left.bind(DeviceOptions(udp_gso=udp_gso)), pair.right.bind()
    path = Path(Endpoint("10.0.0.2", server.port), source)
    taken = SendResult(source_lost=source is not None)
    batch = b"".join(bytes((k,)) * 1400 for k in range(40))
    left = 0
    for _ in range(200):
        result = client.send([batch], 1400, len(batch), path, 0)
        if result.would_block:
            break
        assert result == taken
        left += 40
    assert result.would_block
    assert result.sent % 1400 == 0
    left += result.sent // 1400
    pair.left.run("tc qdisc change dev eth0 root tbf rate 10gbit burst 1m limit 100m")
    batches = receive(server, "10.", left)
    rows = [row for _, some in batches for row in some]
    assert rows == [bytes((k % 40,)) * 1400 for k in range(left)]
    assert client.send([batch[result.sent :]], 1400, len(batch) - result.sent, path, 0) == taken


@FAMILIES
def test_a_firewall_a_missing_route_and_a_missing_link_are_told_not_raised(
    pair: Pair, net: str
) -> None:
    client = pair.left.bind()
    family = "ip" if "." in net else "ip6"
    path = Path(Endpoint(f"{net}2", 9))
    nowhere = Path(Endpoint("10.99.0.1" if "." in net else "fd99::1", 9))
    for size in (10, 100):
        assert client.send([bytes(size)], 10, size, nowhere, 0).error == errno.ENETUNREACH
        assert client.send([bytes(size)], 10, size, path, 0) == SENT
    pair.left.run("nft add table inet t")
    pair.left.run("nft add chain inet t out { type filter hook output priority 0 ; }")
    pair.left.run(f"nft add rule inet t out {family} daddr {net}2 udp dport 9 drop")
    for size in (10, 100):
        assert client.send([bytes(size)], 10, size, path, 0) == SendResult(error=errno.EPERM)
    pair.left.ip("link delete eth0")
    for size in (10, 100):
        assert client.send([bytes(size)], 10, size, path, 0).error == errno.ENETUNREACH
    assert datagrams(client, net) == []


@FAMILIES
def test_a_firewall_that_takes_one_of_a_batch_ends_it_there(pair: Pair, net: str) -> None:
    pair.left.run("nft add table inet t")
    pair.left.run("nft add chain inet t out { type filter hook output priority 0 ; }")
    # The first byte of the datagram, behind the UDP header.
    pair.left.run("nft add rule inet t out udp length 1008 @th,64,8 3 drop")
    rows = [bytes((k,)) * 1000 for k in range(10)]
    for gso, gro, recvmmsg, sendmmsg in product((True, False), repeat=4):
        options = DeviceOptions(udp_gso=gso, udp_gro=gro, recvmmsg=recvmmsg, sendmmsg=sendmmsg)
        client, server = pair.left.bind(options), pair.right.bind(options)
        path = Path(Endpoint(f"{net}2", server.port))
        result = client.send([*rows], 1000, 10_000, path, 0)
        # The firewall sees what is cut later as one packet.
        left = 10 if gso else 3
        assert result == (SENT if gso else SendResult(error=errno.EPERM, sent=3000))
        assert client.send([*rows[4:]], 1000, 6000, path, 0) == SENT
        got = [row for _, some in receive(server, net, left + 6) for row in some]
        assert got == rows[:left] + rows[4:]


@FAMILIES
def test_a_mark_is_on_every_datagram(pair: Pair, net: str) -> None:
    pair.left.run("nft add table inet t")
    pair.left.run("nft add chain inet t out { type filter hook output priority 0 ; }")
    for mark in (0x51, 0xFFFFFFFF):
        pair.left.run(f"nft add rule inet t out udp dport 9 meta mark {mark:#x} counter")

    def counted() -> list[int]:
        rules = pair.left.run("nft list ruleset")
        return [int(number) for number in re.findall(r"counter packets (\d+)", rules)]

    client = pair.left.bind(fwmark=0x51)
    path = Path(Endpoint(f"{net}2", 9))
    client.send([b"x"], 1, 1, path, 0)
    assert counted() == [1, 0]
    client.set_fwmark(0xFFFFFFFF)
    client.send([b"x"], 1, 1, path, 0)
    assert counted() == [1, 1]
    client.set_fwmark(0)
    client.send([b"x"], 1, 1, path, 0)
    assert counted() == [1, 1]


# Opening.


def test_a_namespace_with_ipv6_disabled_has_ipv4(pair: Pair) -> None:
    for host in pair:
        host.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
    client, server = pair.left.bind(), pair.right.bind()
    exchange(client, server, "10.0.0.2")
    path = Path(Endpoint("fd00::2", server.port))
    assert client.send([b"x"], 1, 1, path, 0).error in (errno.ENETUNREACH, errno.EADDRNOTAVAIL)


def test_a_port_free_for_ipv4_only_is_not_chosen(pair: Pair) -> None:
    with pair.left.inside():
        pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40003")
        taken = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(("", 40001))
        for _ in range(40):
            bind = Bind.open(0, 0, DeviceOptions())
            assert bind.port in (40000, 40002, 40003)
            bind.close()
    taken.close()


def test_buffers_are_larger_than_what_a_host_allows_everyone(pair: Pair) -> None:
    for sock in pair.left.bind().sockets:
        # The kernel doubles what is asked for.
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 8 << 20
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 << 20
