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

    def accept_batch(self, counters: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """`check_and_set` for each counter, in order."""
        count = len(counters)
        first = int(counters[0]) if count else 0
        if (
            count
            and first >= self._newest
            and first + count <= REJECT_AFTER_MESSAGES
            and bool((counters == np.arange(first, first + count, dtype=np.uint64)).all())
        ):
            # Consecutive and all newer: what a transfer without loss looks like.
            ahead = first + count - self._newest
            self._seen = (self._seen << ahead & _MASK) | ((1 << count) - 1)
            self._newest = first + count
            return np.ones(count, bool)
        return np.array([self.check_and_set(counter) for counter in counters.tolist()], bool)
