"""Configuration of an interface, with the rules that wg(8) users rely on."""

from ipaddress import ip_network

from tests.sim import A4, B4, Wire, packet, pair
from wgpy.protocol.config import (
    ZERO_KEY,
    AllowedIPChange,
    Endpoint,
    InterfaceChange,
    PeerChange,
    Secret,
)
from wgpy.protocol.drops import DropReason


def _keys(wire: Wire, count: int) -> list[bytes]:
    return [wire.random.randbytes(32) for _ in range(count)]


def test_what_was_set_is_what_is_told() -> None:
    wire = Wire()
    node = wire.node("node", "192.0.2.1")
    (key,) = _keys(wire, 1)
    change = PeerChange(
        key,
        preshared_key=Secret(b"p" * 32),
        endpoint=Endpoint("2001:db8::1", 7),
        persistent_keepalive=21,
        allowed_ips=(AllowedIPChange(ip_network("10.1.0.0/16")),),
    )
    node.configure(InterfaceChange(fwmark=0x99, listen_port=1234, peers=(change,)))
    stats = node.stats()
    assert (stats.fwmark, stats.listen_port) == (0x99, 1234)
    assert stats.private_key == node.private_key
    (peer,) = stats.peers
    assert peer.public_key == key
    assert peer.preshared_key == b"p" * 32
    assert peer.endpoint == Endpoint("2001:db8::1", 7)
    assert peer.persistent_keepalive == 21
    assert peer.allowed_ips == (ip_network("10.1.0.0/16"),)


def test_keys_never_show_in_a_repr() -> None:
    secret = Secret(bytes(range(32)))
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r}", repr([secret])):
        assert secret.hex() not in text
        assert "\\x01" not in text


def test_a_prefix_has_one_owner_and_moves_without_a_word() -> None:
    wire = Wire()
    node = wire.node("node", "192.0.2.1")
    first, second = _keys(wire, 2)
    network = (AllowedIPChange(ip_network("10.1.0.0/16")),)
    node.configure(InterfaceChange(peers=(PeerChange(first, allowed_ips=network),)))
    node.configure(InterfaceChange(peers=(PeerChange(second, allowed_ips=network),)))
    owners = {p.public_key: p.allowed_ips for p in node.stats().peers}
    assert owners == {first: (), second: (ip_network("10.1.0.0/16"),)}


def test_replace_allowed_ips_drops_the_old_ones_of_that_peer_only() -> None:
    wire = Wire()
    node = wire.node("node", "192.0.2.1")
    first, second = _keys(wire, 2)

    def add(key: bytes, text: str, replace: bool = False) -> None:
        allowed_ips = (AllowedIPChange(ip_network(text)),)
        change = PeerChange(key, replace_allowed_ips=replace, allowed_ips=allowed_ips)
        node.configure(InterfaceChange(peers=(change,)))

    add(first, "10.1.0.0/16")
    add(second, "10.2.0.0/16")
    add(first, "10.3.0.0/16", replace=True)
    owners = {p.public_key: p.allowed_ips for p in node.stats().peers}
    assert owners == {first: (ip_network("10.3.0.0/16"),), second: (ip_network("10.2.0.0/16"),)}


def test_an_allowed_ip_is_removed_only_from_its_owner() -> None:
    wire = Wire()
    node = wire.node("node", "192.0.2.1")
    first, second = _keys(wire, 2)
    network = ip_network("10.1.0.0/16")
    add = PeerChange(first, allowed_ips=(AllowedIPChange(network),))
    node.configure(InterfaceChange(peers=(add,)))
    for key, left in ((second, (network,)), (first, ())):
        remove = PeerChange(key, allowed_ips=(AllowedIPChange(network, remove=True),))
        node.configure(InterfaceChange(peers=(remove,)))
        owned = {p.public_key: p.allowed_ips for p in node.stats().peers}
        assert owned[first] == left


