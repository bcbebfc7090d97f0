"""Handshake messages from the network: a bounded queue, and the defence under load (section 5.3).

One turn does a bounded amount of work, so that a flood of handshakes delays data only a little;
what does not fit waits in the queue, and a long queue is what "under load" means.
"""

from collections import deque
from collections.abc import Mapping
from math import inf

from wgpy.protocol.constants import (
    COOKIE_REPLY_LEN,
    INITIATION_LEN,
    MAX_QUEUED_INCOMING_HANDSHAKES,
    MESSAGE_COOKIE_REPLY,
    MESSAGE_INITIATION,
    MESSAGE_RESPONSE,
    RESPONSE_LEN,
    UNDER_LOAD_AFTER,
    UNDER_LOAD_QUEUE,
)
from wgpy.protocol.cookie import CookieChecker, source_bytes
from wgpy.protocol.drops import DropReason
from wgpy.protocol.events import Event, EventKind
from wgpy.protocol.messages import (
    parse_cookie_reply_untrusted,
    parse_initiation_untrusted,
    parse_response_untrusted,
)
from wgpy.protocol.noise import NoiseError, open_initiation_untrusted
from wgpy.protocol.path import Path
from wgpy.protocol.peer import Peer
from wgpy.protocol.ratelimiter import RateLimiter
from wgpy.protocol.shared import Shared, Transmit

_SIZES = {
    MESSAGE_INITIATION: INITIATION_LEN,
    MESSAGE_RESPONSE: RESPONSE_LEN,
    MESSAGE_COOKIE_REPLY: COOKIE_REPLY_LEN,
}
# Work of one turn, in units of one MAC check; Diffie-Hellman costs about thirty of them.
_TURN = 128
_DH_COST = 30

_REASONS = {
    "replayed-timestamp": DropReason.REPLAYED_INITIATION,
    "initiation-flood": DropReason.INITIATION_FLOOD,
}


class Handshakes:
    """The queue of messages of types 1 to 3, and what is done with them."""

    def __init__(self, shared: Shared, peers: Mapping[bytes, Peer]) -> None:
        self._shared = shared
        self._peers = peers
        self._queue: deque[tuple[bytes, Path]] = deque()
        self._checker: CookieChecker | None = None
        self._limiter = RateLimiter()
        self._last_under_load = -inf

    @property
    def waiting(self) -> bool:
        return bool(self._queue)

    def identity_changed(self) -> None:
        """A new private key: what was addressed to the old one is void."""
        identity = self._shared.identity
        self._checker = None
        if identity is not None:
            self._checker = CookieChecker(identity.public, self._shared.random)

    def receive(self, datagram: memoryview, path: Path, now: float) -> None:
        """Queue one message of a type other than transport."""
        kind = int.from_bytes(datagram[:4], "little")
        size = _SIZES.get(kind)
        if size is None:
            self._shared.drop(DropReason.UNKNOWN_TYPE)
        elif len(datagram) != size:
            self._shared.drop(DropReason.TRUNCATED)
        elif self._checker is None:
            self._shared.drop(DropReason.NO_PRIVATE_KEY)
        elif len(self._queue) >= MAX_QUEUED_INCOMING_HANDSHAKES:
            self._shared.drop(DropReason.HANDSHAKE_QUEUE_FULL)
        else:
            self._queue.append((bytes(datagram), path))

    def work(self, now: float) -> None:
        """Handle queued messages, as many as one turn allows."""
        budget = _TURN
        while self._queue and budget > 0:
            if len(self._queue) >= UNDER_LOAD_QUEUE:
                self._last_under_load = now
            message, path = self._queue.popleft()
            budget -= 1
            kind = message[0]
            if kind == MESSAGE_COOKIE_REPLY:
                self._consume_cookie_reply(message, now)
            elif self._passes(message, path, now):
                budget -= _DH_COST
                if kind == MESSAGE_INITIATION:
                    self._consume_initiation(message, path, now)
                else:
                    self._consume_response(message, path, now)

    def clear(self) -> None:
        self._queue.clear()

    def _passes(self, message: bytes, path: Path, now: float) -> bool:
        """Whether the message has earned the expensive part."""
        if self._checker is None:
            self._shared.drop(DropReason.NO_PRIVATE_KEY)
            return False
        under_load = now - self._last_under_load < UNDER_LOAD_AFTER
        if not self._checker.check_mac1(message):
            self._shared.drop(DropReason.BAD_MAC1)
            return False
        if not under_load:
            return True
        source = source_bytes(path.endpoint)
        if not self._checker.check_mac2(message, source, now):
            reply = self._checker.create_reply(message, source, now)
            self._shared.drop(DropReason.COOKIE_SENT)
            self._shared.transmits.append(
                Transmit(Path(path.endpoint, path.source), [reply], len(reply), 0, len(reply), None)
            )
            self._shared.events.append(Event(EventKind.COOKIE_SENT, None, str(path.endpoint)))
            return False
        if not self._limiter.allow(path.endpoint.host, now):
            self._shared.drop(DropReason.RATE_LIMITED)
            return False
        return True

    def _consume_initiation(self, message: bytes, path: Path, now: float) -> None:
        identity = self._shared.identity
        if identity is None:
            return
        peer = None
        try:
            opened = open_initiation_untrusted(identity, parse_initiation_untrusted(message))
            peer = self._peers.get(opened.remote_static)
            if peer is None:
                self._shared.drop(DropReason.UNKNOWN_PEER)
                return
            peer.respond(opened, path, len(message), now)
        except NoiseError as error:
            self._shared.drop(_REASONS.get(error.reason, DropReason.BAD_HANDSHAKE), peer)

    def _consume_response(self, message: bytes, path: Path, now: float) -> None:
        response = parse_response_untrusted(message)
        slot = self._shared.indices.get(response.receiver_index)
        if slot is None or slot.keypair is not None:
            self._shared.drop(DropReason.UNKNOWN_INDEX)
            return
        try:
            slot.peer.complete(response, path, len(message), now)
        except NoiseError:
            self._shared.drop(DropReason.BAD_HANDSHAKE, slot.peer)

    def _consume_cookie_reply(self, message: bytes, now: float) -> None:
        reply = parse_cookie_reply_untrusted(message)
        slot = self._shared.indices.get(reply.receiver_index)
        if slot is None:
            self._shared.drop(DropReason.UNKNOWN_INDEX)
        elif not slot.peer.cookies.consume_reply_untrusted(reply, now):
            self._shared.drop(DropReason.BAD_COOKIE_REPLY, slot.peer)
