"""One interface in several processes: no nonce twice, nothing lost, figures that add up."""

import random
from collections import defaultdict
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim import A4, B4, Datagram, Node, Wire, packet
from wgpy.protocol.batch import DatagramBatch, PacketBatch, PacketRows, Slab, datagram_size
from wgpy.protocol.config import Endpoint, InterfaceChange
from wgpy.protocol.constants import TRANSPORT_HEADER_LEN
from wgpy.protocol.events import EventKind
from wgpy.protocol.follower import Follower
from wgpy.protocol.interface import Interface
from wgpy.protocol.leader import Leader, for_follower
from wgpy.protocol.path import Path
from wgpy.protocol.shared import Stray, owner_of
from wgpy.protocol.sharing import Ticket

_OWNERS = 3
# Few places, so that they are given to others soon.
_PLACES = 4
_C4 = "10.0.0.3"


class _Counters:
    """The shared table as it is in memory: places, each with a tag."""

    def __init__(self) -> None:
        self.places: dict[int, list[int]] = {}
        self.tags = 0

    def new(self) -> "_Counter":
        self.tags += 1
        slot = self.tags % _PLACES
        self.places[slot] = [self.tags, 0, 0]
        return _Counter(self, Ticket(slot, self.tags))


class _Counter:
    def __init__(self, counters: _Counters, ticket: Ticket) -> None:
        self.counters = counters
        self.ticket = ticket

    def take(self, count: int) -> int | None:
        place = self.counters.places[self.ticket.slot]
        if place[0] != self.ticket.tag:
            return None
        place[1] += count
        return place[1] - count

    def confirm(self) -> None:
        place = self.counters.places[self.ticket.slot]
        if place[0] == self.ticket.tag:
            place[2] = self.ticket.tag

    @property
    def confirmed(self) -> bool:
        return self.counters.places[self.ticket.slot][2] == self.ticket.tag

    def free(self) -> None: ...


