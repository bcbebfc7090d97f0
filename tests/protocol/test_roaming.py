"""Section 2.1: endpoints follow authenticated packets, and nothing else."""

from tests.sim import A4, B4, packet, pair
from wgpy.protocol.config import Endpoint
from wgpy.protocol.drops import DropReason
from wgpy.protocol.path import Path, Source


def test_a_peer_without_endpoint_is_learned_from_its_initiation() -> None:
    _wire, alice, bob = pair()
    bob.restart()
    bob.peer(alice, "10.0.0.1/32", endpoint=False)
    assert alice.ping(bob, A4, B4)
    assert bob.peer_stats(alice).endpoint == alice.endpoint
    assert bob.ping(alice, B4, A4)


def test_the_responder_follows_the_initiator_and_the_other_way_round() -> None:
    _wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    alice.move("198.51.100.7", 1234)
    assert alice.ping(bob, A4, B4)
    assert bob.peer_stats(alice).endpoint == Endpoint("198.51.100.7", 1234)
    assert bob.ping(alice, B4, A4)
    bob.move("2001:db8::9")
    assert bob.ping(alice, B4, A4)
    assert alice.peer_stats(bob).endpoint == Endpoint("2001:db8::9", 51820)
    assert alice.ping(bob, A4, B4)


def test_no_unauthenticated_datagram_moves_an_endpoint() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    attacker = Endpoint("203.0.113.66", 666)
    for datagram in list(wire.log):
        for position in (0, 4, 8, 20, len(datagram.payload) - 1):
            bad = bytearray(datagram.payload)
            bad[position] ^= 1
            bob.receive([bytes(bad)], attacker)
            alice.receive([bytes(bad)], attacker)
        bob.receive([datagram.payload], attacker)
        alice.receive([datagram.payload], attacker)
    wire.run(1)
    assert bob.peer_stats(alice).endpoint == alice.endpoint
    assert alice.peer_stats(bob).endpoint == bob.endpoint
    assert not [d for d in wire.log if d.destination == attacker]


def test_an_answer_leaves_from_the_address_that_was_spoken_to() -> None:
    _wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    bob.address_spoken_to = Source("192.0.2.77", 3)
    alice.ping(bob, A4, B4)
    assert bob.ping(alice, B4, A4)
    assert bob.paths[-1] == Path(alice.endpoint, Source("192.0.2.77", 3))
    bob.interface.forget_sources(lambda path: True)
    assert bob.ping(alice, B4, A4)
    assert bob.paths[-1].source is not None
    bob.interface.forget_sources(lambda path: False)
    assert bob.ping(alice, B4, A4)
    assert bob.paths[-1] == Path(alice.endpoint)


def test_spoofed_inner_sources_are_dropped_and_counted_for_the_peer() -> None:
    _wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    assert not alice.ping(bob, "10.0.0.66", B4)
    assert bob.drops[DropReason.BAD_SOURCE] == 1
    assert bob.peer_stats(alice).drops[DropReason.BAD_SOURCE] == 1


def test_a_packet_nobody_owns_is_answered_with_host_unreachable() -> None:
    _wire, alice, _bob = pair()
    alice.interface.set_own_addresses(bytes([10, 0, 0, 1]), None)
    alice.send(packet(A4, "10.9.9.9"))
    assert alice.drops[DropReason.NO_ROUTE] == 1
    (error,) = alice.received
    # ICMP, type 3 code 1, from us to the sender, quoting its packet.
    assert error[9] == 1
    assert error[20:22] == bytes([3, 1])
    assert error[16:20] == bytes([10, 0, 0, 1])


def test_a_peer_without_endpoint_is_answered_with_host_unreachable() -> None:
    _wire, alice, bob = pair()
    alice.restart()
    alice.peer(bob, "10.0.0.2/32", endpoint=False)
    alice.interface.set_own_addresses(bytes([10, 0, 0, 1]), None)
    alice.send(packet(A4, B4))
    assert alice.drops[DropReason.NO_ENDPOINT] == 1
    assert alice.received[0][20:22] == bytes([3, 1])
