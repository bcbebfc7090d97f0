"""What a network does to datagrams: loss, reordering, repetition, and a NAT that forgets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator

from interop.counterparts.base import Implementation
from interop.netns import Lab, add_address
from interop.relay import ADDRESS, ADDRESS_V6, Relay
from interop.scenarios.bulk import transfer
from interop.scenarios.registry import scenario
from interop.shell import expect
from interop.tunnel import PORT, End, ends_on_a_switch, wait_for_handshake
from interop.wire import DATA, INITIATION, RESPONSE, Capture, capture

_RETRY = 5.0


@contextlib.contextmanager
def through_a_relay(
    lab: Lab,
    left: Implementation,
    right: Implementation,
    version: int = 4,
    traffic_class: int = 0,
) -> Iterator[tuple[End, End, Relay]]:
    middle = lab.namespace("relay")
    a, b = ends_on_a_switch(lab, left, right, middle)
    add_address(middle, "eth0", f"{ADDRESS}/24")
    add_address(middle, "eth0", f"{ADDRESS_V6}/64")
    b.add_peer(a)
    a.add_peer(b)
    address = ADDRESS if version == 4 else f"[{ADDRESS_V6}]"
    a.configure(f"peer {b.keys.public} endpoint {address}:{PORT}")
    with Relay(middle, b, version, traffic_class) as relay:
        yield a, b, relay


class LoseFirst:
    """A relay policy: the first message of a kind is lost."""

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.lost = 0

    def __call__(self, to_right: bool, datagram: bytes) -> Iterable[bytes]:
        if datagram[0] == self.kind and not self.lost:
            self.lost += 1
            return ()
        return (datagram,)


@scenario()
def lost_initiation(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The first initiation is lost: left sends another after 5 s, and the packet gets through.

    left ──── initiation ───x
         ──── initiation, 5 s later ────> right
    """
    _lose(lab, left, right, INITIATION, initiations=2)


@scenario()
def lost_response(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The first response is lost: left initiates again after 5 s, and the packet gets through.

    left ──── initiation ────> right
         x<──── response ─────
         ──── initiation, 5 s later ────> right
    """
    _lose(lab, left, right, RESPONSE, initiations=2)


@scenario()
def lost_confirmation(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The first data, which would confirm the session, is lost: the next one confirms it.

    left ──── handshake ──── right
         ──── data ───x
         ──── data ────> right
    """
    with through_a_relay(lab, left, right) as (a, b, relay):
        relay.policy = LoseFirst(DATA)
        a.reaches(b, within=1)
        a.ping(b)
        wait_for_handshake(a, b)
        b.ping(a)


def _lose(
    lab: Lab, left: Implementation, right: Implementation, kind: int, initiations: int
) -> None:
    with (
        through_a_relay(lab, left, right) as (a, b, relay),
        capture(a.namespace, lab.directory) as wire,
    ):
        relay.policy = LoseFirst(kind)
        a.ping(b, within=8)
        seen = wire.messages(INITIATION, a.outer())
        expect(len(seen) == initiations, f"{len(seen)} initiations instead of {initiations}")
        gap = seen[1].at - seen[0].at
        expect(_RETRY - 0.1 < gap < _RETRY + 0.9, f"initiated again after {gap:.2f} s, not 5")
        expect(seen[0].payload[8:40] != seen[1].payload[8:40], "an ephemeral key used twice")


class Reorder:
    """A relay policy: data is held until `depth` are there, then sent newest first, each twice."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.held: list[bytes] = []

    def __call__(self, to_right: bool, datagram: bytes) -> Iterable[bytes]:
        if not to_right or datagram[0] != DATA:
            return (datagram,)
        self.held.append(datagram)
        if len(self.held) < self.depth:
            return ()
        out, self.held = self.held[::-1], []
        return [copy for one in out for copy in (one, one)]


@scenario(alone=True)
def reordered_and_repeated(lab: Lab, left: Implementation, right: Implementation) -> None:
    """1,000 packets arrive newest first and each twice: right delivers each exactly once.

    left ── 1, 2 … 1000 ──> relay ── 1000, 1000, 999, 999 … 1, 1 ──> right
    """
    with through_a_relay(lab, left, right) as (a, b, relay):
        a.ping(b)
        relay.policy = Reorder(1000)
        inner = Capture(b.namespace, b.interface)
        # A few more, which stay behind: a keepalive in between would else hold all of them up.
        words = f"ping -n -q -f -l 100 -c 1010 -W 1 -s 64 {b.inner()}"
        a.namespace.run("sh", "-c", f"{words} || true")
        time.sleep(1)
        inner.close()
    arrived = [f[26:28] for _, f in inner.frames if f[9:10] == b"\1" and f[20:21] == b"\x08"]
    expect(len(set(arrived)) >= 990, f"only {len(set(arrived))} of 1000 echo requests came through")
    expect(len(set(arrived)) == len(arrived), "an echo request was delivered twice")


@scenario()
def nat_forgets(lab: Lab, left: Implementation, right: Implementation) -> None:
    """A NAT between the ends takes another port, three times: right follows, nothing is lost.

    left ── relay, port 40001 ──> right
    left ── relay, port 40002 ──> right          left keeps the path up every second
    """
    with through_a_relay(lab, left, right) as (a, b, relay):
        a.configure(f"peer {b.keys.public} persistent-keepalive 1")
        a.ping(b)
        seen = {b.show("endpoints", a)}
        for _ in range(3):
            relay.rebind()
            time.sleep(2.2)
            b.ping(a)
            seen.add(b.show("endpoints", a))
        expect(len(seen) == 4, f"right saw {len(seen)} endpoints instead of 4")


@scenario(both_ways=False, alone=True)
def tcp_over_a_bad_network(lab: Lab, left: Implementation, right: Implementation) -> None:
    """One datagram in 50 is lost, one in 20 comes twice: TCP still brings every byte.

    left ══ TCP, 1 MiB each way ══ right
    """
    with through_a_relay(lab, left, right) as (a, b, relay):
        a.ping(b)
        counter = iter(range(1 << 30))

        def bad(to_right: bool, datagram: bytes) -> Iterable[bytes]:
            number = next(counter)
            return () if number % 50 == 49 else (datagram,) * (2 if number % 20 == 19 else 1)

        relay.policy = bad
        transfer(a, b, 4, forwards=True, backwards=True, length=1 << 20)