class _Shared(Node):
    """A node whose packets several processes carry; messages between them take their time."""

    def __init__(self, wire: Wire, name: str, endpoint: Endpoint) -> None:
        self.counters = _Counters()
        self.followers: list[Follower] = []
        # What is under way between the processes, each way of each follower in order.
        self.to_follower: dict[int, list[Callable[[], None]]] = defaultdict(list)
        self.to_leader: dict[int, list[Callable[[], None]]] = defaultdict(list)
        self.delayed = False
        # Reports wait, while all else arrives.
        self.slow_reports = False
        self.reports: list[Callable[[], None]] = []
        super().__init__(wire, name, endpoint)
        for number in range(1, _OWNERS):
            self.followers.append(self._new_follower(number))

    def _new_interface(self) -> Interface:
        def wall_ns() -> int:
            return 1_767_225_600 * 10**9 + int(self.wire.now * 1e9)

        leader = Leader(self.wire.random.randbytes, wall_ns, _OWNERS, self.counters.new)
        leader.configure(
            InterfaceChange(private_key=self.private_key, listen_port=self.endpoint.port),
            self.wire.now,
        )
        leader.up(self.wire.now)
        return leader

    @property
    def leader(self) -> Leader:
        assert isinstance(self.interface, Leader)
        return self.interface

    def _new_follower(self, number: int) -> Follower:
        follower = Follower(
            self.wire.random.randbytes,
            lambda: 0,
            number,
            _OWNERS,
            lambda ticket: _Counter(self.counters, ticket),
        )
        follower.up(self.wire.now)
        follower.configure(for_follower(self.leader.configuration()), self.wire.now)
        for state in self.leader.states():
            follower.set_peer_state(state, self.wire.now)
        return follower

    def kill(self, number: int) -> None:
        """A follower dies, with all that was under way to and from it, and is replaced."""
        self.to_follower[number].clear()
        self.to_leader[number].clear()
        self.leader.bury(number, self.wire.now)
        self.followers[number - 1] = self._new_follower(number)
        self.flush()

    def configured(self) -> None:
        """Tell the followers of the peers."""
        for follower in self.followers:
            follower.configure(for_follower(self.leader.configuration()), self.wire.now)
            for state in self.leader.states():
                follower.set_peer_state(state, self.wire.now)
        self.flush()

    # Packets: from the host by the process that has their flow, from the network by the owner.

    def send_by(self, process: int, *packets: bytes) -> None:
        interface = self.leader if process == 0 else self.followers[process - 1]
        slab = Slab(256 * 1024)
        for one in packets:
            layout = slab.layout(datagram_size(len(one), interface.mtu))
            layout.row(0)[TRANSPORT_HEADER_LEN : TRANSPORT_HEADER_LEN + len(one)] = one
            batch = PacketBatch(layout, 1, len(one), len(one), layout.size, True)
            interface.send_packets(batch, self.wire.now)
            self._move(process)
        self.flush()

    def receive(self, payloads: list[bytes], source: Endpoint, ecn: int = 0) -> None:
        for payload in payloads:
            process = 0
            if payload[0] == 4:
                process = owner_of(int.from_bytes(payload[4:8], "little"), _OWNERS)
            self._receive(process, Stray(payload, Path(source), ecn))
        self.flush()

    def _receive(self, process: int, stray: Stray, *, last: bool = False) -> None:
        interface = self.leader if process == 0 else self.followers[process - 1]
        layout = Slab(64 * 1024).layout(64 * 1024)
        size = len(stray.datagram)
        layout.slab.view[:size] = stray.datagram
        batch = DatagramBatch(layout, 1, size, stray.path, stray.ecn)
        interface.receive_datagrams(batch, self.wire.now)
        if last:
            interface.poll_strays()
        self._move(process)

    def flush(self) -> None:
        self._move(0)
        for number in range(1, len(self.followers) + 1):
            self._move(number)
        if not self.delayed:
            self.deliver()

    def _move(self, process: int) -> None:
        """Outputs of one process to the wire, to the host and to the other processes."""
        interface = self.leader if process == 0 else self.followers[process - 1]
        for transmit in interface.poll_transmits():
            data = b"".join(transmit.buffers)
            for start in range(0, len(data), transmit.segment):
                self._transmit(transmit.path, data[start : start + transmit.segment], transmit.tos)
        for item in interface.poll_packets():
            assert not isinstance(item, PacketRows)
            self.received.append(bytes(item))
        self.events += (events := interface.poll_events())
        if process:
            self.events[len(self.events) - len(events) :] = []
            self._tell_leader(process)
        else:
            self._tell_followers()

    def _transmit(self, path: Path, payload: bytes, tos: int) -> None:
        now = self.wire.now
        self.wire.send(Datagram(now, self.endpoint, path.endpoint, payload, tos))

    def _tell_leader(self, number: int) -> None:
        follower, waiting = self.followers[number - 1], self.to_leader[number]
        reports, drops = follower.poll_reports(), follower.poll_drops()
        for stray in follower.poll_strays():
            waiting.append(lambda stray=stray: self._receive(0, stray))  # type: ignore[misc]
        if self.slow_reports:
            self.reports.append(lambda: self.leader.receive_reports(reports, self.wire.now))
        elif reports or drops:
            waiting += self.reports
            self.reports = []
            waiting.append(lambda: self.leader.receive_reports(reports, self.wire.now))
            waiting.append(lambda: self.leader.count_drops(drops))

    def _tell_followers(self) -> None:
        states = self.leader.poll_states()
        for number, follower in enumerate(self.followers, 1):
            for state in states:
                self.to_follower[number].append(
                    lambda f=follower, s=state: f.set_peer_state(s, self.wire.now)  # type: ignore[misc]
                )
        for stray in self.leader.poll_strays():
            number = owner_of(int.from_bytes(stray.datagram[4:8], "little"), _OWNERS)
            self.to_follower[number].append(
                lambda n=number, s=stray: self._receive(n, s, last=True)  # type: ignore[misc]
            )

    def deliver(self) -> None:
        """Messages between the processes arrive until none is left."""
        while True:
            queues = [q for q in (*self.to_follower.values(), *self.to_leader.values()) if q]
            if not queues:
                return
            self.wire.random.choice(queues).pop(0)()
            self._move(0)
            for number in range(1, len(self.followers) + 1):
                self._move(number)


