"""A token bucket for each source, so that nobody's handshakes cost us more than their share."""

from collections import OrderedDict
from ipaddress import IPv6Address

from wgpy.protocol.constants import (
    RATELIMIT_BURST,
    RATELIMIT_MAX_ENTRIES,
    RATELIMIT_PER_SECOND,
)


class RateLimiter:
    """20 a second with a burst of 5, for each IPv4 address and each IPv6 /64."""

    def __init__(self) -> None:
        # Source -> (tokens, time), the longest silent first.
        self._buckets: OrderedDict[str | bytes, tuple[float, float]] = OrderedDict()

    def allow(self, host: str, now: float) -> bool:
        """Take one token of `host`; False if it has none left."""
        source = IPv6Address(host.partition("%")[0]).packed[:8] if ":" in host else host
        tokens, last = self._buckets.pop(source, (float(RATELIMIT_BURST), now))
        tokens = min(RATELIMIT_BURST, tokens + (now - last) * RATELIMIT_PER_SECOND)
        allowed = tokens >= 1
        self._buckets[source] = (tokens - allowed, now)
        self._forget(now)
        return allowed

    def _forget(self, now: float) -> None:
        """Buckets that are full again say nothing: two steps for each that came."""
        full_after = RATELIMIT_BURST / RATELIMIT_PER_SECOND
        for _ in range(2):
            source, (_tokens, last) = next(iter(self._buckets.items()))
            if now - last <= full_after and len(self._buckets) <= RATELIMIT_MAX_ENTRIES:
                return
            del self._buckets[source]
