"""A batch does what its packets would have done one by one: the twins of the data path."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim import A4, A6, B4, B6, Node, Wire, packet, pair
from wgpy.protocol import multibuffer
from wgpy.protocol.config import Endpoint
from wgpy.protocol.rowcipher import OneByOne

_MANGLED = ("none", "tag", "index", "counter", "replay", "type", "cut-last", "swap")


def _session() -> tuple[Wire, Node, Node]:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    bob.ping(alice, B4, A4)
    return wire, alice, bob


def _outcome(node: Node, other: Node) -> tuple[object, ...]:
    stats = node.peer_stats(other)
    return (
        # The first one came with the session.
        node.received[1:],
        node.drops,
        stats.rx_bytes,
        stats.drops,
        stats.endpoint,
        node.interface.next_deadline(),
    )


@settings(max_examples=150, deadline=None)
@given(
    size=st.sampled_from([40, 64, 200, 1420]),
    last=st.integers(0, 1420),
    plan=st.lists(st.sampled_from(_MANGLED), min_size=2, max_size=40),
    source=st.sampled_from([A4, "10.0.0.66"]),
    ecn=st.sampled_from([0, 1, 2, 3]),
    data=st.data(),
)
def test_a_batch_of_datagrams_ends_as_they_would_alone(
    size: int, last: int, plan: list[str], source: str, ecn: int, data: st.DataObject
) -> None:
    wire, alice, bob = _session()
    wire.cut()
    mark = len(wire.log)
    packets = [packet(A4, B4, size) for _ in plan[:-1]]
    packets.append(packet(source, B4, min(max(last, 40), size)))
    alice.send(*packets)
    datagrams = [bytearray(d.payload) for d in wire.log[mark:]]
    for k, what in enumerate(plan):
        _mangle(datagrams, k, what, data)
    # Rows of one size, but the last may be shorter.
    width = len(datagrams[0])
    datagrams = [d for d in datagrams[:-1] if len(d) == width] + [
        d for d in datagrams[-1:] if len(d) <= width
    ]
    payloads = [bytes(d) for d in datagrams]
    # The same seed makes the same keys: a second world with nothing received yet.
    together, (_, _, single) = bob, _session()
    together.interface.use_cipher(multibuffer.load() or OneByOne())
    together.receive(payloads, Endpoint("192.0.2.1", 51820), ecn)
    for payload in payloads:
        single.receive([payload], Endpoint("192.0.2.1", 51820), ecn)
    assert _outcome(together, alice) == _outcome(single, alice)


def _mangle(datagrams: list[bytearray], k: int, what: str, data: st.DataObject) -> None:
    one = datagrams[k]
    match what:
        case "tag":
            one[-1] ^= 1
        case "index":
            one[4] ^= 1
        case "counter":
            one[8] ^= 1
        case "replay":
            other = datagrams[data.draw(st.integers(0, k))]
            if len(other) == len(one):
                one[:] = other
        case "type":
            one[0] = data.draw(st.integers(0, 255))
        case "cut-last":
            if k == len(datagrams) - 1:
                del one[data.draw(st.integers(1, len(one))) :]
        case "swap":
            other = datagrams[data.draw(st.integers(0, k))]
            if len(other) == len(one):
                one[:], other[:] = bytes(other), bytes(one)


@settings(max_examples=100, deadline=None)
@given(
    flows=st.lists(
        st.tuples(
            st.sampled_from([(A4, B4), (A6, B6), (A4, "10.0.0.3"), (A4, "10.9.9.9"), ("", "")]),
            st.one_of(st.just(100), st.integers(40, 1500)),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_a_batch_of_packets_ends_as_they_would_alone(
    flows: list[tuple[tuple[str, str], int]],
) -> None:
    outcomes = []
    packets = [packet(*ends, size) if ends[0] else bytes(size) for ends, size in flows]
    for together in (True, False):
        wire, alice, bob = _session()
        carol = wire.node("carol", "192.0.2.3")
        carol.peer(alice, "10.0.0.1/32")
        alice.peer(carol, "10.0.0.3/32")
        alice.ping(carol, A4, "10.0.0.3")
        mark = len(wire.log)
        if together:
            alice.interface.use_cipher(multibuffer.load() or OneByOne())
            alice.send(*packets)
        else:
            for one in packets:
                alice.send(one)
        # What goes to one peer keeps its order.
        sent = sorted(
            ((d.destination, d.payload, d.tos) for d in wire.log[mark:]), key=lambda d: d[0]
        )
        wire.run(1)
        outcomes.append((sent, alice.drops, bob.received[1:], carol.received[1:]))
    assert outcomes[0] == outcomes[1]
