"""An interface in a process that follows: it carries packets, and asks the leader for the rest."""

from collections.abc import Callable
from math import inf

from wgpy.protocol.constants import REKEY_TIMEOUT
from wgpy.protocol.drops import Drops
from wgpy.protocol.interface import Interface
from wgpy.protocol.keypair import Keypair
from wgpy.protocol.path import Path
from wgpy.protocol.peer import Peer
from wgpy.protocol.shared import Shared, Slot
from wgpy.protocol.sharing import MakeCounter, PeerReport, PeerState, Session, SharedKeypair
from wgpy.protocol.timers import Timers


class Follower(Interface):
    """Has no private key, so it can neither make nor answer a handshake."""

    def __init__(
        self,
        random: Callable[[int], bytes],
        wall_ns: Callable[[], int],
        owner: int,
        owners: int,
        make_counter: MakeCounter,
    ) -> None:
        """Number `owner`, from 1 on, of `owners` processes."""
        super().__init__(random, wall_ns)
        self._shared.owner, self._shared.owners = owner, owners
        self._make_counter = make_counter
        # Peers with something to report; the first need it soon, the others some time.
        self._urgent: set[FollowingPeer] = set()
        self._changed: set[FollowingPeer] = set()

    def _new_peer(self, public_key: bytes) -> Peer:
        return FollowingPeer(self._shared, public_key, self._urgent, self._changed)

    @property
    def is_urgent(self) -> bool:
        """Whether a report should not wait."""
        return bool(self._urgent)

    def poll_reports(self) -> list[PeerReport]:
        """What to tell the leader."""
        reports = [peer.poll_report() for peer in self._urgent | self._changed]
        self._urgent.clear()
        self._changed.clear()
        return reports

    def poll_drops(self) -> Drops:
        """What was dropped since the last call, that of known peers included."""
        drops, self._shared.drops = self._shared.drops, Drops()
        return drops

    def set_peer_state(self, state: PeerState, now: float) -> None:
        """Take over what the leader says of a peer; sessions that are known keep their windows."""
        peer = self._peers.get(state.public_key)
        if not isinstance(peer, FollowingPeer):
            return
        peer.adopt(state, self._keypair, now)

    def _keypair(self, session: Session) -> Keypair:
        keypair = SharedKeypair(session.keys, session.created, self._make_counter(session.ticket))
        keypair.sending = session.sending
        return keypair


class FollowingPeer(Peer):
    """A peer whose handshakes, timers and roaming are the leader's business."""

    def __init__(
        self,
        shared: Shared,
        public_key: bytes,
        urgent: "set[FollowingPeer]",
        changed: "set[FollowingPeer]",
    ) -> None:
        super().__init__(shared, public_key)
        self._urgent = urgent
        self._report = PeerReport(public_key)
        self._known_path: Path | None = None
        self._last_asked = -inf
        self.timers = _ReportedTimers(self._report, lambda: changed.add(self))

    def adopt(self, state: PeerState, make: Callable[[Session], Keypair], now: float) -> None:
        """Have exactly these sessions."""
        known = {keypair.local_index: keypair for keypair in self.keypairs}

        def have(session: Session) -> Keypair:
            keypair = known.pop(session.keys.local_index, None)
            if keypair is None:
                keypair = make(session)
                slot = Slot(self, keypair)
                self.shared.indices.replace(keypair.local_index, slot)
            keypair.sending = keypair.sending and session.sending
            return keypair

        keypairs, before = self.keypairs, self.keypairs.current
        keypairs.current = have(state.current) if state.current else None
        keypairs.next = have(state.next) if state.next else None
        keypairs.retired = [have(session) for session in state.retired]
        if keypairs.next is not None and keypairs.next is before:
            # The leader has yet to hear that we confirmed it.
            keypairs.confirm()
        for keypair in known.values():
            # Its counter is the leader's to free.
            self.shared.indices.remove(keypair.local_index)
        if keypairs.current is not before:
            self._last_asked = -inf
            self.timers.sent_lastminute_handshake = False
        if state.path != self.path:
            self.path = state.path
        self._known_path = self.path
        self.send_staged(now)

    def poll_report(self) -> PeerReport:
        report = self._report
        if self.path is not self._known_path:
            report.path = self._known_path = self.path
        report.rx_bytes, report.tx_bytes = self.rx_bytes, self.tx_bytes
        report.drops = dict(self.drops)
        self.rx_bytes = self.tx_bytes = 0
        self.drops.clear()
        self._report = PeerReport(self.public_key)
        assert isinstance(self.timers, _ReportedTimers)
        self.timers.report = self._report
        return report

    def initiate(self, now: float, *, retry: bool = False) -> None:
        """Ask the leader for a handshake, again after REKEY_TIMEOUT."""
        if now - self._last_asked >= REKEY_TIMEOUT:
            self._last_asked = now
            self._report.wants_handshake = True
            self._urgent.add(self)

    def _handshake_complete(self) -> None:
        current = self.keypairs.current
        self._report.confirmed = current.local_index if current is not None else None
        self._urgent.add(self)

    def _received(self, path: Path, size: int, now: float) -> None:
        super()._received(path, size, now)
        if self.path is not self._known_path:
            self._urgent.add(self)

    def _erase(self, keypairs: list[Keypair]) -> None:
        for keypair in keypairs:
            self.shared.indices.remove(keypair.local_index)


class _ReportedTimers(Timers):
    """The hooks of the timers write down when they were called."""

    __slots__ = ("_now", "_touch", "report")

    def __init__(self, report: PeerReport, touch: Callable[[], None]) -> None:
        super().__init__(lambda: 0.0, lambda deadline: None)
        self.report = report
        self._touch = touch
        self._now = 0.0

    def any_authenticated_packet_traversal(self, now: float) -> None:
        self._now = now
        self._touch()

    def any_authenticated_packet_sent(self) -> None:
        self.report.sent = self._now

    def any_authenticated_packet_received(self) -> None:
        self.report.received = self._now

    def data_sent(self, now: float) -> None:
        self.report.data_sent = now

    def data_received(self, now: float) -> None:
        self.report.data_received = now
