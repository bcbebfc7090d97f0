"""Two interfaces hand datagrams to each other, without a socket or a clock.

The core takes packets and datagrams in rows of a slab, and says what to send. Here time is a
number that only we move, and the network is a loop.
"""

import os
import time
from ipaddress import ip_network

from wgpy import Interface
from wgpy.protocol.batch import DatagramBatch, PacketBatch, PacketRows, Slab, datagram_size
from wgpy.protocol.config import AllowedIPChange, Endpoint, InterfaceChange, PeerChange, Secret
from wgpy.protocol.constants import TRANSPORT_HEADER_LEN
from wgpy.protocol.path import Path

PORT = 51820


class Side:
    """One interface, the slabs that it works in, and its address."""

    def __init__(self, host: str) -> None:
        self.path = Path(Endpoint(host, PORT))
        self.interface = Interface(os.urandom, time.time_ns)
        self.outgoing, self.incoming = Slab(1 << 16), Slab(1 << 16)
        key = InterfaceChange(private_key=Secret(os.urandom(32)), listen_port=PORT)
        self.interface.configure(key, now=0.0)
        self.interface.up(now=0.0)

    @property
    def public_key(self) -> bytes:
        key = self.interface.snapshot().public_key
        assert key is not None
        return key

    def add_peer(self, other: "Side", inner: str) -> None:
        allowed = (AllowedIPChange(ip_network(inner)),)
        peer = PeerChange(other.public_key, endpoint=other.path.endpoint, allowed_ips=allowed)
        self.interface.configure(InterfaceChange(peers=(peer,)), now=0.0)

    def send(self, packet: bytes, now: float) -> None:
        """One packet from the host: a batch of one row."""
        layout = self.outgoing.layout(datagram_size(len(packet), self.interface.mtu))
        layout.row(0)[TRANSPORT_HEADER_LEN : TRANSPORT_HEADER_LEN + len(packet)] = packet
        size = len(packet)
        self.interface.send_packets(PacketBatch(layout, 1, size, size, layout.size, True), now)

    def receive(self, datagram: bytes, source: Path, now: float) -> None:
        """One datagram from the network."""
        layout = self.incoming.layout(len(datagram))
        layout.row(0)[:] = datagram
        batch = DatagramBatch(layout, 1, len(datagram), source, ecn=0)
        self.interface.receive_datagrams(batch, now)
        self.interface.handle_timeout(now)


def exchange(alice: Side, bob: Side, now: float) -> list[bytes]:
    """Carry datagrams to and fro until both are silent; the packets that came out."""
    delivered = []
    quiet = False
    while not quiet:
        quiet = True
        for sender, receiver in ((alice, bob), (bob, alice)):
            for transmit in sender.interface.poll_transmits():
                receiver.receive(b"".join(transmit.buffers), sender.path, now)
                quiet = False
            for item in receiver.interface.poll_packets():
                assert not isinstance(item, PacketRows), "one datagram is never a run of rows"
                delivered.append(bytes(item))
    return delivered


def main() -> None:
    alice, bob = Side("192.0.2.1"), Side("192.0.2.2")
    alice.add_peer(bob, "10.0.0.2/32")
    bob.add_peer(alice, "10.0.0.1/32")
    # An IPv4 header without a protocol of its own: 10.0.0.1 to 10.0.0.2, 24 bytes in all.
    packet = bytes.fromhex("45000018 00000000 40fd0000 0a000001 0a000002") + b"data"
    alice.send(packet, now=1.0)
    print("delivered:", exchange(alice, bob, now=1.0) == [packet])
    print("next thing to do:", alice.interface.next_timeout())


if __name__ == "__main__":
    main()
