"""What an interface reports besides packets: for logs and for whoever watches."""

from dataclasses import dataclass
from enum import StrEnum


class EventKind(StrEnum):
    """The moments in the life of a peer that are worth a log line."""

    INITIATION_SENT = "sent handshake initiation"
    RESPONSE_SENT = "sent handshake response"
    COOKIE_SENT = "sent cookie reply"
    HANDSHAKE_COMPLETE = "handshake complete"
    SESSION_CREATED = "session created"
    HANDSHAKE_GIVEN_UP = "handshake given up: peer does not answer"
    ROAMED = "peer is at a new endpoint"
    KEYS_ERASED = "keys erased"


@dataclass(frozen=True, slots=True)
class Event:
    """One such moment; `public_key` is None where no peer is known."""

    kind: EventKind
    public_key: bytes | None
    detail: str = ""
