"""How long the TUN's queues are: long, or as short as makes the host send much at a time.

Each super-packet costs us a fixed time, so all depends on how large they are, and TCP makes them
by what it believes of the way: large where the shortest round trip that it saw was below a
millisecond (tcp_tso_autosize), and of a third of its window at most (tcp_tso_should_defer). The
kernel counts packets in a queue, whatever their size. Many flows to many peers fill a long one
before any has seen how short the way is; then all send two or three segments at a time for good,
and one process carries 300 to 600 Mbit/s with all that it has.

So a queue of super-packets to many peers that does not get empty is cut. What finds it full is
refused, not lost: without a queue discipline in between TCP is told, and keeps it. BBR sends large
super-packets from then on, and the queue stays short. To others each refusal is a smaller window,
so they stay small in a short queue; but now they know how short the way is, and grow where it is
long again. Which of the two it is, their size tells after a second.

With few peers the bursts are large enough as it is, and others than TCP do not heed how long they
wait. All queues are as long, but only that of the streams (wgpy.device.steering) is looked at.
"""

import asyncio
import logging
from collections.abc import Callable, Set
from math import inf

from wgpy.device import clock
from wgpy.device.fromhost import Turn
from wgpy.device.sizes import SHORT_TUN_QUEUE, TUN_QUEUE

_log = logging.getLogger("wgpy.device")

# Seconds over which it is seen whether packets stand in line, and without that from which on the
# queue may be long again: the next burst may be one of small packets.
_WINDOW = 0.05
_CALM = 0.5
# Peers from which on it helps.
_MANY = 4
# Bytes of a super-packet that is worth its fixed time. They must be so large in the last second of
# a trial: of the short queue, or of the long one, in which windows have to grow first.
_LARGE = 8192
_TRIAL_OF_SHORT, _TRIAL_OF_LONG = 1.0, 3.0
_LAST = 1.0


class TunQueue:
    """Hears of every turn; `set_length` may raise OSError."""

    def __init__(self, loop: asyncio.AbstractEventLoop, set_length: Callable[[int], None]) -> None:
        self._loop = loop
        self._set_length = set_length
        # 0: not ours to change.
        self._length = 0
        # Since something stood in line: what was read, and how much of it in such turns.
        self._since = inf
        self._reads = self._super_packets = self._size = self._stood = 0
        self._reached: set[int] = set()
        self._last_stood = -inf
        self._calm: asyncio.TimerHandle | None = None
        # What is tried, for how long yet, and what was read meanwhile.
        self._short = True
        self._trial = _TRIAL_OF_SHORT
        self._tried_reads = self._tried_size = 0

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
        # One turn can empty a short queue that is full again before the next one.
        stands = turn.stands or 2 * turn.reads >= self._length
        if not self._length or (self._since == inf and not stands):
            return
        now = clock.now()
        if self._since == inf:
            self._since = now
            return
        self._reads += turn.reads
        self._super_packets += turn.super_packets
        self._size += turn.size
        self._stood += turn.reads if stands else 0
        self._reached |= reached
        if now - self._since >= _WINDOW:
            self._look(now)
            self._since = inf
            self._reads = self._super_packets = self._size = self._stood = 0
            self._reached.clear()

    def _look(self, now: float) -> None:
        """At the end of a window."""
        if 2 * self._stood < self._reads:
            return
        self._last_stood = now
        helps = len(self._reached) >= _MANY and 2 * self._super_packets >= self._reads
        if helps:
            self._try(now - self._since)
        self._change(SHORT_TUN_QUEUE if helps and self._short else TUN_QUEUE)
        if self._calm is None:
            self._calm = self._loop.call_later(_CALM, self._calm_down)

    def _try(self, seconds: float) -> None:
        """So much longer; another length at the end if super-packets are small with this one."""
        if self._trial <= _LAST:
            self._tried_reads += self._reads
            self._tried_size += self._size
        self._trial -= seconds
        if self._trial > 0:
            return
        if self._tried_size < _LARGE * self._tried_reads:
            self._short = not self._short
        self._trial = _TRIAL_OF_SHORT if self._short else _TRIAL_OF_LONG
        self._tried_reads = self._tried_size = 0

    def _calm_down(self) -> None:
        """Long again, unless it is still so busy."""
        self._calm = None
        if clock.now() - self._last_stood < _CALM:
            self._calm = self._loop.call_later(_CALM, self._calm_down)
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
