"""Two nodes whose lanes are real: pods' packets between them, and nothing of it in the clear.

pod ── wgpy-pods ─ a ─ eth0 ════ two lanes ════ eth0 ─ b ─ wgpy-pods ── pod
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from nacl.bindings import crypto_scalarmult_base

from agent.backend import Backend, LaneDesired, LanesDesired
from agent.network.firewall import Firewall
from agent.network.guard import Guard, GuardDesired
from agent.network.links import Link, Links, LinksDesired
from agent.network.routes import Route, Routes, RoutesDesired
from agent.network.ruleset import FirewallDesired
from agent.network.sysctls import Sysctls, node_sysctls
from agent.network.watch import Watch
from interop.shell import wait_until
from tests.system.agentnode import (
    OVERLAY,
    PORT,
    address,
    capture,
    listener,
    received_from,
    send,
    sysctl,
    veth,
)
from tests.system.tunhost import Namespace
from wgpy.protocol.config import (
    AllowedIPChange,
    Endpoint,
    InterfaceChange,
    Network,
    PeerChange,
    Secret,
)

pytestmark = pytest.mark.system

VERSIONS = pytest.mark.parametrize("version", [4, 6])
_MARK = b"not to be seen outside"
_RATE = 500
_PATIENCE = 60.0


@dataclass
class Node:
    """Number 1 or 2, its namespaces, and an agent without Kubernetes."""

    number: int
    state: Path
    lane: int = 0
    _made: list[Namespace] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.host, self.pod = self._namespace("h"), self._namespace("p")
        self.host.ip(*["link", "add", "wgpy-pods", "type", "bridge"])
        self.host.ip(*["link", "set", "wgpy-pods", "up"])
        veth(self.host, "vpod", self.pod, "eth0")
        self.host.ip(*["link", "set", "vpod", "master", "wgpy-pods"])
        for version, length in ((4, 24), (6, 64)):
            gateway, inner = self.cidr(version)[1], self.pod_address(version)
            address(self.host, "wgpy-pods", f"{gateway}/{length}")
            address(self.pod, "eth0", f"{inner}/{length}")
            self.pod.ip(*f"-{version} route add default via {gateway}".split())
        # UAPI sockets are named after interfaces, in one directory for the whole machine.
        self.lanes = tuple(f"an{os.getpid()}{'ab'[self.number - 1]}{i}" for i in (0, 1))
        self.guard, self.firewall, self.links = Guard(), Firewall(), Links()
        self.routes, self.sysctls = Routes(), Sysctls(state=self.state / f"{self.number}.json")
        with self.host.inside():
            self.backend = Backend("userspace", self.lanes)

    def _namespace(self, letter: str) -> Namespace:
        namespace = Namespace(f"an{os.getpid()}{letter}{self.number}")
        self._made.append(namespace)
        for which in ("all", "default"):
            sysctl(namespace, f"net/ipv6/conf/{which}/accept_dad", "0")
        return namespace

    def close(self) -> None:
        with self.host.inside():
            self.backend.remove()
        for namespace in self._made:
            namespace.remove()

    def cidr(self, version: int) -> Network:
        text = {4: f"10.244.{self.number}.0/24", 6: f"fd00:244:0:{self.number}::/64"}
        return ip_network(text[version])

    def pod_address(self, version: int) -> str:
        return str(self.cidr(version)[5])

    def key(self, lane: int) -> Secret:
        return Secret(bytes([self.number, lane]) * 16)

    def outer(self, version: int) -> str:
        return {4: f"192.0.2.{self.number}", 6: f"2001:db8::{self.number}"}[version]

    def reconcile(self, peer: Node) -> list[str]:
        """As an agent does it, in its order."""
        overlay = tuple(OVERLAY.values())
        own = tuple(self.cidr(version).network_address for version in (4, 6))
        far = [peer.cidr(version) for version in (4, 6)]
        firewall = FirewallDesired(self.lanes, overlay, tuple(map(self.cidr, (4, 6))))
        links = LinksDesired(tuple(Link(lane, 1420, own) for lane in self.lanes))
        active = self.lanes[self.lane]
        pods = tuple(Route(n, active, source=a) for n, a in zip(far, own, strict=True))
        with self.host.inside():
            return [
                *self.guard.reconcile(GuardDesired(overlay)),
                *self.firewall.reconcile(firewall),
                *self.backend.reconcile(LanesDesired(tuple(self._lanes(peer)))),
                *self.sysctls.reconcile(node_sysctls(self.lanes, (4, 6))),
                *self.links.reconcile(links),
                *self.routes.reconcile(RoutesDesired(pods)),
            ]

    def _lanes(self, peer: Node) -> Iterator[LaneDesired]:
        for number, name in enumerate(self.lanes):
            # One lane travels over each family.
            endpoint = Endpoint(peer.outer((4, 6)[number]), 51871 + number)
            allowed = tuple(AllowedIPChange(peer.cidr(version)) for version in (4, 6))
            public = crypto_scalarmult_base(bytes(peer.key(number)))
            change = PeerChange(public, endpoint=endpoint, allowed_ips=allowed)
            config = InterfaceChange(
                private_key=self.key(number), listen_port=51871 + number, peers=(change,)
            )
            yield LaneDesired(name, config)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    with ExitStack() as stack:
        one, two = Node(1, tmp_path), Node(2, tmp_path)
        stack.callback(one.close)
        stack.callback(two.close)
        veth(one.host, "eth0", two.host, "eth0")
        for node, peer in ((one, two), (two, one)):
            for version, length in ((4, 24), (6, 64)):
                address(node.host, "eth0", f"{node.outer(version)}/{length}")
                # Without a lane the packet would go to the peer itself, and arrive.
                node.host.ip(*f"-{version} route add default via {peer.outer(version)}".split())
        with capture(one.host, "eth0") as seen:
            for node, peer in ((one, two), (two, one)):
                assert node.reconcile(peer) != []
                assert node.reconcile(peer) == []
            yield one, two
            frames = seen()
        assert len(frames) > 0
        inner = [ip_address(n.pod_address(v)).packed for n in (one, two) for v in (4, 6)]
        clear = [frame for frame in frames if any(word in frame for word in (_MARK, *inner))]
        assert clear == []


def _reaches(source: Node, destination: Node, version: int) -> bool:
    """Whether a datagram between pods comes within a second."""
    with listener(destination.pod, version) as sock:
        send(source.pod, version, destination.pod_address(version), payload=_MARK)
        return received_from(sock, 1.0) == source.pod_address(version)


def _come_to_reach(source: Node, destination: Node, version: int) -> None:
    """A lane needs its handshake first."""
    what = f"pods of node {destination.number} are reached over IPv{version}"
    wait_until(what, partial(_reaches, source, destination, version), _PATIENCE)


@VERSIONS
def test_pods_of_two_nodes_reach_each_other_over_either_lane(
    nodes: tuple[Node, Node], version: int
) -> None:
    one, two = nodes
    for lane in (0, 1):
        for node, peer in ((one, two), (two, one)):
            node.lane = lane
            node.reconcile(peer)
        _come_to_reach(one, two, version)
        _come_to_reach(two, one, version)
    with one.host.inside():
        stats = one.backend.stats()
    assert all(stats[lane].peers[0].last_handshake_ns for lane in one.lanes)


@contextmanager
def _stream(source: Node, destination: Node, version: int) -> Iterator[list[int]]:
    """Numbered datagrams from pod to pod meanwhile; in the end those that are missing."""
    lost: list[int] = []
    ended = threading.Event()
    with source.pod.inside():
        sender = socket.socket({4: socket.AF_INET, 6: socket.AF_INET6}[version], socket.SOCK_DGRAM)
    sender.connect((destination.pod_address(version), PORT))
    sent = 0

    def run() -> None:
        nonlocal sent
        while not ended.wait(1 / _RATE):
            sender.send(_MARK + sent.to_bytes(4, "big"))
            sent += 1

    with listener(destination.pod, version) as sock, sender:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield lost
        finally:
            ended.set()
            thread.join()
        came: set[int] = set()
        while len(came) < sent and select.select([sock], [], [], 5.0)[0]:
            came.add(int.from_bytes(sock.recv(2048)[-4:], "big"))
        lost += sorted(set(range(sent)) - came)
        assert sent > _RATE / 10


@VERSIONS
def test_no_packet_is_lost_while_routes_move_between_lanes(
    nodes: tuple[Node, Node], version: int
) -> None:
    one, two = nodes
    for lane in (1, 0):  # sessions on both
        for node, peer in ((one, two), (two, one)):
            node.lane = lane
            node.reconcile(peer)
        _come_to_reach(one, two, version)
        _come_to_reach(two, one, version)
    with _stream(one, two, version) as there, _stream(two, one, version) as back:
        for lane in (1, 0, 1, 0, 1):
            for node, peer in ((one, two), (two, one)):
                node.lane = lane
                assert len(node.reconcile(peer)) == 2
    assert (there, back) == ([], [])


def test_traffic_is_back_after_a_lane_was_deleted_and_nothing_leaks(
    nodes: tuple[Node, Node],
) -> None:
    one, two = nodes
    _come_to_reach(one, two, 4)
    with one.host.inside():
        watch = Watch([*one.lanes, "wgpy-pods"], OVERLAY.values())
    with watch:
        one.host.ip("link", "del", one.lanes[0])
        assert select.select([watch], [], [], _PATIENCE)[0]
        assert {"lanes", "links", "routes"} <= watch.changes()
        # All of this is for nobody: the route is unreachable.
        for version in (4, 6):
            assert not _reaches(one, two, version)
    one.reconcile(two)
    assert one.reconcile(two) == []
    _come_to_reach(one, two, 4)
    _come_to_reach(two, one, 6)
