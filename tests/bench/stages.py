"""What each stage of the data path costs, alone and hot: so that a regression can be placed.

    python -m tests.bench.stages [--seconds S] [DIRECTORY]

Microseconds for a batch, the best of many runs, and how many times those of docs/bench they are;
with a bulk batch of 45 packets, and lone ones. A directory gets them as stages.json. A TUN and
sockets take root, and are left out without.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from itertools import count, cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.bench.iostages import io_stages
from tests.bench.stage import Stage, best
from tests.sim import A4, B4, Node, packet, pair
from tests.tun.packets import Packet
from tun import Offloads, coalesce, plan
from wgpy.protocol import multibuffer
from wgpy.protocol.allowedips import AllowedIPs
from wgpy.protocol.batch import DatagramBatch, Layout, PacketBatch, Slab, datagram_size
from wgpy.protocol.config import Endpoint, Secret
from wgpy.protocol.constants import TRANSPORT_HEADER_LEN
from wgpy.protocol.crypto import dh
from wgpy.protocol.keypair import Keypair
from wgpy.protocol.messages import parse_initiation_untrusted
from wgpy.protocol.noise import Handshake, Identity, open_initiation_untrusted, tai64n
from wgpy.protocol.path import Path as NetworkPath
from wgpy.protocol.replay import ReplayWindow
from wgpy.protocol.rowcipher import OneByOne
from wgpy.protocol.transport import open_batch, seal_batch

_MTU = 1420
_SEGMENTS = 45
# IPv4, and TCP with timestamps: 52 bytes of headers.
_PAYLOAD = _MTU - 52
_STAMP = b"\x01\x01\x08\x0a" + bytes(8)
# Peers with an address each; and addresses, more than are remembered, of which most have no owner.
_NETWORK, _PEERS, _ADDRESSES = 10 << 24, 1000, 5000
_ALL = Offloads(True, True, True, True, True, True)
_STORED = Path(__file__).parents[2] / "docs" / "bench" / "stages.json"


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    stored: dict[str, float] = json.loads(_STORED.read_text())
    found = {}
    print(f"{'stage':44}{'us':>9}{'us/packet':>12}{'of stored':>12}")
    with ExitStack() as stack:
        stages = [*_stages(), *_table_stages(), *_handshake_stages()]
        if os.geteuid() == 0:
            stages += stack.enter_context(io_stages(*_super_packet(), _SEGMENTS, _MTU))
        else:
            print("without root: neither TUN nor sockets")
        for stage in stages:
            took = found[stage.name] = round(best(stage, options.seconds), 2)
            ratio = f"{took / stored[stage.name]:.2f}" if stage.name in stored else "-"
            print(f"{stage.name:44}{took:9.2f}{took / stage.packets:12.3f}{ratio:>12}")
    if options.directory is not None:
        options.directory.mkdir(parents=True, exist_ok=True)
        (options.directory / "stages.json").write_text(json.dumps(found, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stages")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each stage (0.3)")
    parser.add_argument("directory", type=Path, nargs="?", help="for stages.json")
    return parser


def _stages() -> list[Stage]:
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
        Stage("split a super-packet", _SEGMENTS, split),
        Stage("seal_batch, OpenSSL one by one", _SEGMENTS, one_by_one),
        Stage(f"seal_batch, {type(cipher).__name__}", _SEGMENTS, seal),
        Stage("split and Interface.send_packets", _SEGMENTS, send),
        Stage("open_batch", _SEGMENTS, open_),
        Stage("Interface.receive_datagrams", _SEGMENTS, receive(trains, bulk, _SEGMENTS)),
        Stage("coalesce", _SEGMENTS, join(_SEGMENTS)),
        Stage("Interface.send_packets, a lone one", 1, send_lone),
        Stage("Interface.receive_datagrams, a lone one", 1, receive(echoes, single, 1)),
    ]


def _table_stages() -> list[Stage]:
    """What is looked up and noted for each packet."""
    routes = AllowedIPs[int]()
    for peer in range(_PEERS):
        routes.insert(ip_network((_NETWORK + peer, 32)), peer)
    addresses = [(_NETWORK + n).to_bytes(4, "big") for n in range(_ADDRESSES)]
    known, others = addresses[:_SEGMENTS], cycle(addresses)
    in_order, shuffled = ReplayWindow(), ReplayWindow()

    def look_up(some: Iterator[bytes]) -> None:
        for address in some:
            routes.lookup(address)

    def counters() -> Iterator[NDArray[np.uint64]]:
        for first in count(0, _SEGMENTS):
            yield np.arange(first, first + _SEGMENTS, dtype=np.uint64)

    runs, backwards = counters(), (run[::-1] for run in counters())
    return [
        Stage("AllowedIPs.lookup, known", _SEGMENTS, lambda: look_up(iter(known))),
        Stage("AllowedIPs.lookup, new", _SEGMENTS, lambda: look_up(islice(others, _SEGMENTS))),
        Stage("replay window, in order", _SEGMENTS, lambda: in_order.accept_run(next(runs))),
        Stage(
            "replay window, out of order",
            _SEGMENTS,
            lambda: shuffled.accept_batch(next(backwards)),
        ),
    ]


def _handshake_stages() -> list[Stage]:
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
        Stage("Diffie-Hellman", 1, lambda: dh(alice.private, bob.public)),
        Stage("an initiation made", 1, initiate),
        Stage("an initiation answered, three DHs in it", 1, answer),
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
