"""The five timers of a peer and the eight hooks that drive them, with the kernel's names.

Timers are only deadlines here. Hooks run for every batch, so arming and disarming is an
assignment; the interface is told (`wake`) only when a peer's earliest deadline moves forward.
"""

from collections.abc import Callable
from enum import IntEnum
from math import inf

from wgpy.protocol.constants import (
    KEEPALIVE_TIMEOUT,
    REKEY_TIMEOUT,
    REKEY_TIMEOUT_JITTER,
    ZERO_KEY_MATERIAL_AFTER,
)


class Timer(IntEnum):
    """Also the order in which timers that are due at once are handled."""

    RETRANSMIT_HANDSHAKE = 0
    SEND_KEEPALIVE = 1
    NEW_HANDSHAKE = 2
    ZERO_KEY_MATERIAL = 3
    PERSISTENT_KEEPALIVE = 4


class Timers:
    """Deadlines in seconds of the interface's clock; `inf` is not armed."""

    __slots__ = (
        "_deadlines",
        "_jitter",
        "_wake",
        "handshake_attempts",
        "need_another_keepalive",
        "persistent_keepalive",
        "running",
        "sent_lastminute_handshake",
        "wake_at",
    )

    def __init__(self, jitter: Callable[[], float], wake: Callable[[float], None]) -> None:
        # `jitter` gives a fraction in [0, 1).
        self._jitter = jitter
        self._wake = wake
        self._deadlines = [inf] * len(Timer)
        # The interface has promised to look at this peer then.
        self.wake_at = inf
        # Timers run only while the interface is up.
        self.running = False
        # Seconds, 0 for off.
        self.persistent_keepalive = 0
        self.handshake_attempts = 0
        self.need_another_keepalive = False
        self.sent_lastminute_handshake = False

    def _arm(self, timer: Timer, deadline: float) -> None:
        if not self.running:
            return
        self._deadlines[timer] = deadline
        if deadline < self.wake_at:
            self.wake_at = deadline
            self._wake(deadline)

    def _rekey_jitter(self) -> float:
        return self._jitter() * REKEY_TIMEOUT_JITTER

    # The hooks, in the order of a peer's life.

    def handshake_initiated(self, now: float) -> None:
        self._arm(Timer.RETRANSMIT_HANDSHAKE, now + REKEY_TIMEOUT + self._rekey_jitter())

    def session_derived(self, now: float) -> None:
        self._arm(Timer.ZERO_KEY_MATERIAL, now + ZERO_KEY_MATERIAL_AFTER)

    def handshake_complete(self) -> None:
        self._deadlines[Timer.RETRANSMIT_HANDSHAKE] = inf
        self.handshake_attempts = 0
        self.sent_lastminute_handshake = False

    def data_sent(self, now: float) -> None:
        if self._deadlines[Timer.NEW_HANDSHAKE] == inf:
            deadline = now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + self._rekey_jitter()
            self._arm(Timer.NEW_HANDSHAKE, deadline)

    def data_received(self, now: float) -> None:
        if self._deadlines[Timer.SEND_KEEPALIVE] == inf:
            self._arm(Timer.SEND_KEEPALIVE, now + KEEPALIVE_TIMEOUT)
        else:
            self.need_another_keepalive = True

    def any_authenticated_packet_sent(self) -> None:
        self._deadlines[Timer.SEND_KEEPALIVE] = inf

    def any_authenticated_packet_received(self) -> None:
        self._deadlines[Timer.NEW_HANDSHAKE] = inf

    def any_authenticated_packet_traversal(self, now: float) -> None:
        if self.persistent_keepalive:
            self._arm(Timer.PERSISTENT_KEEPALIVE, now + self.persistent_keepalive)

    def persistent_keepalive_due(self, now: float) -> None:
        """The first one, as soon as it is this peer's turn."""
        if self.persistent_keepalive:
            self._arm(Timer.PERSISTENT_KEEPALIVE, now)

    # What the expiry of one timer does to the others.

    def handshake_given_up(self, now: float) -> None:
        self._deadlines[Timer.SEND_KEEPALIVE] = inf
        if self._deadlines[Timer.ZERO_KEY_MATERIAL] == inf:
            self._arm(Timer.ZERO_KEY_MATERIAL, now + ZERO_KEY_MATERIAL_AFTER)

    def keepalive_again(self, now: float) -> None:
        """After a passive keepalive: once more if data came in meanwhile."""
        if self.need_another_keepalive:
            self.need_another_keepalive = False
            self._arm(Timer.SEND_KEEPALIVE, now + KEEPALIVE_TIMEOUT)

    # Expiry.

    def next_deadline(self) -> tuple[float, Timer]:
        deadline = min(self._deadlines)
        return deadline, Timer(self._deadlines.index(deadline))

    def expire(self, now: float) -> list[Timer]:
        """The timers due at `now`, disarmed."""
        due = [timer for timer in Timer if self._deadlines[timer] <= now]
        for timer in due:
            self._deadlines[timer] = inf
        return due

    def stop(self) -> None:
        self.running = False
        self._deadlines = [inf] * len(Timer)
        self.wake_at = inf
        self.handshake_attempts = 0
        self.need_another_keepalive = False
        self.sent_lastminute_handshake = False
