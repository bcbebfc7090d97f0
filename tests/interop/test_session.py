"""The end of a session that the suite holds itself, against our own core."""

from __future__ import annotations

import platform
import sys
from base64 import b64encode
from ipaddress import ip_network

import pytest

from interop.counterparts.userspace import Userspace
from interop.initiator import Begun, Initiator, new_initiators
from interop.session import consume_response
from interop.shell import ScenarioFailed
from tests.sim import A4, B4, Node, Wire, packet
from wgpy.protocol.config import AllowedIPChange, Endpoint, InterfaceChange, PeerChange

_SUITE = Endpoint("192.0.2.1", 40000)
_NOW_NS = 1_800_000_000 * 10**9


def _begun() -> tuple[Wire, Node, Initiator, Begun]:
    """A node that has answered the initiation of a suite that it knows as 10.0.0.1."""
    wire = Wire()
    bob = wire.node("bob", "192.0.2.2")
    (me,) = new_initiators(1)
    allowed = (AllowedIPChange(ip_network(f"{A4}/32")),)
    bob.configure(InterfaceChange(peers=(PeerChange(me.public, allowed_ips=allowed),)))
    begun = me.begin(_text(bob), 7, _NOW_NS)
    bob.receive([begun.message], _SUITE)
    wire.run(0.1)
    return wire, bob, me, begun


def _text(node: Node) -> str:
    return b64encode(node.public_key).decode()


def test_packets_pass_both_ways_in_a_session_that_the_suite_began() -> None:
    wire, bob, me, begun = _begun()
    session = consume_response(me, begun, wire.log[-1].payload)
    hello = packet(A4, B4, 64)
    bob.receive([session.seal(0, hello)], _SUITE)
    assert bob.received == [hello]
    answer = packet(B4, A4, 64)
    bob.send(answer)
    assert session.open(wire.log[-1].payload) == answer
    assert session.open(session.seal(0, hello)) is None


def test_an_older_timestamp_is_not_answered() -> None:
    wire, bob, me, _ = _begun()
    responses = len(wire.log)
    wire.run(1)
    for at_ns in (_NOW_NS - 10**9, _NOW_NS):
        bob.receive([me.begin(_text(bob), 8, at_ns).message], _SUITE)
        wire.run(1)
        assert len(wire.log) == responses
    newer = _NOW_NS + 10**9
    bob.receive([me.begin(_text(bob), 9, newer).message], _SUITE)
    wire.run(1)
    assert len(wire.log) == responses + 1


def test_a_response_that_proves_nothing_is_refused() -> None:
    wire, _, me, begun = _begun()
    response = bytearray(wire.log[-1].payload)
    response[50] ^= 1
    with pytest.raises(ScenarioFailed, match="could not have made"):
        consume_response(me, begun, bytes(response))


def test_a_command_is_asked_for_its_version_without_the_key_log() -> None:
    plain, logging = (
        Userspace("a", sys.executable),
        Userspace("b", f"{sys.executable} --keylog={{keylog}}"),
    )
    assert (plain.logs_keys, logging.logs_keys) == (False, True)
    assert logging.version() == plain.version() == platform.python_version()
