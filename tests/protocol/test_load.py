"""Section 5.3 and 6.5: under load, cookies before curves; and always bounded work."""

import pytest

from tests.sim import A4, B4, Node, Wire, packet, pair
from wgpy.protocol.config import ZERO_KEY, Endpoint, Secret
from wgpy.protocol.cookie import CookieGenerator
from wgpy.protocol.drops import DropReason
from wgpy.protocol.noise import Handshake, Identity, tai64n

INITIATION, RESPONSE, COOKIE_REPLY = 1, 2, 3


def _flood(wire: Wire, victim: Node, count: int) -> None:
    """Fill the queue with initiations that have a good mac1 and decrypt to nothing."""
    identity = Identity(Secret(wire.random.randbytes(32)))
    handshake = Handshake(identity, victim.public_key, ZERO_KEY)
    message = handshake.create_initiation(7, wire.random.randbytes(32), tai64n(0))
    CookieGenerator(victim.public_key).add_macs(message, wire.now)
    for k in range(count):
        # The shell would call once for each; all arrive before the first is worked on.
        source = Endpoint(f"198.51.{k // 250 % 250}.{k % 250 + 1}", 1000 + k % 60000)
        victim.receive([bytes(message)], source)


def test_under_load_a_handshake_costs_a_cookie_and_then_succeeds() -> None:
    wire, alice, bob = pair()
    _flood(wire, bob, 1000)
    assert bob.interface.next_deadline() < wire.now
    alice.send(packet(A4, B4))
    wire.run(0.02)
    _flood(wire, bob, 1000)
    wire.run(0.3)
    replies = [d for d in wire.sent(COOKIE_REPLY, bob) if d.destination == alice.endpoint]
    assert len(replies) == 1
    assert len(replies[0].payload) == 64
    _flood(wire, bob, 1000)
    wire.run(5.5)
    second = wire.sent(INITIATION, alice)[-1]
    assert second.payload[-16:] != bytes(16)
    assert wire.sent(INITIATION, alice)[0].payload[-16:] == bytes(16)
    wire.run(1)
    assert bob.received


def test_under_load_nobody_without_a_cookie_gets_a_response() -> None:
    wire, _alice, bob = pair()
    _flood(wire, bob, 4000)
    wire.run(0.5)
    assert bob.drops[DropReason.COOKIE_SENT] > 3000
    assert not wire.sent(RESPONSE, bob)


def test_the_queue_of_handshakes_is_bounded() -> None:
    wire, _alice, bob = pair()
    _flood(wire, bob, 5000)
    assert bob.drops[DropReason.HANDSHAKE_QUEUE_FULL] == 5000 - 4096


def test_one_turn_of_work_is_bounded() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    _flood(wire, bob, 400)
    before = sum(bob.drops.values())
    bob.timeout()
    # Four or five curves, and data has its turn again.
    assert 1 <= sum(bob.drops.values()) - before <= 5
    sent = packet(A4, B4)
    alice.send(sent)
    message = wire.sent(4)[-1]
    bob.receive([message.payload], alice.endpoint)
    assert sent in bob.received


@pytest.mark.parametrize("length", [0, 1, 3, 4, 31, 32, 63, 64, 91, 92, 147, 148, 149, 1500])
def test_garbage_of_any_length_and_type_is_counted_and_nothing_else(length: int) -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    before = sum(bob.drops.values())
    sent = len(wire.log)
    for kind in range(6):
        garbage = bytes([kind, 0, 0, 0]) + wire.random.randbytes(1500)
        bob.receive([garbage[:length]], Endpoint("203.0.113.9", 9))
        bob.timeout()
    assert sum(bob.drops.values()) == before + 6
    assert len(wire.log) == sent
    assert alice.ping(bob, A4, B4)
