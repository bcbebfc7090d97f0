"""One remote key: its handshake, sessions, timers, staged packets, path and counters."""

from collections import deque
from math import inf

from wgpy.protocol.batch import Buffer, PacketBatch, datagram_size
from wgpy.protocol.config import ZERO_KEY, PeerStats, Secret
from wgpy.protocol.constants import (
    HANDSHAKE_DSCP,
    KEEPALIVE_LEN,
    KEY_LEN,
    MAX_STAGED_PACKETS,
    MAX_TIMER_HANDSHAKES,
    REKEY_TIMEOUT,
    TAG_LEN,
    TRANSPORT_HEADER_LEN,
)
from wgpy.protocol.cookie import CookieGenerator
from wgpy.protocol.drops import DropReason, Drops
from wgpy.protocol.events import Event, EventKind
from wgpy.protocol.keypair import Keypair, Keypairs
from wgpy.protocol.messages import Response
from wgpy.protocol.noise import Handshake, OpenedInitiation, SessionKeys, tai64n
from wgpy.protocol.path import Path
from wgpy.protocol.shared import HandshakeSecrets, Shared, Slot, Transmit
from wgpy.protocol.timers import Timer, Timers
from wgpy.protocol.transport import seal, seal_batch

# A keepalive is a packet of no bytes.
_KEEPALIVE = b""


