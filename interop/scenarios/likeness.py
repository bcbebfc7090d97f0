"""Message by message, header by header: does it look like the kernel on the wire?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from interop.counterparts.base import Implementation
from interop.netns import Lab
from interop.scenarios.bulk import transfer
from interop.scenarios.registry import scenario
from interop.shell import expect
from interop.tunnel import tunnel, wait_for_handshake
from interop.wire import DATA, Message, capture

_MODEL = "the kernel is the model, not another daemon"
_SINGLE = ["tx-udp-segmentation", "off", "gso", "off", "gro", "off"]
_SIZES = (0, 1, 4, 5, 20, 100, 1371, 1372)
_CLASSES = (0, 1, 2, 3, 46 << 2)


class Face(NamedTuple):
    """What an onlooker sees of one message."""

    kind: int
    length: int
    traffic_class: int
    hop_limit: int
    dont_fragment: bool
    identified: bool
    flow_label: bool
    checksum: bool
    source_port: int


@scenario(both_ways=False, kernel=_MODEL)
def looks_like_the_kernel_over_v4(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The same conversation twice, once with each in each role: both send the same messages.

    ours ── handshake, echoes of many sizes and classes, keepalives, TCP ── kernel
    kernel ── the same ── ours
    """
    _compare(lab, left, right, outer=4)


@scenario(both_ways=False, kernel=_MODEL)
def looks_like_the_kernel_over_v6(lab: Lab, left: Implementation, right: Implementation) -> None:
    """The same over IPv6.

    ours ── handshake, echoes of many sizes and classes, keepalives, TCP ── kernel
    kernel ── the same ── ours
    """
    _compare(lab, left, right, outer=6)


def _compare(lab: Lab, ours: Implementation, theirs: Implementation, outer: int) -> None:
    our_call, their_answer = _converse(lab, ours, theirs, outer)
    their_call, our_answer = _converse(lab, theirs, ours, outer)
    differences = [
        *_differences("as initiator", our_call, their_call),
        *_differences("as responder", our_answer, their_answer),
    ]
    expect(not differences, "; ".join(differences))


def _converse(
    lab: Lab, left: Implementation, right: Implementation, outer: int
) -> tuple[list[Face], list[Face]]:
    """What left sent and what right sent."""
    with Lab(lab.directory) as room:
        a, b = tunnel(room, left, right, outer)
        for end in (a, b):  # datagrams one by one on the wire, not as the host hands them over
            end.namespace.run("ethtool", "-K", "eth0", *_SINGLE)
        with capture(b.namespace, room.directory) as wire:
            a.ping(b)
            wait_for_handshake(a, b)
            for inner in (4, 6):
                for size in _SIZES:
                    a.ping(b, inner, f"-s {size}")
                for traffic_class in _CLASSES:
                    a.ping(b, inner, f"-Q {traffic_class}")
            for end, peer in ((a, b), (b, a)):  # each sends a keepalive at once
                end.configure(f"peer {peer.keys.public} persistent-keepalive 60000")
            wire.wait_for("right's keepalive", DATA, b.outer(outer), 5)
            a.ping(b)
        with capture(b.namespace, room.directory) as bulk:
            transfer(a, b, 4, forwards=True, backwards=True, length=1 << 17)
        called, answered = (
            _faces(wire.messages(source=address)) + _summary(bulk.messages(source=address))
            for address in (a.outer(outer), b.outer(outer))
        )
        return called, answered


def _faces(messages: Iterable[Message]) -> list[Face]:
    return [
        Face(
            message.kind,
            len(message.payload),
            message.traffic_class,
            message.hop_limit,
            message.dont_fragment,
            message.identification != 0,
            message.flow_label != 0,
            message.checksum != 0,
            message.source_port,
        )
        for message in messages
    ]


def _summary(messages: list[Message]) -> list[Face]:
    """Of a stream, whose segments fall as they fall: each face once, at the largest length."""
    largest = max(len(message.payload) for message in messages)
    return sorted({face._replace(length=largest) for face in _faces(messages)})


def _differences(role: str, ours: list[Face], model: list[Face]) -> list[str]:
    """Each field that differs, with the first message in which it does."""
    found: dict[str, str] = {}
    for number, (mine, wanted) in enumerate(zip(ours, model, strict=False), 1):
        for name in Face._fields:
            values = getattr(mine, name), getattr(wanted, name)
            if values[0] != values[1]:
                text = f"{role}, {name} of message {number}: {values[0]}, the kernel's {values[1]}"
                found.setdefault(name, text)
    if len(ours) != len(model):
        found["count"] = f"{role}: {len(ours)} messages, the kernel {len(model)}"
    return list(found.values())
