"""An interface whose packets other processes carry too: it keeps them told, and hears of theirs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from wgpy.protocol.config import AllowedIPChange, InterfaceChange, PeerChange
from wgpy.protocol.drops import DropReason
from wgpy.protocol.events import Event, EventKind
from wgpy.protocol.interface import Interface
from wgpy.protocol.path import Path
from wgpy.protocol.peer import Peer
from wgpy.protocol.shared import Transmit, owner_of
from wgpy.protocol.sharing import Counter, PeerReport, PeerState, SharedKeypair, session_of

# After these a peer's sessions or path are others.
_NEWS = frozenset(
    (
        EventKind.SESSION_CREATED,
        EventKind.HANDSHAKE_COMPLETE,
        EventKind.KEYS_ERASED,
        EventKind.ROAMED,
    )
)


class Leader(Interface):
    """`owners` processes receive, this one as number 0."""

    def __init__(
        self,
        random: Callable[[int], bytes],
        wall_ns: Callable[[], int],
        owners: int,
        new_counter: Callable[[], Counter],
    ) -> None:
        super().__init__(random, wall_ns)
        self._shared.owners = owners
        self._shared.new_keypair = lambda keys, now: SharedKeypair(keys, now, new_counter())
        self._news: set[bytes] = set()

    # To the followers.

    def configuration(self) -> InterfaceChange:
        """All that a new follower must be configured with; then come the states of all peers."""
        return InterfaceChange(
            listen_port=self.listen_port,
            peers=tuple(
                PeerChange(
                    key,
                    allowed_ips=tuple(map(AllowedIPChange, self._allowed_ips.networks(peer))),
                )
                for key, peer in self._peers.items()
            ),
        )

    def states(self) -> list[PeerState]:
        """The state of every peer that has one."""
        return [_state(peer) for peer in self._peers.values() if _is_known(peer)]

    def poll_states(self) -> list[PeerState]:
        """The states that have changed since the last call."""
        news, self._news = self._news, set()
        return [_state(self._peers[key]) for key in news if key in self._peers]

    def poll_events(self) -> list[Event]:
        events = super().poll_events()
        for event in events:
            if event.public_key is not None and event.kind in _NEWS:
                self._news.add(event.public_key)
        return events

    def configure(self, change: InterfaceChange, now: float) -> None:
        super().configure(change, now)
        if change.private_key is not None:
            self._news.update(self._peers)
        self._news.update(peer.public_key for peer in change.peers)

    def source_lost(self, transmit: Transmit) -> None:
        super().source_lost(transmit)
        if transmit.peer is not None:
            self._news.add(transmit.peer.public_key)

    def forget_sources(self, valid: Callable[[Path], bool]) -> None:
        before = {key: peer.path for key, peer in self._peers.items()}
        super().forget_sources(valid)
        self._news.update(k for k, peer in self._peers.items() if peer.path is not before[k])

    # From the followers.

    def receive_reports(self, reports: Iterable[PeerReport], now: float) -> None:
        """What packets did elsewhere counts as if they had been here."""
        for report in reports:
            peer = self._peers.get(report.public_key)
            if peer is not None:
                self._receive_report(peer, report, now)

    def _receive_report(self, peer: Peer, report: PeerReport, now: float) -> None:
        peer.rx_bytes += report.rx_bytes
        peer.tx_bytes += report.tx_bytes
        for reason, packets in report.drops.items():
            peer.drops.count(reason, packets)
        if report.path is not None and report.path != peer.path:
            peer.path = report.path
            self._news.add(peer.public_key)
        following = peer.keypairs.next
        if following is not None and following.local_index == report.confirmed:
            peer.confirm_session(now)
        _replay_hooks(peer, report)
        if report.wants_handshake:
            peer.initiate(now)

    def count_drops(self, drops: Mapping[DropReason, int]) -> None:
        """What a follower dropped."""
        for reason, packets in drops.items():
            self._shared.drop(reason, None, packets)

    def bury(self, owner: int, now: float) -> None:
        """A follower has died, and with it the replay windows of its sessions: make new ones."""
        for peer in self._peers.values():
            lost = [
                k for k in peer.keypairs if owner_of(k.local_index, self._shared.owners) == owner
            ]
            if lost:
                peer.begin_anew(now)


def for_follower(change: InterfaceChange) -> InterfaceChange:
    """What of a change concerns followers: peers and their allowed IPs, and the port; no secret."""
    return InterfaceChange(
        listen_port=change.listen_port,
        replace_peers=change.replace_peers,
        peers=tuple(
            replace(peer, preshared_key=None, endpoint=None, persistent_keepalive=None)
            for peer in change.peers
        ),
    )


def _is_known(peer: Peer) -> bool:
    return peer.path is not None or any(True for _ in peer.keypairs)


def _state(peer: Peer) -> PeerState:
    keypairs = peer.keypairs
    return PeerState(
        peer.public_key,
        peer.path,
        session_of(keypairs.current) if keypairs.current is not None else None,
        session_of(keypairs.next) if keypairs.next is not None else None,
        tuple(session_of(keypair) for keypair in keypairs.retired),
    )


def _replay_hooks(peer: Peer, report: PeerReport) -> None:
    """Call the hooks that a follower wrote down, in the order of their times."""
    timers = peer.timers
    hooks: list[tuple[float | None, Callable[[float], None]]] = [
        (report.received, lambda now: timers.any_authenticated_packet_received()),
        (report.data_received, timers.data_received),
        (report.sent, lambda now: timers.any_authenticated_packet_sent()),
        (report.data_sent, timers.data_sent),
    ]
    for at, hook in sorted(
        ((at, hook) for at, hook in hooks if at is not None), key=lambda one: one[0]
    ):
        timers.any_authenticated_packet_traversal(at)
        hook(at)
