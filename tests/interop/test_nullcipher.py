"""The cipher that does nothing is in force: else the benchmark's limit would be none."""

from __future__ import annotations

from itertools import product
from typing import NoReturn

import pytest

from interop.bench.nullcipher import disarm
from tests.sim import A4, B4, Node, packet, pair
from wgpy.protocol import keypair, multibuffer
from wgpy.protocol.constants import MESSAGE_TRANSPORT, TRANSPORT_HEADER_LEN


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> tuple[Node, Node]:
    """Two with a session, as a device makes them: with the cipher for batches that it loads."""
    # For their way back.
    for module, name in ((keypair, "ChaCha20Poly1305"), (multibuffer, "load")):
        monkeypatch.setattr(module, name, getattr(module, name))
    disarm("wgpy")
    _, alice, bob = pair()
    for node in (alice, bob):
        cipher = multibuffer.load()
        assert cipher is not None
        node.interface.use_cipher(cipher)
    assert alice.ping(bob, A4, B4)
    return alice, bob


def test_lone_packets_pass_and_are_not_encrypted(nodes: tuple[Node, Node]) -> None:
    _assert_plain(*nodes, [packet(A4, B4, 84)])


def test_batches_pass_without_a_call_for_each_packet(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in nodes:
        (peer,) = node.interface._peers.values()
        for session, name in product(peer.keypairs, ("seal_into", "open_into")):
            monkeypatch.setattr(session, name, _never)
    _assert_plain(*nodes, [packet(A4, B4, 1400) for _ in range(44)] + [packet(A4, B4, 700)])


def _assert_plain(alice: Node, bob: Node, packets: list[bytes]) -> None:
    before = len(alice.wire.sent(MESSAGE_TRANSPORT, alice))
    alice.send(*packets)
    sent = alice.wire.sent(MESSAGE_TRANSPORT, alice)[before:]
    ends = [TRANSPORT_HEADER_LEN + len(one) for one in packets]
    seen = [d.payload[TRANSPORT_HEADER_LEN:end] for d, end in zip(sent, ends, strict=True)]
    assert seen == packets
    bob.receive([datagram.payload for datagram in sent], alice.endpoint)
    assert bob.received[-len(packets) :] == packets


def _never(*args: object) -> NoReturn:
    raise AssertionError("a packet of a batch was given to the AEAD by itself")
