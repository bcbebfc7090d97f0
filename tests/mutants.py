"""wgpy with one planted fault: `python -m tests.mutants FAULT INTERFACE`.

Each fault is a mistake that an implementation could make. The interoperability suite has to
notice it: `tests/system/test_mutants.py` says in which scenario.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from wgpy.protocol import constants

_PMTUDISC_DO = 2


def _constant(name: str, value: object) -> Callable[[], None]:
    """Before anything else imports the constants."""
    return lambda: setattr(constants, name, value)


def _method(module: str, owner: str, name: str, wrong: object) -> Callable[[], None]:
    def plant() -> None:
        found = importlib.import_module(module)
        setattr(getattr(found, owner) if owner else found, name, wrong)

    return plant


def _reserve_nothing(keypair: Any, count: int, now: float) -> int:
    return 0


def _roam_before_authentication() -> None:
    from wgpy.protocol.inbound import Inbound

    right = Inbound._session

    def session(self: Any, index: int, packets: int, now: float) -> Any:
        found = right(self, index, packets, now)
        if found is not None:
            found[0].path = self.mutant_path
        return found

    receive = Inbound.receive_datagrams

    def receive_datagrams(self: Any, batch: Any, now: float) -> None:
        self.mutant_path = batch.path
        receive(self, batch, now)

    setattr(Inbound, "_session", session)  # noqa: B010
    setattr(Inbound, "receive_datagrams", receive_datagrams)  # noqa: B010


def _forget_counters() -> None:
    from wgpy.protocol.replay import ReplayWindow

    setattr(ReplayWindow, "check_and_set", lambda *_: True)  # noqa: B010
    setattr(ReplayWindow, "accept_batch", lambda _, counters: np.ones(len(counters), bool))  # noqa: B010


def _forget_cookies() -> None:
    from wgpy.protocol.cookie import CookieGenerator

    setattr(CookieGenerator, "consume_reply_untrusted", lambda *_: False)  # noqa: B010


def _trust_every_source() -> None:
    from wgpy.protocol.allowedips import AllowedIPs
    from wgpy.protocol.inbound import Inbound

    class Everybody(AllowedIPs[Any]):
        pass

    right = Inbound._session

    def session(self: Any, index: int, packets: int, now: float) -> Any:
        found = right(self, index, packets, now)
        if found is not None:
            self._allowed_ips = Everybody()
            setattr(self._allowed_ips, "lookup", lambda address: found[0])  # noqa: B010
        return found

    setattr(Inbound, "_session", session)  # noqa: B010


def _accept_old_timestamps() -> None:
    from wgpy.protocol.noise import Handshake

    right = Handshake.consume_initiation

    def consume_initiation(self: Any, opened: Any, now: float) -> Any:
        self.latest_timestamp = bytes(12)
        return right(self, opened, now)

    setattr(Handshake, "consume_initiation", consume_initiation)  # noqa: B010


def _stay_with_the_first_endpoint() -> None:
    from wgpy.protocol.peer import Peer

    right = Peer._received

    def received(self: Any, path: Any, size: int, now: float) -> None:
        right(self, self.path or path, size, now)

    setattr(Peer, "_received", received)  # noqa: B010


def _keep_keepalive_quiet() -> None:
    from dataclasses import replace

    from wgpy.protocol.peer import Peer

    right = Peer.stats

    def stats(self: Any) -> Any:
        return replace(right(self), persistent_keepalive=0)

    setattr(Peer, "stats", stats)  # noqa: B010


def _rekey_whoever_one_is(keypair: Any, now: float) -> bool:
    return bool(keypair.sending) and now - keypair.created >= constants.REKEY_AFTER_TIME


FAULTS: dict[str, Callable[[], None]] = {
    "responder-rekeys": _method(
        "wgpy.protocol.keypair", "Keypair", "wants_rekey_after_sending", _rekey_whoever_one_is
    ),
    "no-padding": _constant("MESSAGE_PADDING_MULTIPLE", 1),
    "small-replay-window": _constant("COUNTER_WINDOW_SIZE", 32),
    "early-passive-keepalive": _constant("KEEPALIVE_TIMEOUT", 5.0),
    "no-jitter": _constant("REKEY_TIMEOUT_JITTER", 0.0),
    "no-mark-inward": _method("wgpy.protocol.inbound", "", "decapsulate_ecn", lambda *_: None),
    "impatient-retry": _constant("REKEY_TIMEOUT", 3.0),
    "never-under-load": _constant("UNDER_LOAD_QUEUE", 1 << 60),
    "no-replay-check": _forget_counters,
    "counter-reused": _method("wgpy.protocol.keypair", "Keypair", "reserve", _reserve_nothing),
    "no-preshared-key": _method("wgpy.protocol.peer", "Peer", "set_preshared_key", lambda *_: None),
    "no-mac2": _forget_cookies,
    "roams-unauthenticated": _roam_before_authentication,
    "any-source-allowed": _trust_every_source,
    "old-timestamps-accepted": _accept_old_timestamps,
    "never-roams": _stay_with_the_first_endpoint,
    "endless-counters": _constant("REJECT_AFTER_MESSAGES", 2**64 - 1),
    "no-persistent-keepalive": _method(
        "wgpy.protocol.peer", "Peer", "set_persistent_keepalive", lambda *_: None
    ),
    "keepalive-not-shown": _keep_keepalive_quiet,
    "no-fwmark": _method("wgpy.device.sockets", "", "set_mark", lambda *_: None),
    "refuses-fragments": _method("wgpy.device.sockets", "", "_PMTUDISC_DONT", _PMTUDISC_DO),
    "routing-loops": _method(
        "wgpy.protocol.outbound", "Outbound", "_is_own_datagram", lambda *_: False
    ),
}


if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    from wgpy.cli import main

    sys.exit(main(sys.argv[2:]))
