"""Sections 5.1, 5.4 and 6 of the whitepaper, between two interfaces under virtual time.

The paper's constants are restated here on purpose: a change in the code must show.
"""

import itertools

import pytest

from tests.sim import A4, A6, B4, B6, Wire, packet, pair
from wgpy.protocol.config import InterfaceChange, PeerChange, Secret
from wgpy.protocol.drops import DropReason

INITIATION, RESPONSE, COOKIE_REPLY, TRANSPORT = 1, 2, 3, 4


def test_one_round_trip_and_the_staged_packet_arrives() -> None:
    wire, alice, bob = pair()
    assert alice.ping(bob, A4, B4)
    assert [d.type for d in wire.log] == [INITIATION, RESPONSE, TRANSPORT]
    assert bob.ping(alice, B4, A4)
    assert len(wire.sent(INITIATION)) == 1


def test_message_sizes_are_those_of_the_paper() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4, size=100)
    sizes = [len(d.payload) for d in wire.log]
    # 100 bytes are padded to 112, and 32 bytes go around them.
    assert sizes == [148, 92, 112 + 32]


def test_reserved_bytes_are_zero_in_all_messages() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    assert all(d.payload[1:4] == b"\0\0\0" for d in wire.log)


def test_handshakes_are_marked_af41_and_data_is_not_marked() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    assert [d.tos for d in wire.log] == [0x88, 0x88, 0]


def test_without_a_packet_the_initiator_confirms_with_an_empty_one() -> None:
    wire, alice, bob = pair()
    alice.peer(bob, keepalive=25)
    wire.run(1)
    assert 32 in [len(d.payload) for d in wire.sent(TRANSPORT)]


def test_packets_of_both_families_arrive_in_order() -> None:
    wire, alice, bob = pair()
    packets = [packet(A4, B4, 100 + i) if i % 2 else packet(A6, B6, 100) for i in range(50)]
    alice.send(*packets)
    wire.run(1)
    assert bob.received == packets


def test_a_wrong_preshared_key_makes_no_session() -> None:
    wire, alice, bob = pair()
    bob.peer(alice, psk=b"x" * 32)
    assert not alice.ping(bob, A4, B4)
    assert wire.sent(RESPONSE)
    assert not wire.sent(TRANSPORT)
    assert alice.drops[DropReason.BAD_HANDSHAKE] == 1


def test_the_same_preshared_key_makes_a_session() -> None:
    _, alice, bob = pair(psk=b"x" * 32)
    assert alice.ping(bob, A4, B4)


def test_initiations_are_repeated_every_five_seconds_with_jitter_for_ninety() -> None:
    wire, alice, _bob = pair()
    wire.cut()
    alice.send(packet(A4, B4))
    wire.run(600)
    times = [d.time for d in wire.sent(INITIATION)]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert all(5.0 <= gap <= 5.0 + 1 / 3 for gap in gaps)
    assert len(set(gaps)) > 1
    # The kernel: the first one, and MAX_TIMER_HANDSHAKES + 1 repetitions.
    assert len(times) == 20
    assert alice.drops[DropReason.HANDSHAKE_FAILED] == 1


def test_a_lost_initiation_or_response_costs_five_seconds_and_no_packet() -> None:
    for lost in (INITIATION, RESPONSE):
        wire, alice, bob = pair()
        seen: list[int] = []

        def lose_first(d, lost=lost, seen=seen, wire=wire):  # type: ignore[no-untyped-def]
            seen.append(d.type)
            return [] if seen.count(lost) == 1 and d.type == lost else [wire.delay]

        wire.rule = lose_first
        sent = packet(A4, B4)
        alice.send(sent)
        wire.run(4.9)
        assert bob.received == []
        wire.run(1)
        assert bob.received == [sent]


def test_staged_packets_are_128_and_the_oldest_is_dropped() -> None:
    wire, alice, bob = pair()
    wire.cut()
    packets = [packet(A4, B4) for _ in range(130)]
    for one in packets:
        alice.send(one)
    wire.mend()
    wire.run(10)
    assert bob.received == packets[2:]
    assert alice.drops[DropReason.STAGED_OVERFLOW] == 2


