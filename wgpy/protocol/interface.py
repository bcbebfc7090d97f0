"""An interface: all peers of one private key. The only class of the core that a shell calls.

    packets from the host  -> send_packets      -> poll_transmits -> datagrams to the network
    datagrams from network -> receive_datagrams -> poll_packets   -> packets to the host
    next_timeout           -> handle_timeout    -> poll_events    -> what to tell people

Nothing here does I/O or reads a clock: `now` is a monotonic number of seconds that the caller
chooses, randomness and wall time are functions given at the start.
"""

import heapq
from collections.abc import Callable
from dataclasses import replace
from errno import ENOSPC
from itertools import count
from math import inf

from wgpy.protocol.allowedips import AllowedIPs
from wgpy.protocol.batch import Buffer, DatagramBatch, PacketBatch, PacketRows
from wgpy.protocol.config import (
    ZERO_KEY,
    ConfigError,
    InterfaceChange,
    InterfaceStats,
    PeerChange,
    Secret,
)
from wgpy.protocol.constants import MAX_PEERS
from wgpy.protocol.drops import DropReason
from wgpy.protocol.events import Event
from wgpy.protocol.handshakes import Handshakes
from wgpy.protocol.inbound import Inbound
from wgpy.protocol.noise import Identity
from wgpy.protocol.outbound import Outbound
from wgpy.protocol.path import Path
from wgpy.protocol.peer import Peer
from wgpy.protocol.rowcipher import RowCipher
from wgpy.protocol.shared import HandshakeSecrets, Shared, Stray, Transmit

# Peers whose timers one turn looks after. Each may begin a handshake, a fifth of a millisecond of
# work; meanwhile packets wait, and a message leaves later than its timers believe.
_TURN = 8


