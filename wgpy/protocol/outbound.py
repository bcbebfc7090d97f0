"""From the host to peers: cryptokey routing by destination, answers for what has no way."""

from struct import Struct

import numpy as np

from wgpy.protocol.allowedips import AllowedIPs
from wgpy.protocol.batch import PacketBatch
from wgpy.protocol.constants import (
    MESSAGE_INITIATION,
    MESSAGE_RESPONSE,
    MESSAGE_TRANSPORT,
    TRANSPORT_HEADER_LEN,
)
from wgpy.protocol.drops import DropReason
from wgpy.protocol.innerpacket import destination, encapsulate_ecn
from wgpy.protocol.peer import Peer
from wgpy.protocol.shared import Shared
from wgpy.protocol.unreachable import Unreachables

_UDP = 17
_PORTS = Struct(">HH")
_TWO_WORDS = Struct("<II")


class Outbound:
    """Takes batches of packets from the host."""

    def __init__(self, shared: Shared, allowed_ips: AllowedIPs[Peer]) -> None:
        self._shared = shared
        self._allowed_ips = allowed_ips
        self.unreachables = Unreachables()
        # Our UDP port, to know our own datagrams when routing sends them back to us.
        self.listen_port = 0

    def send_packets(self, batch: PacketBatch, now: float) -> None:
        """Seal each packet for the peer that owns its destination."""
        row = batch.layout.row(0)
        packet = row[TRANSPORT_HEADER_LEN : TRANSPORT_HEADER_LEN + batch.packet_size]
        if batch.count > 1 and not (batch.single_flow or _one_flow(batch)):
            self._send_mixed(batch, now)
            return
        peer = self._route(packet, batch.count, now)
        if peer is None:
            return
        tos = encapsulate_ecn(packet)
        if batch.count == 1:
            peer.send_rows([row[: batch.layout.size]], [batch.packet_size], tos, now)
        else:
            peer.send_batch(batch, tos, now)

    def _send_mixed(self, batch: PacketBatch, now: float) -> None:
        """Packets of several flows: what goes to one peer in one class leaves together."""
        layout = batch.layout
        groups: dict[tuple[Peer, int], tuple[list[memoryview], list[int]]] = {}
        for k in range(batch.count):
            row = layout.row(k)[: layout.size]
            size = batch.packet_size
            if k == batch.count - 1 and batch.last_packet_size != size:
                size = batch.last_packet_size
                row = row[: batch.last_datagram_size]
            packet = row[TRANSPORT_HEADER_LEN : TRANSPORT_HEADER_LEN + size]
            peer = self._route(packet, 1, now)
            if peer is not None:
                rows, sizes = groups.setdefault((peer, encapsulate_ecn(packet)), ([], []))
                rows.append(row)
                sizes.append(size)
        for (peer, tos), (rows, sizes) in groups.items():
            peer.send_rows(rows, sizes, tos, now)

    def _route(self, packet: memoryview, count: int, now: float) -> Peer | None:
        """The peer to send to; None when the packet was dropped."""
        shared = self._shared
        address = destination(packet)
        if address is None:
            shared.drop(DropReason.BAD_INNER_PACKET, None, count)
            return None
        peer = self._allowed_ips.lookup(address)
        if peer is None:
            shared.drop(DropReason.NO_ROUTE, None, count)
            self._answer_unreachable(packet, now)
            return None
        if peer.path is None:
            shared.drop(DropReason.NO_ENDPOINT, peer, count)
            self._answer_unreachable(packet, now)
            return None
        if self._is_own_datagram(packet, peer):
            shared.drop(DropReason.ROUTING_LOOP, peer, count)
            return None
        return peer

    def _answer_unreachable(self, packet: memoryview, now: float) -> None:
        error = self.unreachables.answer(packet, now)
        if error is not None:
            self._shared.packets.append(error)

    def _is_own_datagram(self, packet: memoryview, peer: Peer) -> bool:
        """Whether routing sent a datagram of ours back through the interface.

        Sealing it again would go round for ever, growing each time. It has our port, the peer's
        port, and an index that only our datagrams to this peer carry.
        """
        v4 = packet[0] >> 4 == 4
        if packet[9 if v4 else 6] != _UDP or peer.path is None:
            return False
        udp = (packet[0] & 15) * 4 if v4 else 40
        if len(packet) < udp + 16:
            return False
        if _PORTS.unpack_from(packet, udp) != (self.listen_port, peer.path.endpoint.port):
            return False
        kind, index = _TWO_WORDS.unpack_from(packet, udp + 8)
        if kind == MESSAGE_TRANSPORT:
            return any(keypair.remote_index == index for keypair in peer.keypairs)
        if kind in (MESSAGE_INITIATION, MESSAGE_RESPONSE):
            return self._shared.indices.get(index) is not None
        return False


def _one_flow(batch: PacketBatch) -> bool:
    """Whether all packets share version, traffic class, source and destination."""
    headers = batch.layout.matrix[: batch.count, TRANSPORT_HEADER_LEN:]
    v4 = int(headers[0, 0]) >> 4 == 4
    addresses = slice(12, 20) if v4 else slice(8, 40)
    if headers.shape[1] < addresses.stop:
        return False
    same_class = headers[:, :2] == headers[0, :2]
    same_addresses = headers[:, addresses] == headers[0, addresses]
    return bool(np.all(same_class) and np.all(same_addresses))
