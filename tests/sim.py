"""A network of interfaces under virtual time: a wire that can be cut, delayed, reordered, doubled.

Nothing here sleeps or reads a clock. A node is an Interface with an address; what it sends comes
out at the node that has the address, `delay` seconds later, after the wire's `rules` were asked.
"""

import heapq
import random
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import count

from wgpy.protocol.batch import DatagramBatch, PacketBatch, PacketRows, Slab, datagram_size
from wgpy.protocol.config import (
    AllowedIPChange,
    Endpoint,
    InterfaceChange,
    InterfaceStats,
    PeerChange,
    PeerStats,
    Secret,
)
from wgpy.protocol.constants import TRANSPORT_HEADER_LEN
from wgpy.protocol.events import Event
from wgpy.protocol.interface import Interface
from wgpy.protocol.noise import Identity
from wgpy.protocol.path import Path, Source

# 2026-01-01, so that TAI64N timestamps look real.
_EPOCH_NS = 1_767_225_600 * 10**9


@dataclass(frozen=True)
class Datagram:
    """One datagram on the wire."""

    time: float
    source: Endpoint
    destination: Endpoint
    payload: bytes
    tos: int

    @property
    def type(self) -> int:
        return self.payload[0]


# Returns the delays after which copies of a datagram arrive: none to lose it, two to double it.
Rule = Callable[[Datagram], Iterable[float]]


class Wire:
    """Connects nodes by endpoint, and keeps all that was sent."""

    def __init__(self, *, delay: float = 0.01, seed: int = 1) -> None:
        self.now = 1000.0
        self.delay = delay
        self.random = random.Random(seed)
        self.nodes: dict[Endpoint, Node] = {}
        self.log: list[Datagram] = []
        self.rule: Rule = lambda datagram: [self.delay]
        self._flying: list[tuple[float, int, Datagram]] = []
        self._order = count()

    def node(self, name: str, host: str, port: int = 51820) -> "Node":
        node = Node(self, name, Endpoint(host, port))
        self.nodes[node.endpoint] = node
        return node

    def cut(self) -> None:
        """Nothing arrives any more."""
        self.rule = lambda datagram: []

    def mend(self) -> None:
        self.rule = lambda datagram: [self.delay]

    def send(self, datagram: Datagram) -> None:
        self.log.append(datagram)
        for delay in self.rule(datagram):
            heapq.heappush(self._flying, (self.now + delay, next(self._order), datagram))

    def run(self, seconds: float = 1.0) -> None:
        """Let virtual time pass: datagrams arrive and timers fire in the order of their times."""
        end = self.now + seconds
        while True:
            arrival = self._flying[0][0] if self._flying else float("inf")
            waking = min(self.nodes.values(), key=lambda node: node.interface.next_deadline())
            deadline = max(waking.interface.next_deadline(), self.now)
            if min(arrival, deadline) > end:
                break
            if arrival <= deadline:
                self.now = max(self.now, arrival)
                datagram = heapq.heappop(self._flying)[2]
                node = self.nodes.get(datagram.destination)
                if node is not None:
                    node.receive([datagram.payload], datagram.source, datagram.tos & 3)
            else:
                self.now = deadline
                waking.timeout()
        self.now = end

    def sent(self, type_: int, by: "Node | None" = None) -> list[Datagram]:
        """What was sent of one message type."""
        return [
            datagram
            for datagram in self.log
            if datagram.type == type_ and (by is None or datagram.source == by.endpoint)
        ]