class Interface:
    """WireGuard without I/O. Not thread safe."""

    def __init__(self, random: Callable[[int], bytes], wall_ns: Callable[[], int]) -> None:
        """`random(n)` gives n bytes from a secure source; `wall_ns()` nanoseconds since 1970."""
        self._shared = Shared(random, wall_ns)
        self._shared.wake = self._wake
        self._peers: dict[bytes, Peer] = {}
        self._allowed_ips: AllowedIPs[Peer] = AllowedIPs()
        self._handshakes = Handshakes(self._shared, self._peers)
        self._outbound = Outbound(self._shared, self._allowed_ips)
        self._inbound = Inbound(self._shared, self._allowed_ips, self._handshakes)
        self._fwmark = 0
        # (deadline, tie-breaker, peer): at least one entry per peer with a timer, perhaps early.
        self._wakeups: list[tuple[float, int, Peer]] = []
        self._tie = count()

    # Configuration.

    @property
    def mtu(self) -> int:
        """MTU of the inner packets, which padding never exceeds."""
        return self._shared.mtu

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        self._shared.mtu = mtu

    def tell_secrets(self, tell: Callable[[HandshakeSecrets], None] | None) -> None:
        """Call `tell` with the secrets of every handshake from now on, for a key log."""
        self._shared.tell_secrets = tell

    def renew_sessions(self, now: float) -> None:
        """Begin a handshake with every peer that there is a session with, as soon as one may."""
        for peer in self._peers.values():
            if peer.keypairs.current is not None:
                peer.initiate(now, retry=True)

    def use_cipher(self, cipher: RowCipher) -> None:
        """Seal and open batches with it from now on."""
        self._shared.cipher = cipher

    @property
    def listen_port(self) -> int:
        return self._outbound.listen_port

    def configure(self, change: InterfaceChange, now: float) -> None:
        """Apply a change wholly or not at all. Raises ConfigError.

        `listen_port` and `fwmark` are only kept and reported: sockets are the shell's.
        """
        self._check(change)
        if change.private_key is not None:
            self._set_private_key(change.private_key, now)
        if change.listen_port is not None:
            self._outbound.listen_port = change.listen_port
        if change.fwmark is not None:
            self._fwmark = change.fwmark
        if change.replace_peers:
            self._remove_peers(list(self._peers.values()))
        for peer_change in change.peers:
            self._configure_peer(peer_change, now)

    def _check(self, change: InterfaceChange) -> None:
        known: set[bytes] = set() if change.replace_peers else set(self._peers)
        known.update(p.public_key for p in change.peers if not (p.remove or p.update_only))
        if len(known) > MAX_PEERS:
            raise ConfigError(f"more than {MAX_PEERS} peers on one interface", ENOSPC)

    def _set_private_key(self, key: Secret, now: float) -> None:
        shared = self._shared
        identity = None if key == ZERO_KEY else Identity(key)
        if identity is not None:
            if shared.identity is not None and shared.identity.public == identity.public:
                return
            ourselves = self._peers.get(identity.public)
            if ourselves is not None:
                self._remove_peers([ourselves])
        elif shared.identity is None:
            return
        first = shared.identity is None
        shared.identity = identity
        self._handshakes.clear()
        self._handshakes.identity_changed()
        for peer in self._peers.values():
            peer.identity_changed()
            if first and shared.up:
                peer.send_staged(now)

    def _configure_peer(self, change: PeerChange, now: float) -> None:
        shared = self._shared
        if shared.identity is not None and change.public_key == shared.identity.public:
            # Nobody is a peer of himself; as in the kernel this is no error.
            return
        peer = self._peers.get(change.public_key)
        if change.remove:
            if peer is not None:
                self._remove_peers([peer])
            return
        if peer is None:
            if change.update_only:
                return
            peer = self._peers[change.public_key] = self._new_peer(change.public_key)
            if shared.up:
                peer.start(now)
        if change.preshared_key is not None:
            peer.set_preshared_key(change.preshared_key)
        if change.endpoint is not None:
            peer.path = Path(change.endpoint)
        if change.replace_allowed_ips:
            self._allowed_ips.remove_peer(peer)
        for allowed_ip in change.allowed_ips:
            if allowed_ip.remove:
                self._allowed_ips.remove(allowed_ip.network, peer)
            else:
                self._allowed_ips.insert(allowed_ip.network, peer)
        if change.persistent_keepalive is not None:
            peer.set_persistent_keepalive(change.persistent_keepalive, now)
        if shared.up:
            peer.send_staged(now)

    def _new_peer(self, public_key: bytes) -> Peer:
        return Peer(self._shared, public_key)

    def _remove_peers(self, peers: list[Peer]) -> None:
        for peer in peers:
            del self._peers[peer.public_key]
            self._allowed_ips.remove_peer(peer)
            peer.stop()

    def up(self, now: float) -> None:
        """The interface is up: timers run, packets pass."""
        if self._shared.up:
            return
        self._shared.up = True
        for peer in list(self._peers.values()):
            peer.start(now)

    def down(self) -> None:
        """The interface is down: sessions, timers and staged packets are gone."""
        self._shared.up = False
        self._handshakes.clear()
        for peer in self._peers.values():
            peer.stop()
        self._wakeups.clear()

    def set_own_addresses(self, v4: bytes | None, v6: bytes | None) -> None:
        """Addresses of the interface: ICMP errors to the host come from them."""
        self._outbound.unreachables.source_v4 = v4
        self._outbound.unreachables.source_v6 = v6

    # Packets and datagrams.

    def send_packets(self, batch: PacketBatch, now: float) -> None:
        """Packets from the host. Sealed in place: poll_transmits before the slab is used again."""
        if not self._shared.up:
            self._shared.drop(DropReason.INTERFACE_DOWN, None, batch.count)
            return
        self._outbound.send_packets(batch, now)

    def receive_datagrams(self, batch: DatagramBatch, now: float) -> None:
        """Datagrams from the network; never raises on their content. Opened in place.

        Handshake messages only wait here: the next handle_timeout works on them.
        """
        if not self._shared.up:
            self._shared.drop(DropReason.INTERFACE_DOWN, None, batch.count)
            return
        self._inbound.receive_datagrams(batch, now)

    def poll_transmits(self) -> list[Transmit]:
        """What to send now, in order."""
        transmits, self._shared.transmits = self._shared.transmits, []
        return transmits

    def poll_packets(self) -> list[PacketRows | Buffer]:
        """What to hand to the host now, in order."""
        packets, self._shared.packets = self._shared.packets, []
        return packets

    def poll_events(self) -> list[Event]:
        events, self._shared.events = self._shared.events, []
        return events

    def poll_strays(self) -> list[Stray]:
        """Datagrams for another of the processes that share this interface."""
        strays, self._shared.strays = self._shared.strays, []
        return strays

    def drop(self, reason: DropReason, packets: int = 1) -> None:
        """Count packets that the shell had to drop."""
        self._shared.drop(reason, None, packets)

    def send_failed(self, transmit: Transmit) -> None:
        """The network refused a transmit."""
        datagrams = -(-transmit.size // transmit.segment)
        self._shared.drop(DropReason.SEND_ERROR, transmit.peer, datagrams)
        if transmit.peer is not None:
            transmit.peer.tx_bytes -= transmit.size

    def source_lost(self, transmit: Transmit) -> None:
        """A transmit could leave only without its sticky source."""
        if transmit.peer is not None and transmit.peer.path == transmit.path:
            transmit.peer.forget_source()

    def forget_sources(self, valid: Callable[[Path], bool]) -> None:
        """Addresses or routes changed: drop each peer's sticky source that is not `valid`."""
        for peer in self._peers.values():
            if peer.path is not None and peer.path.source is not None and not valid(peer.path):
                peer.forget_source()

    # Time.

    def next_timeout(self) -> tuple[float, str] | None:
        """When handle_timeout wants to be called, and why."""
        if self._handshakes.waiting:
            return -inf, "handshakes are waiting"
        if self.next_deadline() == inf:
            return None
        deadline, _, peer = self._wakeups[0]
        return deadline, f"{peer!r}: {peer.timers.next_deadline()[1].name.lower()}"

    def next_deadline(self) -> float:
        """The time alone of next_timeout; `inf` for none."""
        if self._handshakes.waiting:
            return -inf
        return self._next_wakeup()

    def _next_wakeup(self) -> float:
        wakeups = self._wakeups
        while wakeups and wakeups[0][0] != wakeups[0][2].timers.wake_at:
            # The peer was stopped, or woken by an earlier entry.
            heapq.heappop(wakeups)
        return wakeups[0][0] if wakeups else inf

    def handle_timeout(self, now: float) -> None:
        """Do what is due, as much as one turn allows; harmless when early."""
        if self._handshakes.waiting:
            self._handshakes.work(now)
        for _ in range(_TURN):
            if self._next_wakeup() > now:
                return
            peer = heapq.heappop(self._wakeups)[2]
            peer.timers.wake_at = inf
            peer.handle_timeout(now)
            deadline = peer.timers.next_deadline()[0]
            if deadline < peer.timers.wake_at:
                peer.timers.wake_at = deadline
                self._wake(deadline, peer)

    def _wake(self, deadline: float, peer: Peer) -> None:
        heapq.heappush(self._wakeups, (deadline, next(self._tie), peer))

    # Reports.

    def snapshot(self) -> InterfaceStats:
        """All that `wg show` shows."""
        shared = self._shared
        return InterfaceStats(
            private_key=shared.identity.private if shared.identity else None,
            public_key=shared.identity.public if shared.identity else None,
            listen_port=self._outbound.listen_port,
            fwmark=self._fwmark,
            peers=tuple(
                replace(peer.stats(), allowed_ips=tuple(self._allowed_ips.networks(peer)))
                for peer in self._peers.values()
            ),
            drops=shared.drops.named(),
        )
