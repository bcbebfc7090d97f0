"""Who talks to whom, and what counts as lost."""

from __future__ import annotations

import json
import socket
from collections import deque
from typing import Any

from agent.demo.talker import PORT, Talker
from agent.demo.traffic import End, Flow, Traffic


class FakeEnd(End):
    """A talker's reports, without the talker."""

    def __init__(self, *reports: dict[str, Any]) -> None:
        self.reports = deque(reports, maxlen=4)


def socket_at(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, PORT))
    sock.setblocking(False)
    return sock


def test_talkers_count_what_they_send_and_what_comes_once() -> None:
    with socket_at("127.64.0.1") as one, socket_at("127.64.0.2") as other:
        talker, listener = Talker(1, 10.0, one), Talker(2, 10.0, other)
        talker.tell(json.dumps({"round": 1, "to": {"2": "127.64.0.2"}}), 5.0)
        listener.tell(json.dumps({"round": 1, "to": {}}), 5.0)
        talker.send(5.95)
        listener.receive_untrusted()
        assert json.loads(talker.report())["sent"] == {"2": 10}
        assert json.loads(listener.report())["received"] == {"1": 10}
        # What is sent again by the network counts once; what is of nobody, not at all.
        again = other.getsockname()
        one.sendto(b"x" * 100, again)
        one.sendto(b"", again)
        listener.receive_untrusted()
        assert json.loads(listener.report())["received"] == {"1": 10}
        # Another round begins at nothing, and what comes late of the last one is not of it.
        listener.tell(json.dumps({"round": 2, "to": {}}), 6.0)
        talker.send(6.05)
        listener.receive_untrusted()
        assert json.loads(listener.report()) == {"round": 2, "sent": {}, "received": {}}


def traffic(one: FakeEnd, other: FakeEnd) -> Traffic:
    made = Traffic(10.0)
    made._round = 1
    made._addresses = {1: "10.244.1.2", 2: "10.244.2.2"}
    made._ends = {1: one, 2: other}
    return made


def report(sent: int, received: int, other: int) -> dict[str, Any]:
    return {"round": 1, "sent": {str(other): sent}, "received": {str(other): received}}


def test_lost_is_what_was_sent_a_while_ago_and_has_not_come() -> None:
    sender = FakeEnd(*(report(sent, 0, 2) for sent in (10, 20, 30, 40)))
    listener = FakeEnd(report(0, 9, 1))
    assert traffic(sender, listener).flows()[1, 2] == Flow(sent=40, received=9, lost=1)
    # As long as it is not known what was sent a while ago, nothing is lost.
    young = FakeEnd(report(40, 0, 2))
    assert traffic(young, listener).flows()[1, 2] == Flow(sent=40, received=9, lost=0)


def test_a_report_of_another_round_counts_for_nothing() -> None:
    old = {**report(10, 10, 2), "round": 0}
    assert traffic(FakeEnd(old), FakeEnd(report(0, 5, 1))).flows()[1, 2] == Flow(0, 5, 0)
