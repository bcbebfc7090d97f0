"""A device without packets, and strategies for what it can be told."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

from hypothesis import strategies as st

from wgpy.protocol.config import (
    ZERO_KEY,
    AllowedIPChange,
    ConfigError,
    Endpoint,
    InterfaceChange,
    InterfaceStats,
    Network,
    PeerChange,
    PeerStats,
    Secret,
)


class FakeDevice:
    """Keeps what it is told, without the rules of a real interface's keys."""

    def __init__(self, stats: InterfaceStats | None = None) -> None:
        self.stats = stats or InterfaceStats()
        self.changes: list[InterfaceChange] = []
        self.error: ConfigError | None = None
        self.key_readers: list[Callable[[bytes], None]] = []

    def configure(self, change: InterfaceChange) -> None:
        if self.error is not None:
            raise self.error
        self.changes.append(change)
        peers = {} if change.replace_peers else {p.public_key: p for p in self.stats.peers}
        for peer_change in change.peers:
            _change_peer(peers, peer_change)
        stats = self.stats
        if change.private_key is not None:
            key = None if change.private_key == ZERO_KEY else change.private_key
            stats = replace(stats, private_key=key)
        if change.listen_port is not None:
            stats = replace(stats, listen_port=change.listen_port)
        if change.fwmark is not None:
            stats = replace(stats, fwmark=change.fwmark)
        self.stats = replace(stats, peers=tuple(peers.values()))

    def snapshot(self) -> InterfaceStats:
        return self.stats

    def follow_keys(self, write: Callable[[bytes], None]) -> Callable[[], None]:
        self.key_readers.append(write)
        return lambda: self.key_readers.remove(write)


def _change_peer(peers: dict[bytes, PeerStats], change: PeerChange) -> None:
    if change.remove:
        peers.pop(change.public_key, None)
        return
    if change.update_only and change.public_key not in peers:
        return
    peer = peers.get(change.public_key, PeerStats(change.public_key))
    networks: dict[Network, None] = {}
    if not change.replace_allowed_ips:
        networks = dict.fromkeys(peer.allowed_ips)
    for allowed in change.allowed_ips:
        networks.pop(allowed.network, None)
        if not allowed.remove:
            networks[allowed.network] = None
    if change.preshared_key is not None:
        peer = replace(peer, preshared_key=change.preshared_key)
    if change.endpoint is not None:
        peer = replace(peer, endpoint=change.endpoint)
    if change.persistent_keepalive is not None:
        peer = replace(peer, persistent_keepalive=change.persistent_keepalive)
    peers[change.public_key] = replace(peer, allowed_ips=tuple(networks))


def many_peers(count: int) -> InterfaceChange:
    """A change that makes `count` peers with two allowed IPs each."""
    return InterfaceChange(
        private_key=Secret(b"\x40" * 32),
        replace_peers=True,
        peers=tuple(
            PeerChange(
                number.to_bytes(32, "big"),
                endpoint=Endpoint("192.0.2.1", 1 + number % 65535),
                replace_allowed_ips=True,
                allowed_ips=(
                    AllowedIPChange(ip_network((10 << 24 | number, 32))),
                    AllowedIPChange(ip_network((0xFD << 120 | number, 128))),
                ),
            )
            for number in range(1, count + 1)
        ),
    )


keys = st.binary(min_size=32, max_size=32)
secrets = keys.map(Secret)
networks: st.SearchStrategy[Network] = st.one_of(
    st.builds(
        lambda address, length: ip_network((address, length), strict=False),
        st.ip_addresses(v=4).map(int).map(lambda n: n.to_bytes(4, "big")),
        st.integers(0, 32),
    ),
    st.builds(
        lambda address, length: ip_network((address, length), strict=False),
        st.ip_addresses(v=6).map(int).map(lambda n: n.to_bytes(16, "big")),
        st.integers(0, 128),
    ),
)
ports = st.integers(0, 2**16 - 1)
# Mapped addresses have two texts, so there are none here.
endpoints = st.one_of(
    st.builds(Endpoint, st.ip_addresses(v=4).map(str), ports, st.just(0)),
    st.builds(Endpoint, st.ip_addresses(v=6, network="2000::/3").map(str), ports, st.just(0)),
    st.builds(
        Endpoint,
        st.ip_addresses(v=6, network="fe80::/10").map(str),
        ports,
        st.integers(0, 2**32 - 1),
    ),
)
peer_changes = st.one_of(
    st.builds(PeerChange, keys, remove=st.just(True)),
    st.builds(
        PeerChange,
        keys,
        update_only=st.booleans(),
        preshared_key=st.none() | secrets,
        endpoint=st.none() | endpoints,
        persistent_keepalive=st.none() | ports,
        replace_allowed_ips=st.booleans(),
        allowed_ips=st.lists(st.builds(AllowedIPChange, networks, st.booleans()), max_size=4).map(
            tuple
        ),
    ),
)
changes = st.builds(
    InterfaceChange,
    private_key=st.none() | secrets,
    listen_port=st.none() | ports,
    fwmark=st.none() | st.integers(0, 2**32 - 1),
    replace_peers=st.booleans(),
    peers=st.lists(peer_changes, max_size=4).map(tuple),
)
interface_stats = st.builds(
    InterfaceStats,
    private_key=st.none() | secrets,
    listen_port=ports,
    fwmark=st.integers(0, 2**32 - 1),
    peers=st.lists(
        st.builds(
            PeerStats,
            keys,
            preshared_key=secrets,
            endpoint=st.none() | endpoints,
            last_handshake_ns=st.integers(0, 2**62),
            rx_bytes=st.integers(0, 2**64 - 1),
            tx_bytes=st.integers(0, 2**64 - 1),
            persistent_keepalive=ports,
            allowed_ips=st.lists(networks, max_size=4).map(tuple),
        ),
        max_size=4,
    ).map(tuple),
)
