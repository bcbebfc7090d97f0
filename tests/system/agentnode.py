"""A node of a cluster for the agent's network: namespaces around it, and packets between them.

        pod ── veth ── wgpy-pods ┐            ┌ wgpy0 ── veth ┐
                                 ├─── node ───┤               ├ far (a pod behind the tunnel)
        world ── veth ──── eth0 ─┘            └ wgpy1 ── veth ┘

The lanes are veths without neighbours, as only their names count here.
"""

import contextlib
import os
import re
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path

from agent.network.base import Address
from agent.network.firewall import Firewall
from agent.network.forwarding import Forwarding, ForwardingDesired
from agent.network.guard import Guard, GuardDesired
from agent.network.iptables import IptablesFirewall
from agent.network.links import Link, Links, LinksDesired
from agent.network.routes import Route, Routes, RoutesDesired
from agent.network.ruleset import FirewallDesired
from agent.network.sysctls import Sysctls, node_sysctls
from tests.system.tunhost import Namespace, ip
from wgpy.protocol.config import Network

OVERLAY: dict[int, Network] = {4: ip_network("10.244.0.0/16"), 6: ip_network("fd00:244::/56")}
LOCAL: dict[int, Network] = {4: ip_network("10.244.3.0/24"), 6: ip_network("fd00:244:0:3::/64")}
FAR: dict[int, Network] = {4: ip_network("10.244.2.0/24"), 6: ip_network("fd00:244:0:2::/64")}
FAR_NODE: dict[int, Network] = {
    4: ip_network("198.51.100.2/32"),
    6: ip_network("2001:db8:2::2/128"),
}
OWN: dict[int, Address] = {4: ip_address("10.244.3.0"), 6: ip_address("fd00:244:0:3::")}
POD = {4: "10.244.3.5", 6: "fd00:244:0:3::5"}
GATEWAY = {4: "10.244.3.1", 6: "fd00:244:0:3::1"}
FAR_POD = {4: "10.244.2.5", 6: "fd00:244:0:2::5"}
WORLD = {4: "192.0.2.2", 6: "2001:db8::2"}
NODE = {4: "192.0.2.1", 6: "2001:db8::1"}
LANES = ("wgpy0", "wgpy1")
ROUTE_MTU = 1300
PORT = 4000
_ROOT = Path(__file__).parents[2]
_ANY = {4: "0.0.0.0", 6: "::"}
_LENGTH = {4: 24, 6: 64}
_FULL = {4: 32, 6: 128}
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
# linux/in.h, in6.h: send from an address that is not ours.
_TRANSPARENT = {4: (socket.IPPROTO_IP, 19), 6: (socket.IPPROTO_IPV6, 75)}
_MAC = "02:00:00:00:00:01"
_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33
_CAPTURED = 1 << 25
PATIENCE = 30.0
_SILENCE = 0.3


@dataclass
class Resources:
    """All of agent.network on one node, and what is desired."""

    state: Path
    versions: tuple[int, ...] = (4, 6)
    firewall: Firewall | IptablesFirewall = field(default_factory=Firewall)

    def __post_init__(self) -> None:
        self.guard = Guard()
        self.forwarding = Forwarding()
        self.links = Links()
        self.routes = Routes()
        self.sysctls = Sysctls(state=self.state / "sysctls.json")

    def reconcile(self, lane: str = "wgpy0") -> list[str]:
        """One pass over everything; what was changed."""
        return [
            *self.guard.reconcile(GuardDesired(self._of(OVERLAY))),
            *self.firewall.reconcile(
                FirewallDesired(LANES, self._of(OVERLAY), self._of(LOCAL), self._of(FAR_NODE))
            ),
            *self.forwarding.reconcile(ForwardingDesired(("wgpy-pods", *LANES))),
            *self.sysctls.reconcile(node_sysctls(LANES, self.versions)),
            *self.links.reconcile(self.wanted_links()),
            *self.routes.reconcile(
                RoutesDesired(
                    tuple(Route(FAR[v], lane, ROUTE_MTU, OWN[v]) for v in self.versions),
                    tuple(Route(FAR_NODE[v], lane) for v in self.versions),
                )
            ),
        ]

    def wanted_links(self) -> LinksDesired:
        own = tuple(OWN[v] for v in self.versions)
        lanes = [Link(lane, 1420, own) for lane in LANES]
        return LinksDesired((*lanes, Link("wgpy-pods", 1420, addresses=None, required=False)))

    def remove(self) -> None:
        for resource in (
            self.routes,
            self.links,
            self.sysctls,
            self.firewall,
            self.forwarding,
            self.guard,
        ):
            resource.remove()

    def _of(self, networks: dict[int, Network]) -> tuple[Network, ...]:
        return tuple(networks[version] for version in self.versions)


