"""Sections 5.4.4 and 5.4.7: macs and cookies; the rate limiter of section 5.3."""

import hashlib

import pytest
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt

from wgpy.protocol.config import Endpoint, Secret
from wgpy.protocol.cookie import CookieChecker, CookieGenerator, source_bytes
from wgpy.protocol.messages import parse_cookie_reply_untrusted
from wgpy.protocol.noise import Identity
from wgpy.protocol.ratelimiter import RateLimiter

_BOB = Identity(Secret(b"b" * 32)).public
_SOURCE = source_bytes(Endpoint("192.0.2.1", 51820))


class _Random:
    """Different bytes each time, the same each run."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, count: int) -> bytes:
        self._calls += 1
        return hashlib.shake_128(bytes([self._calls])).digest(count)


def _sides() -> tuple[CookieChecker, CookieGenerator]:
    return CookieChecker(_BOB, _Random()), CookieGenerator(_BOB)


def _message(generator: CookieGenerator, now: float, size: int = 148) -> bytes:
    message = bytearray(range(size - 32)) + bytearray(32)
    generator.add_macs(message, now)
    return bytes(message)


def _with_cookie() -> tuple[CookieChecker, CookieGenerator]:
    """At time 100 the generator gets a cookie."""
    checker, generator = _sides()
    message = _message(generator, 100)
    reply = checker.create_reply(message, _SOURCE, 100)
    assert generator.consume_reply_untrusted(parse_cookie_reply_untrusted(reply), 100)
    return checker, generator


def test_mac1_is_the_keyed_hash_of_all_that_lies_before_it() -> None:
    _, generator = _sides()
    message = _message(generator, 0)
    key = hashlib.blake2s(b"mac1----" + _BOB).digest()
    assert message[-32:-16] == hashlib.blake2s(message[:-32], key=key, digest_size=16).digest()
    assert message[-16:] == bytes(16)


@pytest.mark.parametrize("position", [0, 50, 115, 116, 131])
def test_mac1_covers_all_that_lies_before_it_and_itself(position: int) -> None:
    checker, generator = _sides()
    message = bytearray(_message(generator, 0))
    assert checker.check_mac1(bytes(message))
    message[position] ^= 1
    assert not checker.check_mac1(bytes(message))


def test_only_with_a_cookie_there_is_a_mac2() -> None:
    checker, generator = _sides()
    assert not checker.check_mac2(_message(generator, 99), _SOURCE, 99)
    checker, generator = _with_cookie()
    message = _message(generator, 101)
    assert checker.check_mac1(message)
    assert checker.check_mac2(message, _SOURCE, 101)


@pytest.mark.parametrize("position", [0, 115, 116, 131, 132, 147])
def test_mac2_covers_all_that_lies_before_it_and_itself(position: int) -> None:
    checker, generator = _with_cookie()
    message = bytearray(_message(generator, 101))
    message[position] ^= 1
    assert not checker.check_mac2(bytes(message), _SOURCE, 101)


def test_a_cookie_is_bound_to_address_and_port() -> None:
    checker, generator = _with_cookie()
    message = _message(generator, 101)
    for endpoint in (
        Endpoint("192.0.2.2", 51820),
        Endpoint("192.0.2.1", 51821),
        Endpoint("2001:db8::1", 51820),
    ):
        other = source_bytes(endpoint)
        assert not checker.check_mac2(message, other, 101)


def test_a_cookie_is_used_for_115_seconds_and_good_for_120() -> None:
    checker, generator = _with_cookie()
    assert any(_message(generator, 214.9)[-16:])
    assert _message(generator, 215.1)[-16:] == bytes(16)
    checker, generator = _with_cookie()
    message = _message(generator, 110)
    assert checker.check_mac2(message, _SOURCE, 219.9)
    assert not checker.check_mac2(message, _SOURCE, 220.1)


def test_the_secret_changes_every_two_minutes() -> None:
    checker, generator = _sides()
    message = _message(generator, 0)

    def cookie(now: float) -> bytes:
        reply = checker.create_reply(message, _SOURCE, now)
        key = hashlib.blake2s(b"cookie--" + _BOB).digest()
        return crypto_aead_xchacha20poly1305_ietf_decrypt(
            reply[32:], message[-32:-16], reply[8:32], key
        )

    first = cookie(0)
    assert cookie(119) == first
    assert cookie(120) != first


def test_a_reply_names_the_sender_index_and_its_nonce_is_fresh() -> None:
    checker, generator = _sides()
    message = _message(generator, 0)
    one, two = (checker.create_reply(message, _SOURCE, 0) for _ in range(2))
    assert one[:4] == bytes([3, 0, 0, 0])
    assert one[4:8] == message[4:8]
    assert one[8:32] != two[8:32]
    assert len(one) == 64


def test_a_reply_is_consumed_once_and_only_for_the_last_message() -> None:
    checker, generator = _sides()
    first = _message(generator, 0)
    reply = parse_cookie_reply_untrusted(checker.create_reply(first, _SOURCE, 0))
    _message(generator, 0, size=92)
    assert not generator.consume_reply_untrusted(reply, 0)
    again = _message(generator, 0)
    assert again == first
    assert generator.consume_reply_untrusted(reply, 0)
    assert not generator.consume_reply_untrusted(reply, 0)


@pytest.mark.parametrize("position", range(8, 64))
def test_a_reply_with_any_bit_flipped_is_refused(position: int) -> None:
    checker, generator = _sides()
    reply = bytearray(checker.create_reply(_message(generator, 0), _SOURCE, 0))
    reply[position] ^= 1
    assert not generator.consume_reply_untrusted(parse_cookie_reply_untrusted(bytes(reply)), 0)
    assert _message(generator, 1)[-16:] == bytes(16)


# The rate limiter.


def test_a_source_gets_five_at_once_and_twenty_a_second() -> None:
    limiter = RateLimiter()
    assert [limiter.allow("192.0.2.1", 10.0) for _ in range(6)] == [True] * 5 + [False]
    allowed = sum(limiter.allow("192.0.2.1", 10.0 + k / 1000) for k in range(1, 10_001))
    assert 199 <= allowed <= 201


def test_other_sources_are_not_touched_but_one_ipv6_network_is_one_source() -> None:
    limiter = RateLimiter()
    for _ in range(6):
        limiter.allow("192.0.2.1", 0)
        limiter.allow("2001:db8:1:2::1", 0)
    assert limiter.allow("192.0.2.2", 0)
    assert not limiter.allow("2001:db8:1:2:ffff::9", 0)
    assert limiter.allow("2001:db8:1:3::1", 0)


def test_what_the_limiter_remembers_is_bounded_and_forgotten() -> None:
    limiter = RateLimiter()
    for k in range(200_000):
        limiter.allow(f"10.{k >> 16}.{k >> 8 & 255}.{k & 255}", 5.0)
    assert len(limiter._buckets) <= 2**16
    for k in range(40_000):
        limiter.allow("192.0.2.1", 10.0 + k)
    assert len(limiter._buckets) <= 2
