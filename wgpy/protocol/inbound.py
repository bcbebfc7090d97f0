"""From the network to the host: authenticate, replay window, cryptokey routing by source."""

from struct import Struct

import numpy as np
from numpy.typing import NDArray

from wgpy.protocol.allowedips import AllowedIPs
from wgpy.protocol.batch import DatagramBatch, PacketRows
from wgpy.protocol.constants import (
    KEEPALIVE_LEN,
    MESSAGE_TRANSPORT,
    TAG_LEN,
    TRANSPORT_HEADER_LEN,
    TRANSPORT_OVERHEAD,
)
from wgpy.protocol.drops import DropReason
from wgpy.protocol.handshakes import Handshakes
from wgpy.protocol.innerpacket import (
    check_batch,
    decapsulate_ecn,
    inner_length_untrusted,
    source,
)
from wgpy.protocol.keypair import Keypair
from wgpy.protocol.path import Path
from wgpy.protocol.peer import Peer
from wgpy.protocol.shared import Shared, Stray, owner_of
from wgpy.protocol.transport import open_batch, open_one

_HEADER = Struct("<IIQ")
_TYPE = Struct("<I")
_TWO_WORDS = Struct("<II")
_CE = 3


class Inbound:
    """Takes batches of datagrams from the network; nothing in them makes it raise."""

    def __init__(
        self, shared: Shared, allowed_ips: AllowedIPs[Peer], handshakes: Handshakes
    ) -> None:
        self._shared = shared
        self._allowed_ips = allowed_ips
        self._handshakes = handshakes

    def receive_datagrams(self, batch: DatagramBatch, now: float) -> None:
        """Transport messages become packets for the host; the rest goes to the handshakes."""
        layout, count = batch.layout, batch.count
        if count == 1:
            self._receive_one(layout.row(0)[: batch.last_size], batch.path, batch.ecn, now)
            return
        if layout.size >= TRANSPORT_OVERHEAD and batch.last_size >= TRANSPORT_OVERHEAD:
            # Bytes compare quicker than arrays of this size.
            heads = layout.heads[:count].tobytes()
            kind, index = _TWO_WORDS.unpack_from(heads)
            if kind == MESSAGE_TRANSPORT and heads == heads[:8] * count:
                self._receive_run(batch, index, now)
                return
        # A rekey or garbage in the middle of a batch: rare, so the plain way will do.
        for k in range(count):
            size = batch.last_size if k == count - 1 else layout.size
            self._receive_one(layout.row(k)[:size], batch.path, batch.ecn, now)

    # One datagram: the specification of what a run does.

    def _receive_one(self, datagram: memoryview, path: Path, ecn: int, now: float) -> None:
        shared = self._shared
        if len(datagram) < _TYPE.size:
            shared.drop(DropReason.TRUNCATED)
            return
        if _TYPE.unpack_from(datagram)[0] != MESSAGE_TRANSPORT:
            if shared.owner:
                shared.strays.append(Stray(bytes(datagram), path, ecn))
            else:
                self._handshakes.receive(datagram, path, now)
            return
        if len(datagram) < TRANSPORT_OVERHEAD:
            shared.drop(DropReason.TRUNCATED)
            return
        _, index, counter = _HEADER.unpack_from(datagram)
        if shared.owners > 1 and self._is_elsewhere(index):
            shared.strays.append(Stray(bytes(datagram), path, ecn))
            return
        found = self._session(index, 1, now)
        if found is None:
            return
        peer, keypair = found
        packet = open_one(keypair, counter, datagram)
        if packet is None:
            shared.drop(DropReason.BAD_TAG, peer)
            return
        if not keypair.replay.check_and_set(counter):
            shared.drop(DropReason.REPLAYED, peer)
            return
        keepalive = len(datagram) == KEEPALIVE_LEN
        peer.received_data(keypair, path, len(datagram), now, data=not keepalive)
        if keepalive:
            return
        length = inner_length_untrusted(packet)
        if length == 0:
            shared.drop(DropReason.BAD_INNER_PACKET, peer)
            return
        packet = packet[:length]
        if self._allowed_ips.lookup(source(packet)) is not peer:
            shared.drop(DropReason.BAD_SOURCE, peer)
        else:
            if ecn == _CE:
                decapsulate_ecn(ecn, packet)
            shared.packets.append(packet)

    def _is_elsewhere(self, index: int) -> bool:
        """Whether another process has to do with this session."""
        shared = self._shared
        if owner_of(index, shared.owners) != shared.owner:
            return shared.owner != 0 or shared.indices.get(index) is not None
        # A follower may not have heard of it yet, or it is garbage: the leader knows.
        return shared.owner != 0 and shared.indices.get(index) is None

    def _session(self, index: int, packets: int, now: float) -> tuple[Peer, Keypair] | None:
        slot = self._shared.indices.get(index)
        if slot is None or slot.keypair is None:
            self._shared.drop(DropReason.UNKNOWN_INDEX, None, packets)
            return None
        if not slot.keypair.may_receive(now):
            self._shared.drop(DropReason.EXPIRED_SESSION, slot.peer, packets)
            return None
        return slot.peer, slot.keypair

    # A run: all datagrams are transport messages of one session.

    def _receive_run(self, batch: DatagramBatch, index: int, now: float) -> None:
        shared, layout, count = self._shared, batch.layout, batch.count
        if shared.owners > 1 and self._is_elsewhere(index):
            for k in range(count):
                row = layout.row(k)[: batch.last_size if k == count - 1 else layout.size]
                shared.strays.append(Stray(bytes(row), batch.path, batch.ecn))
            return
        found = self._session(index, count, now)
        if found is None:
            return
        peer, keypair = found
        bad = open_batch(keypair, batch, shared.cipher)
        counters = layout.counters[:count]
        if not bad and keypair.replay.accept_run(counters):
            size = (count - 1) * layout.size + batch.last_size
            self._received(batch, peer, keypair, size, now)
            if not self._deliver_uniform(batch, peer):
                self._deliver(batch, peer, np.ones(count, bool))
            return
        fresh = self._accept(keypair, counters, bad)
        if bad:
            shared.drop(DropReason.BAD_TAG, peer, len(bad))
        accepted = int(np.count_nonzero(fresh))
        if replays := count - len(bad) - accepted:
            shared.drop(DropReason.REPLAYED, peer, replays)
        if accepted:
            size = accepted * layout.size - fresh[-1] * (layout.size - batch.last_size)
            self._received(batch, peer, keypair, int(size), now)
            self._deliver(batch, peer, fresh)

    @staticmethod
    def _received(
        batch: DatagramBatch, peer: Peer, keypair: Keypair, size: int, now: float
    ) -> None:
        data = batch.layout.size > KEEPALIVE_LEN
        peer.received_data(keypair, batch.path, size, now, data=data)

    @staticmethod
    def _accept(
        keypair: Keypair, counters: NDArray[np.uint64], bad: list[int]
    ) -> NDArray[np.bool_]:
        """Which rows are authentic and new; only authentic ones move the window."""
        fresh = np.ones(len(counters), bool)
        fresh[bad] = False
        fresh[fresh] = keypair.replay.accept_batch(counters[fresh])
        return fresh

    def _deliver_uniform(self, batch: DatagramBatch, peer: Peer) -> bool:
        """Hand all rows to the host if they are packets of one size and source, the last shorter.

        That is what a transfer looks like; False for anything else, and nothing was done.
        """
        layout, count = batch.layout, batch.count
        first = layout.row(0)[TRANSPORT_HEADER_LEN : layout.size - TAG_LEN]
        length = inner_length_untrusted(first)
        last_row = layout.row(count - 1)[TRANSPORT_HEADER_LEN : batch.last_size - TAG_LEN]
        last = inner_length_untrusted(last_row)
        if not (length and last) or batch.ecn == _CE or first[0] >> 4 != last_row[0] >> 4:
            return False
        # Version and length agree; then the source.
        v4 = first[0] >> 4 == 4
        rows = layout.matrix[:count, TRANSPORT_HEADER_LEN:]
        heads = rows[: count - 1, : 4 if v4 else 6].tobytes()
        if heads != heads[: 4 if v4 else 6] * (count - 1):
            return False
        address = source(first)
        sources = rows[:, 12:16] if v4 else rows[:, 8:24]
        if sources.tobytes() != address * count:
            return False
        if self._allowed_ips.lookup(address) is not peer:
            return False
        lengths = np.full(count, length)
        lengths[-1] = last
        self._shared.packets.append(PacketRows(layout, 0, lengths))
        return True

    def _deliver(self, batch: DatagramBatch, peer: Peer, fresh: NDArray[np.bool_]) -> None:
        """Check lengths and sources by column and hand the good rows to the host."""
        shared, layout, count = self._shared, batch.layout, batch.count
        if layout.size == KEEPALIVE_LEN:
            return
        rows = layout.matrix[:count, TRANSPORT_HEADER_LEN:]
        plain_size = layout.size - TRANSPORT_OVERHEAD
        last_plain = batch.last_size - TRANSPORT_OVERHEAD
        lengths, valid, v4 = check_batch(rows, plain_size, last_plain)
        if last_plain == 0 and fresh[-1]:
            # A keepalive at the end of a run carries no packet, and that is no fault.
            fresh[-1] = False
        delivered = fresh & valid
        invalid = int(np.count_nonzero(fresh & ~valid))
        if invalid:
            shared.drop(DropReason.BAD_INNER_PACKET, peer, invalid)
        foreign = delivered & ~self._owned(rows, v4, delivered, peer)
        if foreign.any():
            shared.drop(DropReason.BAD_SOURCE, peer, int(np.count_nonzero(foreign)))
            delivered &= ~foreign
        if batch.ecn == _CE:
            for k in np.flatnonzero(delivered).tolist():
                decapsulate_ecn(_CE, layout.row(k)[TRANSPORT_HEADER_LEN:])
        if bool(delivered.all()):
            shared.packets.append(PacketRows(layout, 0, lengths))
            return
        edges = np.flatnonzero(np.diff(np.concatenate(([0], delivered.view(np.int8), [0]))))
        for first, end in edges.reshape(-1, 2).tolist():
            shared.packets.append(PacketRows(layout, first, lengths[first:end]))

    def _owned(
        self,
        rows: NDArray[np.uint8],
        v4: NDArray[np.bool_],
        wanted: NDArray[np.bool_],
        peer: Peer,
    ) -> NDArray[np.bool_]:
        """Whether the source of each wanted row belongs to `peer`."""
        for is_v4, where in ((True, slice(12, 16)), (False, slice(8, 24))):
            if rows.shape[1] < where.stop or not bool((wanted & (v4 == is_v4)).all()):
                continue
            sources = rows[:, where]
            if bool((sources == sources[0]).all()):
                owner = self._allowed_ips.lookup(sources[0].tobytes())
                return np.full(len(rows), owner is peer)
        owned = np.zeros(len(rows), bool)
        for k in np.flatnonzero(wanted).tolist():
            where = slice(12, 16) if v4[k] else slice(8, 24)
            owned[k] = self._allowed_ips.lookup(rows[k, where].tobytes()) is peer
        return owned