class Lab:
    """The namespaces of the picture above."""

    def __init__(self) -> None:
        self._made: list[Namespace] = []

    def __enter__(self) -> "Lab":
        try:
            self.node, self.pod, self.far, self.world = map(self._namespace, "npfw")
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in self._made:
            namespace.remove()

    def _namespace(self, letter: str) -> Namespace:
        namespace = Namespace(f"an{os.getpid()}{letter}")
        self._made.append(namespace)
        for which in ("all", "default"):
            sysctl(namespace, f"net/ipv6/conf/{which}/accept_dad", "0")
        return namespace

    def _build(self) -> None:
        veth(self.node, "eth0", self.world, "eth0")
        self.node.ip(*["link", "add", "wgpy-pods", "type", "bridge"])
        self.node.ip(*["link", "set", "wgpy-pods", "up"])
        veth(self.node, "vpod", self.pod, "eth0")
        self.node.ip(*["link", "set", "vpod", "master", "wgpy-pods"])
        for version, length in _LENGTH.items():
            address(self.node, "eth0", f"{NODE[version]}/{length}")
            address(self.world, "eth0", f"{WORLD[version]}/{length}")
            address(self.node, "wgpy-pods", f"{GATEWAY[version]}/{length}")
            address(self.pod, "eth0", f"{POD[version]}/{length}")
            self.pod.ip(*f"-{version} route add default via {GATEWAY[version]}".split())
            self.node.ip(*f"-{version} route add default via {WORLD[version]}".split())
            # The world would send back what it gets, whomever it is for.
            self.world.ip(*f"-{version} route add default via {NODE[version]}".split())
            address(self.far, "lo", f"{FAR_POD[version]}/{_FULL[version]}")
            address(self.far, "lo", str(FAR_NODE[version]))
        for lane in LANES:
            self.add_lane(lane)

    def add_lane(self, lane: str) -> None:
        other = f"{lane}far"
        veth(self.node, lane, self.far, other, address=_MAC)
        metric = 10 + LANES.index(lane)
        for version in (4, 6):
            self.far.ip(*f"-{version} route add default dev {other} metric {metric}".split())


def veth(
    left: Namespace, name: str, right: Namespace, peer: str, address: str | None = None
) -> None:
    """A pair; with an address both ends have it and look for no neighbours, as WireGuard's."""
    ip(*f"link add {name} netns {left.name} type veth".split(),
       *f"peer name {peer} netns {right.name}".split())  # fmt: skip
    for namespace, end in ((left, name), (right, peer)):
        if address:
            namespace.ip(*f"link set {end} arp off address {address}".split())
        namespace.ip("link", "set", end, "up")


def address(namespace: Namespace, device: str, text: str) -> None:
    nodad = ["nodad"] if ":" in text else []
    namespace.ip("address", "add", text, "dev", device, *nodad)


def sysctl(namespace: Namespace, key: str, value: str | None = None) -> str:
    with namespace.inside():
        path = Path("/proc/sys", key)
        if value is not None:
            path.write_text(value)
        return path.read_text().strip()


def state(namespace: Namespace) -> str:
    """Routes, rules, addresses and MTUs, for comparing."""
    with namespace.inside():
        parts = [
            ip(f"-{version}", *words.split())
            for version in (4, 6)
            for words in ("route show table all", "rule show")
        ]
        links = re.findall(r"^\d+: (\S+): .* (mtu \d+)", ip("-o", "link"), re.MULTILINE)
        return "\n".join([*parts, ip("-o", "address"), *map(" ".join, links)])


