"""The sliding window of RFC 6479: which counters were seen, 8128 back from the newest."""

import numpy as np
from numpy.typing import NDArray

from wgpy.protocol.constants import COUNTER_WINDOW_SIZE, REJECT_AFTER_MESSAGES

_MASK = (1 << COUNTER_WINDOW_SIZE) - 1


class ReplayWindow:
    """Asked only about authenticated messages."""

    __slots__ = ("_newest", "_seen")

    def __init__(self) -> None:
        # Counters are kept one higher, so that 0 means none yet, as in the kernel.
        self._newest = 0
        # Bit k: the counter k below the newest was seen.
        self._seen = 0

    def check_and_set(self, counter: int) -> bool:
        """Whether `counter` is new; it counts as seen from now on."""
        if counter >= REJECT_AFTER_MESSAGES:
            return False
        number = counter + 1
        ahead = number - self._newest
        if ahead > 0:
            self._seen = 1 if ahead > COUNTER_WINDOW_SIZE else self._seen << ahead & _MASK | 1
            self._newest = number
            return True
        if -ahead >= COUNTER_WINDOW_SIZE:
            return False
        bit = 1 << -ahead
        if self._seen & bit:
            return False
        self._seen |= bit
        return True

    def accept_run(self, counters: NDArray[np.uint64]) -> bool:
        """Take n > 0 consecutive counters that are all newer; what a transfer without loss has.

        False, and nothing is taken, for any others.
        """
        count, first = len(counters), int(counters[0])
        end = first + count
        if first < self._newest or end > REJECT_AFTER_MESSAGES:
            return False
        # Bytes compare quicker than arrays of this size.
        if counters.tobytes() != np.arange(first, end, dtype=np.uint64).tobytes():
            return False
        self._seen = (self._seen << end - self._newest & _MASK) | ((1 << count) - 1)
        self._newest = end
        return True

    def accept_batch(self, counters: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """`check_and_set` for each counter, in order."""
        return np.array([self.check_and_set(counter) for counter in counters.tolist()], bool)
