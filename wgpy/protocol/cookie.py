"""MACs and cookies (sections 5.4.4 and 5.4.7): cheap proof before expensive curves."""

import hmac
from collections.abc import Callable
from ipaddress import ip_address
from math import inf

from wgpy.protocol.config import Endpoint
from wgpy.protocol.constants import (
    COOKIE_NONCE_LEN,
    COOKIE_SECRET_LATENCY,
    COOKIE_SECRET_MAX_AGE,
    KEY_LEN,
    LABEL_COOKIE,
    LABEL_MAC1,
    MAC_LEN,
    MESSAGE_COOKIE_REPLY,
)
from wgpy.protocol.crypto import AuthenticationError, hash_, mac, xopen, xseal
from wgpy.protocol.messages import COOKIE_REPLY, CookieReply

_MAC1 = slice(-2 * MAC_LEN, -MAC_LEN)
_MAC2 = slice(-MAC_LEN, None)


def source_bytes(endpoint: Endpoint) -> bytes:
    """What a cookie is bound to: address and port."""
    return ip_address(endpoint.host).packed + endpoint.port.to_bytes(2, "big")


class CookieChecker:
    """Checks the macs of messages to us, and hands out cookies."""

    def __init__(self, public_key: bytes, random: Callable[[int], bytes]) -> None:
        self._mac1_key = hash_(LABEL_MAC1, public_key)
        self._cookie_key = hash_(LABEL_COOKIE, public_key)
        self._random = random
        self._secret = b""
        self._secret_born = -inf

    def check_mac1(self, message: bytes) -> bool:
        """Whether the sender knows our public key."""
        mac1 = mac(self._mac1_key, message[: -2 * MAC_LEN])
        return hmac.compare_digest(mac1, message[_MAC1])

    def check_mac2(self, message: bytes, source: bytes, now: float) -> bool:
        """Whether the sender has a cookie of ours: it really is at `source`."""
        if now - self._secret_born >= COOKIE_SECRET_MAX_AGE:
            return False
        mac2 = mac(mac(self._secret, source), message[:-MAC_LEN])
        return hmac.compare_digest(mac2, message[_MAC2])

    def create_reply(self, message: bytes, source: bytes, now: float) -> bytes:
        """A cookie for the sender of `message`, which only its maker can decrypt."""
        if now - self._secret_born >= COOKIE_SECRET_MAX_AGE:
            self._secret = self._random(KEY_LEN)
            self._secret_born = now
        nonce = self._random(COOKIE_NONCE_LEN)
        cookie = mac(self._secret, source)
        sealed = xseal(self._cookie_key, nonce, cookie, bytes(message[_MAC1]))
        receiver = int.from_bytes(message[4:8], "little")
        return COOKIE_REPLY.pack(MESSAGE_COOKIE_REPLY, receiver, nonce, sealed)


class CookieGenerator:
    """Puts macs on messages to one peer, with the cookie that it gave us."""

    def __init__(self, remote_static: bytes) -> None:
        self._mac1_key = hash_(LABEL_MAC1, remote_static)
        self._cookie_key = hash_(LABEL_COOKIE, remote_static)
        self._cookie = b""
        self._cookie_born = -inf
        # mac1 of the last message, while no reply to it was consumed.
        self._last_mac1: bytes | None = None

    def add_macs(self, message: bytearray, now: float) -> None:
        """Fill in the last 32 bytes."""
        self._last_mac1 = mac(self._mac1_key, message[: -2 * MAC_LEN])
        message[_MAC1] = self._last_mac1
        if now - self._cookie_born < COOKIE_SECRET_MAX_AGE - COOKIE_SECRET_LATENCY:
            message[_MAC2] = mac(self._cookie, message[:-MAC_LEN])
        else:
            message[_MAC2] = bytes(MAC_LEN)

    def consume_reply_untrusted(self, reply: CookieReply, now: float) -> bool:
        """Keep the cookie of an authentic reply to our last message."""
        if self._last_mac1 is None:
            return False
        try:
            cookie = xopen(self._cookie_key, reply.nonce, reply.encrypted_cookie, self._last_mac1)
        except AuthenticationError:
            return False
        self._cookie = cookie
        self._cookie_born = now
        self._last_mac1 = None
        return True
