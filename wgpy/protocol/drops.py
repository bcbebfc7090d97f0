"""Why a packet was dropped, and how many were."""

from enum import StrEnum


class DropReason(StrEnum):
    """Every way in which a packet or datagram ends early."""

    # From the network, before anything is authenticated.
    TRUNCATED = "truncated"  # shorter than the message its type names, or than any message
    UNKNOWN_TYPE = "unknown-type"  # type or reserved bytes that no message has
    NO_PRIVATE_KEY = "no-private-key"
    BAD_MAC1 = "bad-mac1"
    RATE_LIMITED = "rate-limited"  # valid mac2 under load, but more than its share
    COOKIE_SENT = "cookie-sent"  # under load without mac2: answered with a cookie only
    HANDSHAKE_QUEUE_FULL = "handshake-queue-full"
    UNKNOWN_INDEX = "unknown-index"  # no session or handshake of ours has this index
    BAD_HANDSHAKE = "bad-handshake"  # does not authenticate
    UNKNOWN_PEER = "unknown-peer"  # a good initiation of nobody we know
    REPLAYED_INITIATION = "replayed-initiation"
    INITIATION_FLOOD = "initiation-flood"
    BAD_COOKIE_REPLY = "bad-cookie-reply"
    EXPIRED_SESSION = "expired-session"
    BAD_TAG = "bad-tag"
    # Authenticated.
    REPLAYED = "replayed"
    BAD_INNER_PACKET = "bad-inner-packet"
    BAD_SOURCE = "bad-source"  # allowed-ips give the inner source to somebody else
    # From the host.
    NO_ROUTE = "no-route"  # no peer owns the destination
    NO_ENDPOINT = "no-endpoint"
    ROUTING_LOOP = "routing-loop"  # our own datagram came back through the interface
    STAGED_OVERFLOW = "staged-overflow"
    HANDSHAKE_FAILED = "handshake-failed"  # staged packets of a peer that never answered
    INTERFACE_DOWN = "interface-down"
    BAD_SUPER_PACKET = "bad-super-packet"
    # At the edges.
    SEND_ERROR = "send-error"
    TUN_FULL = "tun-full"
    TUN_ERROR = "tun-error"


class Drops(dict[DropReason, int]):
    """Packets dropped, by reason."""

    def count(self, reason: DropReason, packets: int = 1) -> None:
        self[reason] = self.get(reason, 0) + packets

    def named(self) -> dict[str, int]:
        return {str(reason): packets for reason, packets in self.items()}
