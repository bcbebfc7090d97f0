"""What processes that carry one interface's packets together tell each other.

One process leads: it makes the handshakes, keeps the timers and the configuration. The others
follow: each reads a queue of the TUN and a socket of its own, and owns the receiving half of
those sessions whose index says so. All may send in every session.

    nonce uniqueness: the counters of a session come from one place, its Counter. Taking n of them
    reads the place and moves it on by n, and no other process can come between; who dies in it
    has moved it on, or not and taken nothing. A place never moves back while it is a session's:
    it is given to another one by its tag first, and from there on a follower that still has the
    old session is refused. So no two messages of one key have the same nonce, whoever dies at
    whatever moment: counters that were taken and not used are lost, never given again.

    confirmation: a responder's session sends from the initiator's first packet on, which only
    its owner sees. The answer to that very packet may be read by another process, so the word
    goes by the shared place, not by a message that could come too late.

    replay: only its owner opens a session's messages, so its window is in one process. When an
    owner dies its windows die, and so do its sessions: new handshakes make new ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from wgpy.protocol.constants import REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME
from wgpy.protocol.drops import DropReason
from wgpy.protocol.keypair import Keypair
from wgpy.protocol.noise import SessionKeys
from wgpy.protocol.path import Path


class Ticket(NamedTuple):
    """A session's place among the counters: which, and the number that is never given twice."""

    slot: int
    tag: int


class Counter(Protocol):
    """The place from which all processes take one session's counters."""

    ticket: Ticket

    def take(self, count: int) -> int | None:
        """The first of `count` counters that are nobody else's; None if the place is lost."""

    def confirm(self) -> None:
        """Let all processes know that the session was confirmed."""

    @property
    def confirmed(self) -> bool:
        """Whether a process has said so."""

    def free(self) -> None:
        """Let another session have the place."""


class SharedKeypair(Keypair):
    """A session in which several processes send."""

    __slots__ = ("_counter", "keys")

    def __init__(self, keys: SessionKeys, created: float, counter: Counter) -> None:
        super().__init__(keys, created)
        self.keys = keys
        self._counter = counter

    @property
    def ticket(self) -> Ticket:
        return self._counter.ticket

    def reserve(self, count: int, now: float) -> int | None:
        if not self.sending:
            return None
        if now - self.created < REJECT_AFTER_TIME:
            first = self._counter.take(count)
            if first is not None and first + count <= REJECT_AFTER_MESSAGES:
                self.send_counter = first + count
                return first
        self.sending = False
        return None

    def erase(self) -> None:
        self._counter.free()

    def confirm(self) -> None:
        self._counter.confirm()

    @property
    def was_confirmed(self) -> bool:
        return self._counter.confirmed


@dataclass(frozen=True, slots=True)
class Session:
    """A session as the leader hands it on."""

    keys: SessionKeys
    created: float
    sending: bool
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class PeerState:
    """All that a follower has to know of a peer besides its configuration."""

    public_key: bytes
    path: Path | None
    current: Session | None
    next: Session | None
    retired: tuple[Session, ...]


@dataclass(slots=True)
class PeerReport:
    """What a peer's packets did in a follower since its last report."""

    public_key: bytes
    # Where it was last heard from, if that is news.
    path: Path | None = None
    # The session that a first packet has confirmed.
    confirmed: int | None = None
    wants_handshake: bool = False
    # When each last happened: the hooks of the timers.
    data_sent: float | None = None
    data_received: float | None = None
    sent: float | None = None
    received: float | None = None
    rx_bytes: int = 0
    tx_bytes: int = 0
    drops: dict[DropReason, int] = field(default_factory=dict)


MakeCounter = Callable[[Ticket], Counter]


def session_of(keypair: Keypair) -> Session:
    assert isinstance(keypair, SharedKeypair)
    return Session(keypair.keys, keypair.created, keypair.sending, keypair.ticket)
