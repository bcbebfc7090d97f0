"""How long the TUN's queues are: so many packets as are a millisecond of our work.

The kernel counts packets there, whatever their size: a thousand small ones are gone in 8 ms, a
thousand super-packets of many flows wait for 60. Then every flow believes that the way is that
long, sends by it, and in smaller bursts (tcp_tso_autosize), which cost still more. So a queue of
super-packets to many peers that does not get empty is cut to `QUEUE_DELAY`, as fast as it is read
now. What is refused was not sent: without a queue discipline in between TCP is told, keeps it, and
loses nothing. With few peers the bursts are large enough as it is, and others than TCP do not heed
how long they wait. All queues are as long, but only that of the streams (wgpy.device.steering) is
looked at.
"""

import asyncio
import logging
from collections.abc import Callable, Set
from math import inf

from wgpy.device import clock
from wgpy.device.fromhost import Turn
from wgpy.device.sizes import QUEUE_DELAY, SHORTEST_TUN_QUEUE, TUN_QUEUE

_log = logging.getLogger("wgpy.device")

# Seconds without an empty queue from which the speed is known, and seconds without a full turn
# after which it may be long again: the next burst may be one of small packets.
_MEASURED = 0.02
_CALM = 0.5
# Peers from which on it helps.
_MANY = 4
# Lengths that differ by less are the same: each change is told to all who follow links.
_ALIKE = 1.5


class TunQueue:
    """Hears of every turn; `set_length` may raise OSError."""

    def __init__(self, loop: asyncio.AbstractEventLoop, set_length: Callable[[int], None]) -> None:
        self._loop = loop
        self._set_length = set_length
        # 0: not ours to change.
        self._length = 0
        # Since when something waits all the time, and what was read meanwhile.
        self._since = inf
        self._reads = 0
        self._super_packets = 0
        self._reached: set[int] = set()
        self._last_stood = -inf
        self._calm: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The interface is ours. OSError."""
        self._set_length(TUN_QUEUE)
        self._length = TUN_QUEUE

    def close(self) -> None:
        self._length = 0
        if self._calm is not None:
            self._calm.cancel()

    def is_set_to(self, length: int) -> None:
        """What somebody else chooses stays."""
        if length != self._length:
            self.close()

    def turned(self, turn: Turn, reached: Set[int]) -> None:
        """A turn of the loop has read from the TUN, and sent along these paths."""
        if not (self._length and turn.stands):
            self._since = inf
            return
        self._last_stood = now = clock.now()
        if self._since != inf:
            self._reads += turn.reads
            self._super_packets += turn.super_packets
            self._reached |= reached
            if now - self._since < _MEASURED:
                return
            helps = len(self._reached) >= _MANY and 2 * self._super_packets >= self._reads
            length = int(self._reads / (now - self._since) * QUEUE_DELAY) if helps else TUN_QUEUE
            self._fit(length)
        self._since, self._reads, self._super_packets = now, 0, 0
        self._reached.clear()

    def _fit(self, length: int) -> None:
        length = max(SHORTEST_TUN_QUEUE, min(length, TUN_QUEUE))
        if not self._length / _ALIKE <= length <= self._length * _ALIKE:
            self._change(length)
            if self._calm is None:
                self._calm = self._loop.call_later(_CALM, self._look)

    def _look(self) -> None:
        """Whether it is still so busy."""
        self._calm = None
        if clock.now() - self._last_stood < _CALM:
            self._calm = self._loop.call_later(_CALM, self._look)
        else:
            self._change(TUN_QUEUE)

    def _change(self, length: int) -> None:
        if length == self._length:
            return
        before, self._length = self._length, length
        try:
            self._set_length(length)
        except OSError as error:
            _log.info("the length of the interface's queue stays %d: %s", before, error)
            self.close()