class Peer:
    """State and behaviour of one peer; outputs go to `shared`, time comes in as `now`."""

    def __init__(self, shared: Shared, public_key: bytes) -> None:
        self.shared = shared
        self.public_key = public_key
        self.handshake = Handshake(shared.identity, public_key)
        self.cookies = CookieGenerator(public_key)
        self.keypairs = Keypairs()
        self.timers = Timers(shared.jitter, lambda deadline: shared.wake(deadline, self))
        self.staged: deque[tuple[bytes, int]] = deque()
        self.path: Path | None = None
        self.drops = Drops()
        self.rx_bytes = 0
        self.tx_bytes = 0
        self.last_handshake_ns = 0
        # Our last initiation or response, for the distance that REKEY_TIMEOUT asks for.
        self._last_sent_handshake = -inf

    def __repr__(self) -> str:
        return f"Peer({self.public_key.hex()[:8]})"

    # Sending: a packet, a batch, what was staged, a keepalive.

    def send_rows(self, rows: list[memoryview], sizes: list[int], tos: int, now: float) -> None:
        """Send the inner packets, of `sizes` bytes, at TRANSPORT_HEADER_LEN of `rows`.

        Each row is as long as its datagram; only the last may be shorter than the others.
        """
        keypair = self._sending_session(now)
        counter = None
        if keypair is not None and self.path is not None:
            counter = keypair.reserve(len(rows), now)
        if keypair is None or counter is None:
            for row, size in zip(rows, sizes, strict=True):
                packet = row[TRANSPORT_HEADER_LEN : TRANSPORT_HEADER_LEN + size]
                self.stage(bytes(packet), tos)
            self.send_staged(now)
            return
        total = 0
        for row, size in zip(rows, sizes, strict=True):
            start, end = TRANSPORT_HEADER_LEN + size, len(row) - TAG_LEN
            if start < end:
                row[start:end] = bytes(end - start)
            seal(keypair, counter, row)
            counter += 1
            total += len(row)
        self._transmit([*rows], len(rows[0]), total, tos)
        self._sealed(keypair, now, data=True)

    def send_batch(self, batch: PacketBatch, tos: int, now: float) -> None:
        """Send all packets of a batch with one run of counters."""
        layout, count = batch.layout, batch.count
        keypair = self._sending_session(now)
        counter = None
        if keypair is not None and self.path is not None:
            counter = keypair.reserve(count, now)
        if keypair is None or counter is None:
            self.stage_batch(batch, range(count), tos)
            self.send_staged(now)
            return
        end = layout.size - TAG_LEN
        layout.matrix[:count, TRANSPORT_HEADER_LEN + batch.packet_size : end] = 0
        last_size = batch.last_datagram_size
        if batch.last_packet_size != batch.packet_size:
            start = TRANSPORT_HEADER_LEN + batch.last_packet_size
            layout.matrix[count - 1, start : last_size - TAG_LEN] = 0
        seal_batch(keypair, counter, layout, count, last_size, self.shared.cipher)
        size = (count - 1) * layout.size + last_size
        self._transmit(layout.datagrams(count, last_size), layout.size, size, tos)
        self._sealed(keypair, now, data=True)

    def stage(self, packet: bytes, tos: int = 0) -> None:
        """Keep a packet until there is a session; the oldest makes room."""
        if len(self.staged) >= MAX_STAGED_PACKETS:
            self.staged.popleft()
            self.shared.drop(DropReason.STAGED_OVERFLOW, self)
        self.staged.append((packet, tos))

    def stage_batch(self, batch: PacketBatch, rows: range | list[int], tos: int) -> None:
        for k in rows:
            size = batch.last_packet_size if k == batch.count - 1 else batch.packet_size
            row = batch.layout.row(k)
            self.stage(bytes(row[TRANSPORT_HEADER_LEN : TRANSPORT_HEADER_LEN + size]), tos)

    def send_staged(self, now: float) -> None:
        """Send what is staged if a session allows it, else ask for one."""
        # Without an endpoint only a keepalive can be staged; it waits for one.
        if not self.staged or self.path is None:
            return
        keypair = self._sending_session(now)
        counter = keypair.reserve(len(self.staged), now) if keypair is not None else None
        if keypair is None or counter is None:
            self.initiate(now)
            return
        data = False
        for number, (packet, tos) in enumerate(self.staged, counter):
            datagram = bytearray(datagram_size(len(packet), self.shared.mtu))
            datagram[TRANSPORT_HEADER_LEN : TRANSPORT_HEADER_LEN + len(packet)] = packet
            seal(keypair, number, datagram)
            self._transmit([datagram], len(datagram), len(datagram), tos)
            data = data or len(datagram) > KEEPALIVE_LEN
        self.staged.clear()
        self._sealed(keypair, now, data=data)

    def send_keepalive(self, now: float) -> None:
        """Send what is staged, or an empty packet when nothing is."""
        if not self.staged:
            self.stage(_KEEPALIVE)
        self.send_staged(now)

    def _sending_session(self, now: float) -> Keypair | None:
        following = self.keypairs.next
        if following is not None and following.was_confirmed:
            self.confirm_session(now)
        return self.keypairs.current

    def _sealed(self, keypair: Keypair, now: float, *, data: bool) -> None:
        timers = self.timers
        timers.any_authenticated_packet_traversal(now)
        timers.any_authenticated_packet_sent()
        if data:
            timers.data_sent(now)
        if keypair.wants_rekey_after_sending(now):
            self.initiate(now)

    def _transmit(self, buffers: list[Buffer], segment: int, size: int, tos: int) -> None:
        if self.path is None:
            self.shared.drop(DropReason.NO_ENDPOINT, self)
            return
        self.tx_bytes += size
        self.shared.transmits.append(Transmit(self.path, buffers, segment, tos, size, self))

    def _drop_staged(self, reason: DropReason) -> None:
        packets = sum(1 for packet, _ in self.staged if packet)
        if packets:
            self.shared.drop(reason, self, packets)
        self.staged.clear()

    # The handshake (section 5.4): ours, and theirs.

    def initiate(self, now: float, *, retry: bool = False) -> None:
        """Send an initiation, unless a handshake message left less than REKEY_TIMEOUT ago."""
        if not retry:
            self.timers.handshake_attempts = 0
        if self.path is None:
            return
        if now - self._last_sent_handshake < REKEY_TIMEOUT:
            if retry:
                # We answered an initiation meanwhile; should nothing come of it, try again.
                # DEVIATION: the kernel waits for the next packet to send.
                self.timers.handshake_initiated(self._last_sent_handshake)
            return
        if self.shared.identity is None or not self.handshake.possible:
            return
        self._forget_handshake()
        shared = self.shared
        index = shared.allocate_index(Slot(self, None))
        timestamp = tai64n(shared.wall_ns())
        message = self.handshake.create_initiation(index, self._new_ephemeral(), timestamp)
        self._send_handshake(message, now)
        self.timers.handshake_initiated(now)
        self._event(EventKind.INITIATION_SENT)

    def respond(self, opened: OpenedInitiation, path: Path, size: int, now: float) -> None:
        """Answer an initiation that names us and this peer. Raises NoiseError."""
        accepted = self.handshake.consume_initiation(opened, now)
        self._received(path, size, now)
        shared = self.shared
        index = shared.allocate_index(Slot(self, None))
        message, keys = self.handshake.create_response(accepted, index, self._new_ephemeral())
        self._begin_session(keys, now)
        self._send_handshake(message, now)
        self._event(EventKind.RESPONSE_SENT)

    def complete(self, response: Response, path: Path, size: int, now: float) -> None:
        """The response to our initiation. Raises NoiseError."""
        keys = self.handshake.consume_response(response)
        self._received(path, size, now)
        self._begin_session(keys, now)
        self._handshake_complete()
        # The responder may send only after our first packet: if none waits, an empty one.
        self.send_keepalive(now)

    def _new_ephemeral(self) -> Secret:
        shared, key = self.shared, Secret(self.shared.random(KEY_LEN))
        if shared.tell_secrets is not None and shared.identity is not None:
            local, preshared = shared.identity.private, self.handshake.preshared_key
            shared.tell_secrets(HandshakeSecrets(local, self.public_key, key, preshared))
        return key

    def _send_handshake(self, message: bytearray, now: float) -> None:
        self.cookies.add_macs(message, now)
        self._last_sent_handshake = now
        self._transmit([message], len(message), len(message), HANDSHAKE_DSCP)
        self.timers.any_authenticated_packet_traversal(now)
        self.timers.any_authenticated_packet_sent()

    def _begin_session(self, keys: SessionKeys, now: float) -> None:
        keypair = self.shared.new_keypair(keys, now)
        self.shared.indices.replace(keypair.local_index, Slot(self, keypair))
        self._erase(self.keypairs.install(keypair))
        self.timers.session_derived(now)
        self._event(EventKind.SESSION_CREATED)

    def _handshake_complete(self) -> None:
        # An initiation of ours that nobody answered is void: its response could come hours later.
        self._forget_handshake()
        self.timers.handshake_complete()
        self.last_handshake_ns = self.shared.wall_ns()
        self._event(EventKind.HANDSHAKE_COMPLETE)

    def _forget_handshake(self) -> None:
        """Free the index of our initiation in flight."""
        index = self.handshake.local_index
        if index is not None:
            self.shared.indices.remove(index)
            self.handshake.clear()

    def _erase(self, keypairs: list[Keypair]) -> None:
        for keypair in keypairs:
            keypair.erase()
            self.shared.indices.remove(keypair.local_index)

    # Receiving: what an authenticated datagram changes, whatever it carries.

    def received_data(
        self, keypair: Keypair, path: Path, size: int, now: float, *, data: bool
    ) -> None:
        """A transport message under `keypair` was authenticated and is no replay."""
        self._received(path, size, now)
        if keypair is self.keypairs.next:
            self.confirm_session(now)
        timers = self.timers
        if data:
            timers.data_received(now)
        current = self.keypairs.current
        if (
            not timers.sent_lastminute_handshake
            and current is not None
            and current.wants_rekey_after_receiving(now)
        ):
            timers.sent_lastminute_handshake = True
            self.initiate(now)

    def confirm_session(self, now: float) -> None:
        """The first packet under the next session came: it is the current one now."""
        self._erase(self.keypairs.confirm())
        if self.keypairs.current is not None:
            self.keypairs.current.confirm()
        self._handshake_complete()
        self.send_staged(now)

    def _received(self, path: Path, size: int, now: float) -> None:
        self.rx_bytes += size
        if path is not self.path and path != self.path:
            if self.path is None or self.path.endpoint != path.endpoint:
                self._event(EventKind.ROAMED, str(path.endpoint))
            self.path = path
        self.timers.any_authenticated_packet_traversal(now)
        self.timers.any_authenticated_packet_received()

    # Timers.

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        for timer in self.timers.expire(now):
            match timer:
                case Timer.RETRANSMIT_HANDSHAKE:
                    self._retransmit_handshake(now)
                case Timer.SEND_KEEPALIVE:
                    self.send_keepalive(now)
                    self.timers.keepalive_again(now)
                case Timer.NEW_HANDSHAKE:
                    self.forget_source()
                    self.initiate(now)
                case Timer.ZERO_KEY_MATERIAL:
                    self.erase_keys()
                case Timer.PERSISTENT_KEEPALIVE:
                    if self.timers.persistent_keepalive:
                        self.send_keepalive(now)

    def _retransmit_handshake(self, now: float) -> None:
        if self.timers.handshake_attempts > MAX_TIMER_HANDSHAKES:
            self._drop_staged(DropReason.HANDSHAKE_FAILED)
            self.timers.handshake_given_up(now)
            self._event(EventKind.HANDSHAKE_GIVEN_UP)
            return
        self.timers.handshake_attempts += 1
        # The way may be broken: let the route choose the source again.
        self.forget_source()
        self.initiate(now, retry=True)

    def forget_source(self) -> None:
        """Let the route decide from which address the next datagram leaves."""
        if self.path is not None and self.path.source is not None:
            self.path = Path(self.path.endpoint)

    # Life.

    def start(self, now: float) -> None:
        """The interface came up."""
        self.timers.running = True
        self.send_staged(now)
        self.timers.persistent_keepalive_due(now)

    def stop(self) -> None:
        """The interface went down, or the peer is removed."""
        self._drop_staged(DropReason.INTERFACE_DOWN)
        self.timers.stop()
        self.erase_keys()
        self._last_sent_handshake = -inf

    def erase_keys(self) -> None:
        """Forget the handshake in flight and all sessions."""
        self._forget_handshake()
        erased = self.keypairs.clear()
        self._erase(erased)
        if erased:
            self._event(EventKind.KEYS_ERASED)

    def begin_anew(self, now: float) -> None:
        """Whoever had our sessions is gone, as after a restart: at once another handshake."""
        self.erase_keys()
        self._last_sent_handshake = -inf
        self.initiate(now)

    def identity_changed(self) -> None:
        """A new private key: sessions may still receive, but a new handshake must come first."""
        self._forget_handshake()
        self.handshake.set_identity(self.shared.identity)
        self.keypairs.stop_sending()
        self._last_sent_handshake = -inf

    def set_preshared_key(self, key: Secret) -> None:
        """ZERO_KEY for none. Counts from the next handshake."""
        self.handshake.preshared_key = key

    def set_persistent_keepalive(self, seconds: int, now: float) -> None:
        switched_on = seconds > 0 and self.timers.persistent_keepalive == 0
        self.timers.persistent_keepalive = seconds
        if switched_on and self.shared.up:
            self.timers.persistent_keepalive_due(now)

    def stats(self) -> PeerStats:
        """Without allowed-ips, which the interface knows."""
        return PeerStats(
            public_key=self.public_key,
            preshared_key=self.handshake.preshared_key or ZERO_KEY,
            endpoint=self.path.endpoint if self.path is not None else None,
            last_handshake_ns=self.last_handshake_ns,
            rx_bytes=self.rx_bytes,
            tx_bytes=self.tx_bytes,
            persistent_keepalive=self.timers.persistent_keepalive,
            drops=self.drops.named(),
        )

    def _event(self, kind: EventKind, detail: str = "") -> None:
        self.shared.events.append(Event(kind, self.public_key, detail))
