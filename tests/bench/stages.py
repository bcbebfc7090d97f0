"""What each stage of the data path costs, alone and hot: so that a regression can be placed.

    python -m tests.bench.stages [DIRECTORY]

Microseconds for a batch, the best of many runs; with a bulk batch of 45 packets, and lone ones. A
directory gets them as stages.json.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np

from tests.sim import A4, B4, Node, packet, pair
from tests.tun.packets import Packet
from tun import Offloads, coalesce, plan
from wgpy.protocol import multibuffer
from wgpy.protocol.batch import DatagramBatch, Layout, PacketBatch, Slab, datagram_size
from wgpy.protocol.config import Endpoint, Secret
from wgpy.protocol.constants import TRANSPORT_HEADER_LEN
from wgpy.protocol.crypto import dh
from wgpy.protocol.keypair import Keypair
from wgpy.protocol.messages import parse_initiation_untrusted
from wgpy.protocol.noise import Handshake, Identity, open_initiation_untrusted, tai64n
from wgpy.protocol.path import Path as NetworkPath
from wgpy.protocol.rowcipher import OneByOne
from wgpy.protocol.transport import open_batch, seal_batch

_MTU = 1420
_SEGMENTS = 45
# IPv4, and TCP with timestamps: 52 bytes of headers.
_PAYLOAD = _MTU - 52
_STAMP = b"\x01\x01\x08\x0a" + bytes(8)
_SECONDS = 0.3
_ALL = Offloads(True, True, True, True, True, True)


def main() -> None:
    print(f"{'stage':44}{'us':>9}{'us/packet':>12}")
    found = {}
    for name, packets, run in [*_stages(), *_handshake_stages()]:
        best = found[name] = round(_best(run), 2)
        print(f"{name:44}{best:9.2f}{best / packets:12.3f}")
    for directory in map(Path, sys.argv[1:]):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "stages.json").write_text(json.dumps(found, indent=1) + "\n")


def _best(run: Callable[[], object]) -> float:
    """Microseconds of the quickest run."""
    best, end = float("inf"), time.perf_counter() + _SECONDS
    # What has to be received anew each time runs out some day.
    with suppress(StopIteration):
        while time.perf_counter() < end:
            started = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - started)
    return best * 1e6


def _stages() -> list[tuple[str, int, Callable[[], object]]]:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    bob.ping(alice, B4, A4)
    path = NetworkPath(Endpoint("192.0.2.1", 51820))
    header, super_packet = _super_packet()
    slab = Slab(256 * 1024)
    layout = slab.layout(datagram_size(_MTU, _MTU))
    rows = layout.matrix[:, TRANSPORT_HEADER_LEN:]
    batch = PacketBatch(layout, _SEGMENTS, _MTU, _MTU, layout.size, True)
    lone = slab.layout(datagram_size(84, _MTU))
    keypair = _keypair(alice)
    openssl = OneByOne()
    cipher = multibuffer.load() or openssl
    for node in (alice, bob):
        node.interface.use_cipher(cipher)
    counters = count(1 << 32, 128)
    received = Slab(128 * 1024)
    bulk, single = received.layout(layout.size), received.layout(64 * 1024)

    def split() -> None:
        plan(header, super_packet).fill(rows, 0, _SEGMENTS)

    def seal() -> None:
        seal_batch(keypair, next(counters), layout, _SEGMENTS, layout.size, cipher)

    def one_by_one() -> None:
        seal_batch(keypair, next(counters), layout, _SEGMENTS, layout.size, openssl)

    def send() -> None:
        split()
        alice.interface.send_packets(batch, wire.now)
        alice.interface.poll_transmits()

    def put_echo() -> None:
        lone.row(0)[TRANSPORT_HEADER_LEN : TRANSPORT_HEADER_LEN + 84] = echo

    def send_lone() -> None:
        put_echo()
        alice.interface.send_packets(PacketBatch(lone, 1, 84, 84, lone.size, True), wire.now)
        alice.interface.poll_transmits()

    def open_() -> None:
        received.view[: len(trains[0])] = trains[0]
        run = DatagramBatch(bulk, _SEGMENTS, bulk.size, path, 0)
        assert not open_batch(opened, run, cipher)

    def receive(datagrams: list[bytes], into: Layout, number: int) -> Callable[[], object]:
        waiting = iter(datagrams)

        def run() -> None:
            data = next(waiting)
            into.slab.view[: len(data)] = data
            size = into.size if number > 1 else len(data)
            bob.interface.receive_datagrams(DatagramBatch(into, number, size, path, 0), wire.now)
            bob.interface.poll_packets()

        return run

    def join(number: int) -> Callable[[], object]:
        lengths = np.full(number, _MTU)
        plain = Slab(256 * 1024).layout(layout.size).matrix[:number, TRANSPORT_HEADER_LEN:]
        made = plan(*_super_packet(number))
        made.fill(plain, 0, number)
        return lambda: coalesce(plain, lengths, _ALL)

    echo = packet(A4, B4, 84)
    split()
    # Each can be received once only.
    trains = [_sealed(alice, batch, split, wire.now) for _ in range(2000)]
    lone_batch = PacketBatch(lone, 1, 84, 84, lone.size, True)
    echoes = [_sealed(alice, lone_batch, put_echo, wire.now) for _ in range(20_000)]
    opened = _keypair(bob)
    return [
        ("split a super-packet", _SEGMENTS, split),
        ("seal_batch, OpenSSL one by one", _SEGMENTS, one_by_one),
        (f"seal_batch, {type(cipher).__name__}", _SEGMENTS, seal),
        ("split and Interface.send_packets", _SEGMENTS, send),
        ("open_batch", _SEGMENTS, open_),
        ("Interface.receive_datagrams", _SEGMENTS, receive(trains, bulk, _SEGMENTS)),
        ("coalesce", _SEGMENTS, join(_SEGMENTS)),
        ("Interface.send_packets, a lone one", 1, send_lone),
        ("Interface.receive_datagrams, a lone one", 1, receive(echoes, single, 1)),
    ]


def _handshake_stages() -> list[tuple[str, int, Callable[[], object]]]:
    alice, bob = (Identity(Secret(letter * 32)) for letter in (b"a", b"b"))
    initiator, responder = Handshake(alice, bob.public), Handshake(bob, alice.public)
    # Each must be newer than the one before.
    seconds = count(1_800_000_000)
    ephemeral = bytes(range(32))

    def initiate() -> bytes:
        return bytes(initiator.create_initiation(1, ephemeral, tai64n(next(seconds) * 10**9)))

    waiting = iter([initiate() for _ in range(4000)])
    times = count()

    def answer() -> None:
        opened = open_initiation_untrusted(bob, parse_initiation_untrusted(next(waiting)))
        accepted = responder.consume_initiation(opened, next(times))
        responder.create_response(accepted, 2, ephemeral)

    return [
        ("Diffie-Hellman", 1, lambda: dh(alice.private, bob.public)),
        ("an initiation made", 1, initiate),
        ("an initiation answered, three DHs in it", 1, answer),
    ]


def _super_packet(segments: int = _SEGMENTS) -> tuple[memoryview, memoryview]:
    """A virtio-net header, and what the host would hand over with it."""
    whole = Packet(bytes(segments * _PAYLOAD), tcp_options=_STAMP)
    return memoryview(whole.virtio(_PAYLOAD)), memoryview(bytearray(whole.partial()))


def _keypair(node: Node) -> Keypair:
    (peer,) = node.interface._peers.values()
    assert peer.keypairs.current is not None
    return peer.keypairs.current


def _sealed(node: Node, batch: PacketBatch, fill: Callable[[], None], now: float) -> bytes:
    fill()
    node.interface.send_packets(batch, now)
    (transmit,) = node.interface.poll_transmits()
    return b"".join(transmit.buffers)


if __name__ == "__main__":
    main()
