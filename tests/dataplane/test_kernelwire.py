"""Messages of the kernel plane, against the decoder and encoder of pyroute2."""

import struct
from base64 import b64encode
from ipaddress import ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.generic.wireguard import wgmsg

from tests.uapi.fake import changes, many_peers
from wgpy.dataplane.kernelwire import decode_dump, encode_change
from wgpy.dataplane.netlink import attribute, attributes, nested
from wgpy.protocol.config import (
    AllowedIPChange,
    Endpoint,
    InterfaceChange,
    InterfaceStats,
    PeerChange,
    PeerStats,
    Secret,
)

# Netlink's and generic netlink's headers, which pyroute2 wants before attributes.
_HEADERS = struct.Struct("=IHHIIBBH")
PEER = bytes(range(32))


def headed(payload: bytes) -> bytes:
    return _HEADERS.pack(_HEADERS.size + len(payload), 16, 0, 1, 0, 1, 1, 0) + payload


def decoded(payload: bytes) -> Any:
    message = wgmsg(headed(payload))
    message.decode()
    return message


def attrs(of: Any) -> dict[str, Any]:
    return dict(of["attrs"])


def key_text(key: bytes) -> bytes:
    return b64encode(key)


def test_interface_attributes_are_those_that_pyroute2_reads() -> None:
    change = InterfaceChange(Secret(PEER), listen_port=51820, fwmark=0x1234, replace_peers=True)
    (message,) = encode_change("wg0", change)
    found = attrs(decoded(message))
    assert found.pop("WGDEVICE_A_PRIVATE_KEY") == key_text(PEER)
    assert found == {
        "WGDEVICE_A_IFNAME": "wg0",
        "WGDEVICE_A_FLAGS": 1,
        "WGDEVICE_A_LISTEN_PORT": 51820,
        "WGDEVICE_A_FWMARK": 0x1234,
    }


def test_what_is_not_changed_is_not_in_the_message() -> None:
    (message,) = encode_change("wg0", InterfaceChange())
    assert list(attrs(decoded(message))) == ["WGDEVICE_A_IFNAME"]


def test_peer_attributes_are_those_that_pyroute2_reads() -> None:
    peer = PeerChange(
        PEER,
        update_only=True,
        preshared_key=Secret(b"p" * 32),
        endpoint=Endpoint("192.0.2.1", 51820),
        persistent_keepalive=25,
        replace_allowed_ips=True,
        allowed_ips=tuple(AllowedIPChange(ip_network(n)) for n in ("10.0.0.0/8", "fd00::/64")),
    )
    (message,) = encode_change("wg0", InterfaceChange(peers=(peer, PeerChange(PEER, remove=True))))
    first, second = attrs(decoded(message))["WGDEVICE_A_PEERS"]
    found = attrs(first)
    assert found["WGPEER_A_PUBLIC_KEY"] == key_text(PEER)
    assert found["WGPEER_A_PRESHARED_KEY"] == key_text(b"p" * 32)
    assert found["WGPEER_A_FLAGS"] == 2 | 4
    endpoint = found["WGPEER_A_ENDPOINT"]
    assert (endpoint["addr"], endpoint["port"]) == ("192.0.2.1", 51820)
    assert found["WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL"] == 25
    networks = [allowed["addr"] for allowed in found["WGPEER_A_ALLOWEDIPS"]]
    assert networks == ["10.0.0.0/8", "fd00::/64"]
    assert attrs(second).keys() == {"WGPEER_A_PUBLIC_KEY", "WGPEER_A_FLAGS"}
    assert attrs(second)["WGPEER_A_FLAGS"] == 1


def test_an_ipv6_endpoint_is_a_sockaddr_in6_with_its_scope_in_host_order() -> None:
    endpoint = Endpoint("fe80::1", 51820, 7)
    (message,) = encode_change("wg0", InterfaceChange(peers=(PeerChange(PEER, endpoint=endpoint),)))
    (peer,) = attrs(decoded(message))["WGDEVICE_A_PEERS"]
    found = attrs(peer)["WGPEER_A_ENDPOINT"]
    assert (found["addr"], found["port"]) == ("fe80::1", 51820)
    # pyroute2 reads the scope in network order, which the kernel does not.
    assert found["scope_id"].to_bytes(4, "big") == struct.pack("=I", 7)