class Node:
    """An interface with an address on the wire."""

    def __init__(self, wire: Wire, name: str, endpoint: Endpoint) -> None:
        self.wire = wire
        self.name = name
        self.endpoint = endpoint
        self.private_key = Secret(wire.random.randbytes(32))
        self.public_key = Identity(self.private_key).public
        self.clock_offset_ns = 0
        self.received: list[bytes] = []
        self.events: list[Event] = []
        # The local address that datagrams come to, and the paths on which ours left.
        self.address_spoken_to: Source | None = None
        self.paths: list[Path] = []
        self._slab = Slab(256 * 1024)
        self._receive_slab = Slab(64 * 1024)
        self.interface = self._new_interface()

    def _new_interface(self) -> Interface:
        def wall_ns() -> int:
            return _EPOCH_NS + int(self.wire.now * 1e9) + self.clock_offset_ns

        interface = Interface(self.wire.random.randbytes, wall_ns)
        interface.configure(
            InterfaceChange(private_key=self.private_key, listen_port=self.endpoint.port),
            self.wire.now,
        )
        interface.up(self.wire.now)
        return interface

    def restart(self) -> None:
        """A new process with the same key: sessions, peers and timers are gone."""
        self.interface = self._new_interface()

    def move(self, host: str, port: int | None = None) -> None:
        """Get another address."""
        del self.wire.nodes[self.endpoint]
        self.endpoint = Endpoint(host, self.endpoint.port if port is None else port)
        self.wire.nodes[self.endpoint] = self

    # Configuration.

    def configure(self, change: InterfaceChange) -> None:
        self.interface.configure(change, self.wire.now)
        self.flush()

    def peer(
        self,
        other: "Node",
        *allowed_ips: str,
        endpoint: bool = True,
        psk: bytes | None = None,
        keepalive: int | None = None,
    ) -> None:
        """Make `other` a peer."""
        self.configure(
            InterfaceChange(
                peers=(
                    PeerChange(
                        other.public_key,
                        endpoint=other.endpoint if endpoint else None,
                        preshared_key=None if psk is None else Secret(psk),
                        persistent_keepalive=keepalive,
                        allowed_ips=tuple(AllowedIPChange(ip_network(a)) for a in allowed_ips),
                    ),
                )
            )
        )

    def stats(self) -> InterfaceStats:
        return self.interface.snapshot()

    def peer_stats(self, other: "Node") -> PeerStats:
        return next(p for p in self.stats().peers if p.public_key == other.public_key)

    @property
    def drops(self) -> dict[str, int]:
        return self.stats().drops

    # Packets.

    def send(self, *packets: bytes) -> None:
        """Packets from the host, in batches as a shell would make them."""
        rest = list(packets)
        while rest:
            size = len(rest[0])
            batch = [rest.pop(0)]
            layout = self._slab.layout(datagram_size(size, self.interface.mtu))
            while rest and len(batch) < layout.capacity and len(rest[0]) <= size:
                batch.append(rest.pop(0))
                if len(batch[-1]) < size:
                    break
            for k, packet in enumerate(batch):
                layout.row(k)[TRANSPORT_HEADER_LEN : TRANSPORT_HEADER_LEN + len(packet)] = packet
            last = len(batch[-1])
            last_datagram = datagram_size(last, self.interface.mtu)
            self.interface.send_packets(
                PacketBatch(layout, len(batch), size, last, last_datagram, False), self.wire.now
            )
            self.flush()

    def receive(self, payloads: list[bytes], source: Endpoint, ecn: int = 0) -> None:
        """Datagrams from the network: all of the first one's size but the last."""
        size = len(payloads[0])
        layout = self._receive_slab.layout(size if len(payloads) > 1 else 64 * 1024)
        for k, payload in enumerate(payloads):
            layout.slab.view[k * layout.stride : k * layout.stride + len(payload)] = payload
        path = Path(source, self.address_spoken_to)
        batch = DatagramBatch(layout, len(payloads), len(payloads[-1]), path, ecn)
        self.interface.receive_datagrams(batch, self.wire.now)
        self.flush()

    def timeout(self) -> None:
        self.interface.handle_timeout(self.wire.now)
        self.flush()

    def flush(self) -> None:
        """Move outputs to the wire and to the host."""
        for transmit in self.interface.poll_transmits():
            self.paths.append(transmit.path)
            data = b"".join(transmit.buffers)
            assert len(data) == transmit.size
            for start in range(0, len(data), transmit.segment):
                payload = data[start : start + transmit.segment]
                destination = transmit.path.endpoint
                now = self.wire.now
                self.wire.send(Datagram(now, self.endpoint, destination, payload, transmit.tos))
        for item in self.interface.poll_packets():
            if isinstance(item, PacketRows):
                for k, length in enumerate(item.lengths.tolist(), item.first):
                    row = item.layout.row(k)[TRANSPORT_HEADER_LEN:]
                    self.received.append(bytes(row[:length]))
            else:
                self.received.append(bytes(item))
        self.events += self.interface.poll_events()

    def ping(self, other: "Node", source: str, destination: str, size: int = 64) -> bool:
        """Send one packet and let it arrive."""
        sent = packet(source, destination, size)
        before = len(other.received)
        self.send(sent)
        self.wire.run(0.5)
        return sent in other.received[before:]


def pair(wire: Wire | None = None, **options: bytes | int) -> tuple[Wire, Node, Node]:
    """Alice (10.0.0.1, fd00::1) and Bob (10.0.0.2, fd00::2), each other's peer."""
    wire = wire or Wire()
    alice, bob = wire.node("alice", "192.0.2.1"), wire.node("bob", "192.0.2.2")
    alice.peer(bob, "10.0.0.2/32", "fd00::2/128", **options)  # type: ignore[arg-type]
    bob.peer(alice, "10.0.0.1/32", "fd00::1/128", **options)  # type: ignore[arg-type]
    return wire, alice, bob


_numbers = count(1)


def packet(source: str, destination: str, size: int = 64, *, tos: int = 0) -> bytes:
    """An inner packet of `size` bytes that no other call returns."""
    src, dst = ip_address(source), ip_address(destination)
    if src.version == 4:
        head = struct.pack(">BBHHBBBBH", 0x45, tos, size, 0, 0x40, 0, 64, 253, 0)
        head += src.packed + dst.packed
        total = sum(struct.unpack(">10H", head))
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        head = head[:10] + struct.pack(">H", checksum) + head[12:]
    else:
        word = 6 << 28 | tos << 20
        head = struct.pack(">IHBB", word, size - 40, 253, 64) + src.packed + dst.packed
    body = next(_numbers).to_bytes(8, "big") * (size // 8 + 1)
    return head + body[: size - len(head)]


# Alice and Bob's inner addresses.
A4, B4, A6, B6 = "10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"