@contextlib.contextmanager
def listener(namespace: Namespace, version: int, port: int = PORT) -> Iterator[socket.socket]:
    with namespace.inside():
        sock = socket.socket(_FAMILY[version], socket.SOCK_DGRAM)
    with sock:
        sock.bind((_ANY[version], port))
        yield sock


def send(
    namespace: Namespace, version: int, destination: str, source: str | None = None,
    payload: bytes = b"hello", port: int = PORT,
) -> None:  # fmt: skip
    """A datagram; from a source that may be anybody's."""
    with namespace.inside():
        sock = socket.socket(_FAMILY[version], socket.SOCK_DGRAM)
    with sock:
        if source:
            sock.setsockopt(*_TRANSPARENT[version], 1)
            sock.bind((source, 0))
        with contextlib.suppress(OSError):  # no route: that is for the test to see
            sock.sendto(payload, (destination, port))


@contextlib.contextmanager
def flood(namespace: Namespace, to: str) -> Iterator[None]:
    """Datagrams all the time, to a port where nobody need listen."""
    argv = [sys.executable, "-m", "tests.system.flooder", to, str(PORT)]
    child = subprocess.Popen(
        ["ip", "netns", "exec", namespace.name, *argv],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield
        sent = int(child.communicate(timeout=PATIENCE)[0])
    finally:
        child.kill()
        child.wait()
    assert sent > 1000


def received_from(sock: socket.socket, patience: float = PATIENCE) -> str | None:
    """Source of the next datagram, None if none comes."""
    if not select.select([sock], [], [], patience)[0]:
        return None
    return str(sock.recvfrom(2048)[1][0])


def nothing_comes(sock: socket.socket) -> bool:
    return received_from(sock, _SILENCE) is None


@contextlib.contextmanager
def capture(namespace: Namespace, device: str) -> Iterator[Callable[[], list[bytes]]]:
    """All frames that cross a device meanwhile."""
    with namespace.inside():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _CAPTURED)
        sock.bind((device, _ETH_P_ALL))

    def seen() -> list[bytes]:
        time.sleep(_SILENCE)
        frames = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frames.append(sock.recv(65536))
        return frames

    with sock:
        sock.setblocking(False)
        yield seen


def accepted_segment_size(
    client: Namespace, server: Namespace, version: int, destination: str
) -> int:
    """Payload bytes of the segments that the server may send on a connection from the client."""
    with server.inside():
        listening = socket.socket(_FAMILY[version], socket.SOCK_STREAM)
    with client.inside():
        connecting = socket.socket(_FAMILY[version], socket.SOCK_STREAM)
    with listening, connecting:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((_ANY[version], PORT))
        listening.listen()
        for sock in (listening, connecting):
            sock.settimeout(PATIENCE)
        connecting.connect((destination, PORT))
        accepted, _ = listening.accept()
        with accepted:
            return accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


def transmit(namespace: Namespace, device: str, frame: bytes) -> None:
    with namespace.inside():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.bind((device, 0))
    with sock:
        sock.send(frame)


def advertisement(version: int, mac: str, claimed: str) -> bytes:
    """A frame to all that says: `claimed` is at `mac` (ARP, or a neighbour advertisement)."""
    hardware = bytes.fromhex(mac.replace(":", ""))
    target = ip_address(claimed).packed
    if version == 4:
        arp = bytes.fromhex("0001080006040002") + hardware + target + b"\xff" * 6 + target
        return b"\xff" * 6 + hardware + b"\x08\x06" + arp
    # From a link-local address: who advertises need not have the address it speaks of.
    source, everyone = ip_address("fe80::1").packed, ip_address("ff02::1").packed
    body = bytes.fromhex("88000000 20000000") + target + b"\x02\x01" + hardware
    words = source + everyone + struct.pack("!II", len(body), 58) + body
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    checksum = ~(total % 0xFFFF) & 0xFFFF
    body = body[:2] + struct.pack("!H", checksum) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source + everyone
    return bytes.fromhex("333300000001") + hardware + b"\x86\xdd" + header + body