@pytest.mark.parametrize("delay_a", [0.01, 0.2, 0.5])
@pytest.mark.parametrize("delay_b", [0.01, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_simultaneous_initiations_end_in_one_working_session(
    delay_a: float, delay_b: float, seed: int
) -> None:
    wire, alice, bob = pair(Wire(seed=seed))
    delays = {alice.endpoint: delay_a, bob.endpoint: delay_b}
    wire.rule = lambda d: [delays[d.source]]
    forth, back = packet(A4, B4), packet(B4, A4)
    alice.send(forth)
    bob.send(back)
    # At once, though each has answered the other before its own was answered.
    wire.run(2 * (delay_a + delay_b) + 0.1)
    assert bob.received == [forth]
    assert alice.received == [back]
    wire.mend()
    count = len(wire.sent(INITIATION))
    for _ in range(50):
        assert alice.ping(bob, A4, B4)
        assert bob.ping(alice, B4, A4)
    assert len(wire.sent(INITIATION)) == count


def test_only_the_initiator_rekeys_and_only_when_it_sends_after_120_seconds() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    wire.run(119 - 0.5)
    alice.ping(bob, A4, B4)
    assert len(wire.sent(INITIATION)) == 1
    wire.run(2)
    bob.ping(alice, B4, A4)
    assert len(wire.sent(INITIATION)) == 1
    alice.ping(bob, A4, B4)
    assert len(wire.sent(INITIATION, alice)) == 2
    assert not wire.sent(INITIATION, bob)


def test_an_initiator_that_only_receives_rekeys_after_165_seconds() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    wire.run(163)
    bob.ping(alice, B4, A4)
    assert len(wire.sent(INITIATION)) == 1
    wire.run(3)
    bob.ping(alice, B4, A4)
    assert len(wire.sent(INITIATION, alice)) == 2


def test_no_session_sends_or_receives_after_180_seconds() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    replayed_late = wire.sent(TRANSPORT)[-1]
    wire.run(181)
    before = len(wire.sent(TRANSPORT))
    bob.receive([replayed_late.payload], alice.endpoint)
    assert bob.drops[DropReason.EXPIRED_SESSION] == 1
    wire.cut()
    alice.send(packet(A4, B4))
    wire.run(1)
    assert len(wire.sent(TRANSPORT)) == before
    assert len(wire.sent(INITIATION)) == 2


def test_no_packet_is_lost_or_doubled_over_an_hour_of_traffic() -> None:
    wire, alice, bob = pair()
    forth, back = [], []
    for _ in range(3600):
        forth.append(packet(A4, B4))
        back.append(packet(B4, A4))
        alice.send(forth[-1])
        wire.run(0.5)
        bob.send(back[-1])
        wire.run(0.5)
    assert bob.received == forth
    assert alice.received == back
    # Every 120 seconds, or a second later.
    assert 29 <= len(wire.sent(INITIATION)) <= 31


def test_all_keys_are_erased_540_seconds_after_the_last_session() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    wire.cut()
    wire.run(538)
    assert not [e for e in alice.events if e.kind == "keys erased"]
    wire.run(3)
    assert [e for e in alice.events if e.kind == "keys erased"]
    assert [e for e in bob.events if e.kind == "keys erased"]


def test_silence_is_answered_by_one_keepalive_after_ten_seconds() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    sent = wire.sent(TRANSPORT)[-1].time
    wire.run(60)
    (keepalive,) = wire.sent(TRANSPORT, bob)
    assert len(keepalive.payload) == 32
    assert keepalive.time == pytest.approx(sent + wire.delay + 10, abs=1e-6)
    # A keepalive is not answered.
    assert len(wire.sent(TRANSPORT, alice)) == 1


def test_sending_without_any_answer_starts_a_handshake_after_fifteen_seconds() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    alice.ping(bob, A4, B4)
    bob.ping(alice, B4, A4)
    wire.run(30)
    wire.cut()
    alice.send(packet(A4, B4))
    start = wire.now
    wire.run(14.9)
    assert len(wire.sent(INITIATION)) == 1
    wire.run(0.5)
    assert len(wire.sent(INITIATION)) == 2
    assert 15 <= wire.sent(INITIATION)[-1].time - start <= 15 + 1 / 3


def test_persistent_keepalives_come_at_their_interval_and_stop_when_off() -> None:
    wire, alice, bob = pair()
    alice.peer(bob, keepalive=25)
    wire.run(1)
    before = len(wire.sent(TRANSPORT, alice))
    wire.run(100)
    assert len(wire.sent(TRANSPORT, alice)) - before == 4
    alice.peer(bob, keepalive=0)
    before = len(wire.sent(TRANSPORT, alice))
    wire.run(100)
    assert len(wire.sent(TRANSPORT, alice)) == before


def test_a_restarted_responder_is_found_again() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    bob.restart()
    bob.peer(alice, "10.0.0.1/32")
    alice.send(packet(A4, B4))
    wire.run(30)
    assert alice.ping(bob, A4, B4)


def test_a_restarted_initiator_is_answered_at_once() -> None:
    _wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    alice.restart()
    alice.peer(bob, "10.0.0.2/32")
    assert alice.ping(bob, A4, B4)


def test_a_replayed_initiation_is_refused() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    (initiation,) = wire.sent(INITIATION)
    wire.run(5)
    bob.receive([initiation.payload], alice.endpoint)
    bob.timeout()
    assert bob.drops[DropReason.REPLAYED_INITIATION] == 1
    assert len(wire.sent(RESPONSE)) == 1


def test_a_clock_set_back_makes_initiations_refused_until_it_has_caught_up() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    alice.restart()
    alice.peer(bob, "10.0.0.2/32")
    alice.clock_offset_ns = -20 * 10**9
    assert not alice.ping(bob, A4, B4)
    wire.run(30)
    assert alice.ping(bob, A4, B4)


def test_replayed_transport_messages_are_counted_and_not_delivered() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    message = wire.sent(TRANSPORT)[0]
    before = list(bob.received)
    bob.receive([message.payload] * 5, alice.endpoint)
    assert bob.received == before
    assert bob.drops[DropReason.REPLAYED] == 5


def test_reordered_messages_inside_the_window_are_all_delivered() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    wire.rule = lambda d: [wire.random.random()]
    packets = [packet(A4, B4) for _ in range(1000)]
    alice.send(*packets)
    wire.run(3)
    assert sorted(bob.received[1:]) == sorted(packets)


def test_doubled_messages_are_delivered_once() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    wire.rule = lambda d: [0.01, 0.02]
    packets = [packet(A4, B4) for _ in range(100)]
    alice.send(*packets)
    wire.run(1)
    assert bob.received[1:] == packets


def test_a_new_private_key_ends_sending_and_the_next_handshake_uses_it() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    old_public = alice.public_key
    alice.private_key = Secret(wire.random.randbytes(32))
    alice.configure(InterfaceChange(private_key=alice.private_key))
    public = alice.stats().public_key
    assert public is not None
    alice.public_key = public
    bob.configure(InterfaceChange(peers=(PeerChange(old_public, remove=True),)))
    bob.peer(alice, "10.0.0.1/32")
    assert alice.ping(bob, A4, B4)
    assert bob.ping(alice, B4, A4)


def test_an_interface_that_goes_down_forgets_its_sessions() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    alice.interface.down()
    alice.send(packet(A4, B4))
    assert alice.drops[DropReason.INTERFACE_DOWN] == 1
    assert alice.interface.next_timeout() is None
    alice.interface.up(wire.now)
    assert alice.ping(bob, A4, B4)
    assert len(wire.sent(INITIATION)) == 2


def test_idle_peers_have_no_timers() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    wire.run(2000)
    assert alice.interface.next_timeout() is None
    assert bob.interface.next_timeout() is None


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.4])
@pytest.mark.parametrize("crossing", [False, True])
def test_rekeys_lose_no_packet_that_is_on_its_way(delay: float, crossing: bool) -> None:
    wire, alice, bob = pair(Wire(delay=delay))
    if not crossing:
        alice.ping(bob, A4, B4)
        wire.run(1)
        bob.received.clear()
    forth, back = [], []
    for _ in range(4000):
        forth.append(packet(A4, B4))
        back.append(packet(B4, A4))
        bob.send(back[-1])
        alice.send(forth[-1])
        wire.run(0.1)
    wire.run(1)
    assert alice.received == back
    assert bob.received == forth