def test_a_prefix_taken_away_has_the_flag_for_it() -> None:
    allowed = AllowedIPChange(ip_network("10.0.0.0/8"), remove=True)
    peer_change = PeerChange(PEER, allowed_ips=(allowed,))
    (message,) = encode_change("wg0", InterfaceChange(peers=(peer_change,)))
    device = dict(attributes(message))
    peer = dict(attributes(dict(attributes(device[8]))[0]))
    allowed_ip = dict(attributes(dict(attributes(peer[9]))[0]))
    assert allowed_ip[4] == struct.pack("=I", 1)


def test_many_peers_are_spread_over_messages_that_fit() -> None:
    change = many_peers(3000)
    messages = list(encode_change("wg0", change))
    assert len(messages) > 1
    assert all(len(message) < 2**16 - 4096 for message in messages)
    stats = decode_dump(messages)
    assert [peer.public_key for peer in stats.peers] == [p.public_key for p in change.peers]
    # Only the first may throw peers away, and carries the interface's own values.
    for message in messages[1:]:
        assert [kind for kind, _ in attributes(message)] == [2, 8]


def test_many_allowed_ips_are_spread_and_nothing_is_replaced_twice() -> None:
    networks = [ip_network((0x0A000000 + number, 32)) for number in range(5000)]
    peer = PeerChange(
        PEER,
        endpoint=Endpoint("192.0.2.1", 1),
        replace_allowed_ips=True,
        allowed_ips=tuple(map(AllowedIPChange, networks)),
    )
    messages = list(encode_change("wg0", InterfaceChange(peers=(peer,))))
    assert len(messages) > 1
    (found,) = decode_dump(messages).peers
    assert list(found.allowed_ips) == networks
    parts = [part for message in messages for part in _peer_parts(message)]
    assert [int.from_bytes(part[3], "little") for part in parts] == [2] + [4] * (len(parts) - 1)
    assert all(part.keys() == {1, 3, 9} for part in parts[1:])


def _peer_parts(message: bytes) -> list[dict[int, bytes]]:
    peers = dict(attributes(message)).get(8, b"")
    return [dict(attributes(part)) for _, part in attributes(peers)]


@given(changes)
def test_what_is_encoded_is_decoded(change: InterfaceChange) -> None:
    """Get and set use the same attributes, so a set reads as the state that it asks for."""
    found = decode_dump(encode_change("wg0", change))
    expected: dict[bytes, PeerChange] = {}
    for peer in change.peers:
        expected.setdefault(peer.public_key, peer)
    assert [peer.public_key for peer in found.peers] == list(expected)
    assert found.listen_port == (change.listen_port or 0)
    assert found.fwmark == (change.fwmark or 0)
    if len(expected) == len(change.peers):
        for stats, peer in zip(found.peers, change.peers, strict=True):
            assert stats.endpoint == peer.endpoint
            assert stats.persistent_keepalive == (peer.persistent_keepalive or 0)
            assert list(stats.allowed_ips) == [allowed.network for allowed in peer.allowed_ips]


def test_a_dump_as_pyroute2_writes_it_is_read() -> None:
    message = wgmsg()
    message["attrs"] = [
        ["WGDEVICE_A_IFNAME", "wg0"],
        ["WGDEVICE_A_PRIVATE_KEY", key_text(PEER)],
        ["WGDEVICE_A_PUBLIC_KEY", key_text(b"q" * 32)],
        ["WGDEVICE_A_LISTEN_PORT", 51820],
        ["WGDEVICE_A_FWMARK", 3],
    ]
    message.encode()
    peer = (
        attribute(1, b"k" * 32)
        + attribute(2, bytes(32))
        + attribute(5, struct.pack("=H", 25))
        + attribute(6, struct.pack("=qq", 1_700_000_000, 5))
        + attribute(7, struct.pack("=Q", 2**40))
        + attribute(8, struct.pack("=Q", 2**41))
        + attribute(10, struct.pack("=I", 1))
    )
    payload = bytes(message.data[_HEADERS.size :]) + nested(8, nested(0, peer))
    assert decode_dump([payload]) == InterfaceStats(
        private_key=Secret(PEER),
        public_key=b"q" * 32,
        listen_port=51820,
        fwmark=3,
        peers=(
            PeerStats(
                b"k" * 32,
                persistent_keepalive=25,
                last_handshake_ns=1_700_000_000_000_000_005,
                rx_bytes=2**40,
                tx_bytes=2**41,
            ),
        ),
    )


def test_an_interface_without_a_private_key_has_neither_key() -> None:
    stats = decode_dump([attribute(3, bytes(32)) + attribute(4, bytes(32))])
    assert stats.private_key is None
    assert stats.public_key is None


@given(st.binary(max_size=64))
def test_reading_attributes_ends_on_any_bytes(data: bytes) -> None:
    list(attributes(data))
