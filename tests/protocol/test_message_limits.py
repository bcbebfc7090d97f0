"""Section 6.2 of the whitepaper: after so many messages a session is replaced, and then refused.

2^60 messages cannot be sent in a test, so the counters are set to just before.
"""

import pytest

from tests.sim import A4, B4, Node, pair
from wgpy.protocol.keypair import Keypair

INITIATION, TRANSPORT = 1, 4


def session(node: Node, peer: Node) -> Keypair:
    current = node.interface._peers[peer.public_key].keypairs.current
    assert current is not None
    return current


@pytest.mark.parametrize("initiated", [True, False])
def test_either_side_rekeys_after_2_to_the_60_messages(initiated: bool) -> None:
    wire, alice, bob = pair()
    assert alice.ping(bob, A4, B4)
    assert bob.ping(alice, B4, A4)
    wire.run(6)
    speaker, peer, ends = (alice, bob, (A4, B4)) if initiated else (bob, alice, (B4, A4))
    session(speaker, peer).send_counter = 2**60 - 1
    before = len(wire.sent(INITIATION))
    assert speaker.ping(peer, *ends)
    assert len(wire.sent(INITIATION)) == before, "2^60 messages were not exceeded yet"
    assert speaker.ping(peer, *ends)
    (rekey,) = wire.sent(INITIATION)[before:]
    assert rekey.source == speaker.endpoint
    assert speaker.ping(peer, *ends)
    assert session(speaker, peer).send_counter < 10


def test_a_session_does_not_send_beyond_the_last_counter() -> None:
    wire, alice, bob = pair()
    assert alice.ping(bob, A4, B4)
    assert bob.ping(alice, B4, A4)
    wire.run(6)
    old = session(alice, bob)
    # The kernel's limit, 2^64 - 8128 - 2 in its own numbers.
    old.send_counter = 2**64 - 8128 - 3
    wire.rule = lambda datagram: [] if datagram.type == INITIATION else [wire.delay]
    sent = len(wire.sent(TRANSPORT, alice))
    assert alice.ping(bob, A4, B4)
    (last,) = wire.sent(TRANSPORT, alice)[sent:]
    assert int.from_bytes(last.payload[8:16], "little") == 2**64 - 8128 - 3
    assert not alice.ping(bob, A4, B4)
    assert wire.sent(TRANSPORT, alice)[sent:] == [last]
    wire.mend()
    wire.run(6)
    assert len(bob.received) == 3, "what waited for the new session has arrived"
    assert session(alice, bob) is not old
