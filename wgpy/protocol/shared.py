"""What all peers of one interface share: identity, indices, outputs and sources of randomness."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from wgpy.protocol.batch import Buffer, PacketRows
from wgpy.protocol.config import Secret
from wgpy.protocol.constants import DEFAULT_MTU
from wgpy.protocol.drops import DropReason, Drops
from wgpy.protocol.events import Event
from wgpy.protocol.indextable import IndexTable
from wgpy.protocol.keypair import Keypair
from wgpy.protocol.noise import Identity, SessionKeys
from wgpy.protocol.path import Path
from wgpy.protocol.rowcipher import OneByOne, RowCipher

if TYPE_CHECKING:
    from wgpy.protocol.peer import Peer


_JITTERS = 256


class Transmit(NamedTuple):
    """Datagrams for one path, each `segment` bytes long but the last, which may be shorter.

    `buffers` together hold the datagrams one after the other; they are valid until the next batch
    is given to the interface. `tos` is the outer traffic class, `size` the bytes in all.
    """

    path: Path
    buffers: list[Buffer]
    segment: int
    tos: int
    size: int
    peer: "Peer | None"


class Slot(NamedTuple):
    """What a receiver index stands for: a peer's handshake, or its session `keypair`."""

    peer: "Peer"
    keypair: Keypair | None


class Stray(NamedTuple):
    """A datagram that came to a process which does not own it."""

    datagram: bytes
    path: Path
    ecn: int


class HandshakeSecrets(NamedTuple):
    """What one end of a handshake knows alone: enough to read the session that comes of it."""

    local_static: Secret
    remote_static: bytes
    ephemeral: Secret
    # ZERO_KEY for none.
    preshared_key: Secret


def owner_of(index: int, owners: int) -> int:
    """Which of several receiving processes owns a session: told by the index's last byte."""
    return (index >> 24) % owners


@dataclass(slots=True)
class Shared:
    """One per interface; peers read it and add their outputs to it."""

    # Bytes from a secure source.
    random: Callable[[int], bytes]
    # Wall clock in nanoseconds since 1970, for timestamps only.
    wall_ns: Callable[[], int]
    identity: Identity | None = None
    mtu: int = DEFAULT_MTU
    up: bool = False
    indices: IndexTable[Slot] = field(default_factory=IndexTable)
    # Of batches of transport messages.
    cipher: RowCipher = field(default_factory=OneByOne)
    drops: Drops = field(default_factory=Drops)
    transmits: list[Transmit] = field(default_factory=list)
    # Packets for the host: whole rows of a slab, single views, or packets of our own (ICMP).
    packets: list[PacketRows | Buffer] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    _jitters: list[int] = field(default_factory=list)
    # Receives (deadline, peer) when a peer must be looked at earlier than promised.
    wake: "Callable[[float, Peer], None]" = lambda deadline, peer: None
    # What a session is made of when a handshake is done.
    new_keypair: Callable[[SessionKeys, float], Keypair] = Keypair
    # Told the secrets of every handshake before its message leaves; nobody, unless asked for.
    tell_secrets: Callable[[HandshakeSecrets], None] | None = None
    # How many processes receive; a session's index tells which of them owns it.
    owners: int = 1
    # Which of them this one is; 0 leads.
    owner: int = 0
    # Datagrams that another process has to do with.
    strays: list[Stray] = field(default_factory=list)
    _next_owner: int = 0

    def allocate_index(self, slot: Slot) -> int:
        """A receiver index; the owners get their sessions in turn."""
        if self.owners == 1:
            return self.indices.allocate(self.random, slot)
        self._next_owner = (self._next_owner + 1) % self.owners
        while True:
            index = self.indices.allocate(self.random, slot)
            if owner_of(index, self.owners) == self._next_owner:
                return index
            self.indices.remove(index)

    def drop(self, reason: DropReason, peer: "Peer | None" = None, packets: int = 1) -> None:
        """Count dropped packets, for the interface and for the peer where it is known."""
        self.drops.count(reason, packets)
        if peer is not None:
            peer.drops.count(reason, packets)

    def jitter(self) -> float:
        """A random fraction in [0, 1), which need not be secret."""
        if not self._jitters:
            # Timers want one for almost every lone packet: not a system call each time.
            self._jitters = list(self.random(_JITTERS))
        return self._jitters.pop() / 256
