"""Section 5.3: the token bucket, against the simplest one there is."""

from hypothesis import given
from hypothesis import strategies as st

from wgpy.protocol.ratelimiter import RateLimiter

_HOSTS = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")
# The two addresses of one /64 are one source.
_SOURCES = {host: host for host in _HOSTS} | {"2001:db8::2": "2001:db8::1"}


# Mostly none, so that buckets run empty.
_PAUSES = st.one_of(st.just(0), st.just(0), st.integers(0, 400))


@given(st.lists(st.tuples(st.sampled_from(_HOSTS), _PAUSES), max_size=200))
def test_answers_are_those_of_a_bucket_that_forgets_nothing(steps: list[tuple[str, int]]) -> None:
    """Times are multiples of 1/1024 s, so that both sides count exactly."""
    limiter = RateLimiter()
    buckets: dict[str, tuple[float, float]] = {}
    now = 1000.0
    for host, pause in steps:
        now += pause / 1024
        tokens, last = buckets.get(_SOURCES[host], (5.0, now))
        tokens = min(5.0, tokens + (now - last) * 20)
        buckets[_SOURCES[host]] = (tokens - 1 if tokens >= 1 else tokens, now)
        assert limiter.allow(host, now) is (tokens >= 1)


def test_one_more_every_twentieth_of_a_second_and_what_is_refused_costs_nothing() -> None:
    limiter = RateLimiter()
    for _ in range(5):
        assert limiter.allow("192.0.2.1", 0.0)
    for _ in range(1000):
        assert not limiter.allow("192.0.2.1", 0.046875)
    assert limiter.allow("192.0.2.1", 0.0625)
    assert not limiter.allow("192.0.2.1", 0.0625)


def test_a_long_rest_saves_no_more_than_five() -> None:
    limiter = RateLimiter()
    assert limiter.allow("192.0.2.1", 0.0)
    assert [limiter.allow("192.0.2.1", 100.0) for _ in range(7)] == [True] * 5 + [False] * 2


def test_a_source_that_spent_all_is_remembered_until_it_is_full_again() -> None:
    for rest, left in ((0.125, 2), (0.1875, 3), (0.25, 5), (0.375, 5)):
        limiter = RateLimiter()
        for _ in range(5):
            limiter.allow("192.0.2.1", 0.0)
        # Another source's turn is when this one might be forgotten.
        limiter.allow("192.0.2.2", rest)
        assert [limiter.allow("192.0.2.1", rest) for _ in range(7)] == [True] * left + [False] * (
            7 - left
        )


def test_a_flood_of_other_sources_does_not_give_a_spent_source_new_tokens() -> None:
    limiter = RateLimiter()
    for _ in range(5):
        assert limiter.allow("192.0.2.1", 0.0)
    for k in range(50_000):
        limiter.allow(f"10.{k >> 16}.{k >> 8 & 255}.{k & 255}", 0.0)
    assert not limiter.allow("192.0.2.1", 0.0)


def test_forgetting_is_spread_over_calls() -> None:
    limiter = RateLimiter()
    for k in range(1000):
        limiter.allow(f"10.0.{k >> 8}.{k & 255}", 0.0)
    for step in range(1, 500):
        limiter.allow("192.0.2.1", 100.0)
        # Two go for the one that came.
        assert len(limiter._buckets) == 1001 - 2 * step
    limiter.allow("192.0.2.1", 100.0)
    limiter.allow("192.0.2.1", 100.0)
    assert len(limiter._buckets) == 1