def test_sessions_begin_anew_on_demand_but_no_sooner_than_a_handshake_may() -> None:
    wire, alice, bob = pair()
    alice.interface.renew_sessions(wire.now)
    wire.run(20)
    assert not wire.sent(INITIATION)
    assert alice.ping(bob, A4, B4)
    alice.interface.renew_sessions(wire.now)
    wire.run(10)
    first, second = (d.time for d in wire.sent(INITIATION))
    assert second - first >= 5
    wire.run(10)
    alice.interface.renew_sessions(wire.now)
    alice.flush()
    wire.run(1)
    assert len(wire.sent(INITIATION)) == 3


def test_many_peers_at_once_are_a_few_in_each_turn() -> None:
    """So that packets need not wait for all their handshakes, and retries are timed from these."""
    wire = Wire()
    hub, spokes = (
        wire.node("hub", "192.0.2.1"),
        [wire.node("x", f"192.0.2.{k}") for k in range(9, 99)],
    )
    change = (
        PeerChange(s.public_key, endpoint=s.endpoint, persistent_keepalive=25) for s in spokes
    )
    hub.configure(InterfaceChange(peers=tuple(change)))
    assert not wire.sent(INITIATION, hub)
    turns, start = [], wire.now
    while hub.interface.next_deadline() <= wire.now:
        before = len(wire.sent(INITIATION, hub))
        wire.now += 0.01
        hub.timeout()
        turns.append(len(wire.sent(INITIATION, hub)) - before)
    assert sum(turns) == len(spokes)
    assert max(turns) <= 10
    wire.run(4.9 - (wire.now - start))
    assert len(wire.sent(INITIATION, hub)) == len(spokes)
    wire.run(1)
    first, second = wire.sent(INITIATION, hub)[:90], wire.sent(INITIATION, hub)[90:]
    sent = {d.destination: d.time for d in first}
    assert all(5 <= d.time - sent[d.destination] <= 5.4 for d in second)
    assert len(second) == len(spokes)
