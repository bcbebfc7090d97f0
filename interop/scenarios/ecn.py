"""Congestion marks: of the packets inside on the outside, and of the way on the packets inside."""

from __future__ import annotations

from interop.counterparts.base import Implementation
from interop.netns import Lab
from interop.scenarios.loss import through_a_relay
from interop.scenarios.registry import scenario
from interop.shell import expect
from interop.tunnel import End, tunnel
from interop.wire import DATA, Capture, capture

_NOT_ECT, _ECT1, _ECT0, _CE = range(4)
_DSCP = 46 << 2


@scenario()
def ecn(lab: Lab, left: Implementation, right: Implementation) -> None:
    """What left's packets say about congestion is on the outside too; their DSCP is not.

    left ══ ECT(0), DSCP 46 inside ══ right
         ── ECT(0), DSCP 0 outside ──
    """
    a, b = tunnel(lab, left, right)
    a.ping(b)
    with capture(b.namespace, lab.directory) as wire:
        a.ping(b, more=f"-Q {_DSCP | _ECT0}")
    outside = {message.traffic_class for message in wire.messages(DATA, a.outer())}
    expect(outside == {_ECT0}, f"outer traffic class {outside}, inside were ECT(0) and DSCP 46")


@scenario()
def congestion_on_the_way(lab: Lab, left: Implementation, right: Implementation) -> None:
    """A relay marks all it forwards: right's host sees the mark on each packet that can bear it.

    left ══ DSCP 46 and ECT(0), ECT(1), CE, not ECT ══ right: DSCP 46 and CE, CE, CE, not ECT
         ─────── relay: sends with CE outside ────         over v4, v6
    """
    for outer in (4, 6):
        with (
            Lab(lab.directory) as room,
            through_a_relay(room, left, right, outer, _CE) as (a, b, _),
        ):
            a.ping(b)
            _congested(room, a, b, outer)


def _congested(lab: Lab, a: End, b: End, outer: int) -> None:
    with capture(b.namespace, lab.directory) as wire:
        a.ping(b)
    outside = {m.traffic_class for m in wire.messages(DATA) if m.destination == b.outer(outer)}
    expect(outside == {_CE}, f"the relay marks nothing over v{outer}: traffic class {outside}")
    for inner in (4, 6):
        for inside, wanted in ((_ECT0, _CE), (_ECT1, _CE), (_CE, _CE), (_NOT_ECT, _NOT_ECT)):
            arrived = Capture(b.namespace, b.interface)
            a.ping(b, inner, f"-Q {_DSCP | inside}")
            arrived.close()
            seen = _traffic_class(arrived.frames[0][1])
            expect(
                seen == _DSCP | wanted,
                f"sent with traffic class {_DSCP | inside}, marked outside over v{outer}: "
                f"delivered with {seen}, not {_DSCP | wanted}",
            )


def _traffic_class(packet: bytes) -> int:
    """Of an IPv4 or IPv6 packet; the interface has no other header before it."""
    return packet[1] if packet[0] >> 4 == 4 else (packet[0] & 15) << 4 | packet[1] >> 4