def _world(seed: int = 1) -> tuple[Wire, _Shared, Node, Node]:
    """Alice in three processes; Bob and Carol in one each."""
    wire = Wire(seed=seed)
    alice = _Shared(wire, "alice", Endpoint("192.0.2.1", 51820))
    wire.nodes[alice.endpoint] = alice
    bob, carol = wire.node("bob", "192.0.2.2"), wire.node("carol", "192.0.2.3")
    for node, inner in ((bob, B4), (carol, _C4)):
        alice.peer(node, f"{inner}/32")
        node.peer(alice, f"{A4}/32")
    alice.configured()
    return wire, alice, bob, carol


def _nonces(wire: Wire, node: Node) -> list[tuple[Endpoint, bytes]]:
    """Receiver, and index with counter, of every transport message that a node sent."""
    return [(d.destination, d.payload[4:16]) for d in wire.sent(4, node)]


def test_every_process_sends_and_every_owner_receives() -> None:
    wire, alice, bob, carol = _world()
    for process in range(_OWNERS):
        for node, inner in ((bob, B4), (carol, _C4)):
            there, back = packet(A4, inner), packet(inner, A4)
            alice.send_by(process, there)
            wire.run(1)
            node.send(back)
            wire.run(1)
            assert there in node.received
            assert back in alice.received
    nonces = _nonces(wire, alice)
    assert len(set(nonces)) == len(nonces)


def test_the_figures_add_up() -> None:
    wire, alice, bob, _ = _world()
    for process in range(_OWNERS):
        alice.send_by(process, packet(A4, B4, 100))
        wire.run(1)
        bob.send(packet(B4, A4, 200))
        wire.run(1)
    ours, theirs = alice.peer_stats(bob), bob.peer_stats(alice)
    assert (ours.tx_bytes, ours.rx_bytes) == (theirs.rx_bytes, theirs.tx_bytes)
    # 200 bytes of inner packet are 208 padded, and 32 around them.
    assert ours.rx_bytes >= 3 * 240
    alice.send_by(2, packet(A4, "10.9.9.9"))
    assert alice.drops == {"no-route": 1}


def test_a_first_packet_waits_for_the_session_wherever_it_was_sent() -> None:
    wire, alice, bob, _ = _world()
    sent = packet(A4, B4)
    alice.send_by(2, sent)
    assert bob.received == []
    wire.run(1)
    assert sent in bob.received


def test_the_answer_to_a_first_packet_takes_its_session_whoever_reads_it() -> None:
    wire, alice, bob, _ = _world()
    bob.send(packet(B4, A4))
    wire.run(1)
    # Bob forgets all and begins anew; the word about his first packet is slow.
    for process in range(_OWNERS):
        wire.run(6)
        bob.restart()
        bob.peer(alice, f"{A4}/32")
        alice.slow_reports = True
        bob.send(packet(B4, A4))
        wire.run(1)
        sent = packet(A4, B4)
        alice.send_by(process, sent)
        wire.run(1)
        assert sent in bob.received
        alice.slow_reports = False
        alice.flush()


def test_a_peer_that_moves_is_followed_by_all() -> None:
    wire, alice, bob, _ = _world()
    alice.send_by(1, packet(A4, B4))
    wire.run(1)
    bob.move("192.0.2.77", 1234)
    bob.send(packet(B4, A4))
    wire.run(1)
    for process in range(_OWNERS):
        sent = packet(A4, B4)
        alice.send_by(process, sent)
        wire.run(1)
        assert sent in bob.received


def test_a_session_is_rekeyed_in_time_though_only_a_follower_sends() -> None:
    wire, alice, bob, _ = _world()
    for _ in range(130):
        alice.send_by(1, packet(A4, B4))
        wire.run(1)
    # REKEY_AFTER_TIME is 120 s.
    assert len(wire.sent(1)) == 2
    assert len(bob.received) == 130