def test_update_only_makes_no_peer_and_remove_of_nobody_is_no_error() -> None:
    wire = Wire()
    node = wire.node("node", "192.0.2.1")
    (key,) = _keys(wire, 1)
    node.configure(InterfaceChange(peers=(PeerChange(key, update_only=True),)))
    node.configure(InterfaceChange(peers=(PeerChange(key, remove=True),)))
    assert node.stats().peers == ()


def test_replace_peers_leaves_only_the_new_ones() -> None:
    wire = Wire()
    node = wire.node("node", "192.0.2.1")
    first, second = _keys(wire, 2)
    node.configure(InterfaceChange(peers=(PeerChange(first),)))
    node.configure(InterfaceChange(replace_peers=True, peers=(PeerChange(second),)))
    assert [p.public_key for p in node.stats().peers] == [second]


def test_nobody_is_a_peer_of_himself() -> None:
    wire = Wire()
    node, other = wire.node("node", "192.0.2.1"), wire.node("other", "192.0.2.2")
    node.configure(InterfaceChange(peers=(PeerChange(node.public_key),)))
    assert node.stats().peers == ()
    # Nor does one become it by taking the peer's private key.
    node.configure(InterfaceChange(peers=(PeerChange(other.public_key),)))
    node.configure(InterfaceChange(private_key=other.private_key))
    assert node.stats().peers == ()


def test_without_a_private_key_nothing_is_sent_or_answered() -> None:
    wire, alice, bob = pair()
    bob.configure(InterfaceChange(private_key=ZERO_KEY))
    assert bob.stats().private_key is None
    assert not alice.ping(bob, A4, B4)
    assert bob.drops[DropReason.NO_PRIVATE_KEY] == 1
    bob.send(packet(B4, A4))
    assert not [d for d in wire.log if d.source == bob.endpoint]
    bob.configure(InterfaceChange(private_key=bob.private_key))
    wire.run(10)
    assert alice.ping(bob, A4, B4)


def test_a_removed_peer_is_silent_at_once_and_comes_back_when_added() -> None:
    wire, alice, bob = pair()
    alice.ping(bob, A4, B4)
    bob.configure(InterfaceChange(peers=(PeerChange(alice.public_key, remove=True),)))
    assert not alice.ping(bob, A4, B4)
    assert bob.drops[DropReason.UNKNOWN_INDEX] == 1
    assert bob.interface.next_timeout() is None
    bob.peer(alice, "10.0.0.1/32")
    wire.run(30)
    assert alice.ping(bob, A4, B4)


def test_allowed_ips_moved_under_traffic_take_effect_with_the_next_packet() -> None:
    wire, alice, bob = pair()
    carol = wire.node("carol", "192.0.2.3")
    carol.peer(alice, "10.0.0.1/32")
    alice.peer(carol, "10.0.0.3/32")
    assert alice.ping(bob, A4, B4)
    alice.peer(carol, "10.0.0.2/32")
    assert alice.ping(carol, A4, B4)
    assert not bob.received[1:]
    alice.peer(bob, "10.0.0.2/32")
    assert alice.ping(bob, A4, B4)


def test_the_longest_prefix_wins() -> None:
    wire, alice, bob = pair()
    carol = wire.node("carol", "192.0.2.3")
    carol.peer(alice, "10.0.0.1/32")
    alice.peer(carol, "0.0.0.0/0")
    assert alice.ping(bob, A4, B4)
    assert alice.ping(carol, A4, "10.0.0.3")
    assert alice.ping(carol, A4, "203.0.113.5")


def test_padding_never_passes_the_mtu() -> None:
    wire, alice, bob = pair()
    alice.interface.mtu = bob.interface.mtu = 1000
    alice.ping(bob, A4, B4)
    for size in (999, 1000, 990, 1):
        if size >= 20:
            alice.ping(bob, A4, B4, size=size)
    sizes = [len(d.payload) - 32 for d in wire.sent(4, alice)][1:]
    assert sizes == [1000, 1000, 992]
