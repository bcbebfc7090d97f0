"""What waits for something that comes later: an endpoint, a private key, a response."""

from tests.protocol.test_load import _flood
from tests.sim import A4, B4, Datagram, Wire, packet, pair
from wgpy.protocol.config import ZERO_KEY, Endpoint, InterfaceChange
from wgpy.protocol.drops import DropReason

RESPONSE, COOKIE_REPLY = 2, 3


def test_a_persistent_keepalive_waits_for_the_endpoint() -> None:
    wire = Wire()
    alice, bob = wire.node("alice", "192.0.2.1"), wire.node("bob", "192.0.2.2")
    bob.peer(alice, "10.0.0.1/32", endpoint=False)
    alice.peer(bob, "10.0.0.2/32", endpoint=False, keepalive=25)
    wire.run(7)
    alice.peer(bob)
    wire.run(1)
    assert bob.ping(alice, B4, A4)


def test_staged_packets_wait_for_the_first_private_key() -> None:
    wire, alice, bob = pair()
    key = alice.private_key
    alice.configure(InterfaceChange(private_key=ZERO_KEY))
    sent = packet(A4, B4)
    alice.send(sent)
    wire.run(7)
    alice.configure(InterfaceChange(private_key=key))
    wire.run(1)
    assert bob.received == [sent]


def test_a_response_that_comes_after_another_session_is_refused() -> None:
    wire, alice, bob = pair()
    held: list[Datagram] = []

    def hold_first_response(datagram: Datagram) -> list[float]:
        if datagram.type == RESPONSE and datagram.source == bob.endpoint and not held:
            held.append(datagram)
            return []
        return [wire.delay]

    wire.rule = hold_first_response
    alice.send(packet(A4, B4))
    bob.send(packet(B4, A4))
    wire.run(1)
    assert alice.ping(bob, A4, B4)
    assert bob.ping(alice, B4, A4)
    alice.receive([held[0].payload], Endpoint("203.0.113.66", 666))
    alice.timeout()
    assert alice.drops[DropReason.UNKNOWN_INDEX] == 1
    assert alice.peer_stats(bob).endpoint == bob.endpoint
    assert alice.ping(bob, A4, B4)


def test_cookie_replies_are_not_marked() -> None:
    """Only initiations and responses are AF41 in the kernel."""
    wire, alice, bob = pair()
    _flood(wire, bob, 1000)
    alice.send(packet(A4, B4))
    wire.run(1)
    assert {datagram.tos for datagram in wire.sent(COOKIE_REPLY)} == {0}