def test_a_silent_peer_is_asked_anew_though_only_a_follower_sends() -> None:
    wire, alice, bob, _ = _world()
    alice.send_by(1, packet(A4, B4))
    wire.run(1)
    bob.send(packet(B4, A4))
    wire.run(1)
    wire.cut()
    alice.send_by(1, packet(A4, B4))
    # KEEPALIVE_TIMEOUT + REKEY_TIMEOUT, and a jitter of a third of a second.
    wire.run(14.9)
    assert len(wire.sent(1, alice)) == 1
    wire.run(0.5)
    assert len(wire.sent(1, alice)) == 2


def test_an_owner_that_dies_takes_its_sessions_with_it_and_new_ones_follow() -> None:
    wire, alice, bob, carol = _world()
    for inner in (B4, _C4):
        alice.send_by(0, packet(A4, inner))
    wire.run(1)
    wire.run(6)
    recorded = [d.payload for d in wire.sent(4, bob)]
    for number in range(1, _OWNERS):
        alice.kill(number)
        wire.run(6)
    for node, inner in ((bob, B4), (carol, _C4)):
        there, back = packet(A4, inner), packet(inner, A4)
        alice.send_by(1, there)
        wire.run(1)
        node.send(back)
        wire.run(1)
        assert there in node.received
        assert back in alice.received
    # What was received before is not taken again by a new owner.
    before = len(alice.received)
    alice.receive(recorded, bob.endpoint)
    assert len(alice.received) == before


def test_a_session_whose_place_was_given_away_does_not_send_any_more() -> None:
    wire, alice, bob, _ = _world()
    for _ in range(5):
        alice.send_by(1, packet(A4, B4))
        wire.run(1)
    # The follower hears of nothing while other sessions come and take the place.
    alice.delayed = True
    for _ in range(_PLACES):
        wire.run(6)
        peer = alice.leader._peers[bob.public_key]
        peer.initiate(wire.now)
        alice.flush()
    wire.run(1)
    sessions = len({d.payload[4:8] for d in wire.sent(2, bob)})
    assert sessions > _PLACES
    alice.send_by(1, *(packet(A4, B4) for _ in range(5)))
    wire.run(1)
    nonces = _nonces(wire, alice)
    assert len(set(nonces)) == len(nonces)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, _OWNERS - 1), st.integers(0, 1)),
        st.tuples(st.just("answer"), st.integers(0, 1), st.integers(1, 5)),
        st.tuples(st.just("kill"), st.integers(1, _OWNERS - 1), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([1, 6, 130]), st.just(0)),
        st.tuples(st.just("stall"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("rekey"), st.integers(0, 1), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps=_STEPS, seed=st.integers(0, 1000))
def test_no_nonce_is_used_twice_whatever_dies_or_is_late(
    steps: list[tuple[str, int, int]], seed: int
) -> None:
    wire, alice, bob, carol = _world(seed)
    others = [(bob, B4), (carol, _C4)]
    chance = random.Random(seed)
    for what, which, more in steps:
        match what:
            case "send":
                alice.send_by(which, *(packet(A4, others[more][1]) for _ in range(3)))
            case "answer":
                node, inner = others[which]
                node.send(*(packet(inner, A4) for _ in range(more)))
            case "kill":
                alice.kill(which)
            case "wait":
                wire.run(which)
            case "stall":
                alice.delayed = bool(which)
            case "rekey":
                # New sessions while followers may not know of them: their places change hands.
                peer = alice.leader._peers[others[which][0].public_key]
                peer._last_sent_handshake = -1000
                peer.initiate(wire.now)
                alice.flush()
        wire.run(chance.random())
    alice.delayed = False
    alice.flush()
    wire.run(6)
    nonces = _nonces(wire, alice)
    assert len(set(nonces)) == len(nonces)
    # And it works again.
    for process in range(_OWNERS):
        for node, inner in others:
            alice.send_by(process, packet(A4, inner))
            wire.run(6)
            sent = packet(A4, inner)
            alice.send_by(process, sent)
            wire.run(1)
            assert sent in node.received
    assert EventKind.SESSION_CREATED in {event.kind for event in alice.events}
