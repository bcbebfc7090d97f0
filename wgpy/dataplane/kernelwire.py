"""The kernel's WireGuard messages (linux/wireguard.h) from and to the configuration's vocabulary.

Pure. What is here are attributes: headers belong to netlink.py.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from socket import AF_INET, AF_INET6

from wgpy.dataplane.netlink import attribute, attributes, nested
from wgpy.protocol.config import (
    ZERO_KEY,
    AllowedIPChange,
    Endpoint,
    InterfaceChange,
    InterfaceStats,
    Network,
    PeerChange,
    PeerStats,
    Secret,
)

FAMILY = "wireguard"
VERSION = 1
CMD_GET_DEVICE = 0
CMD_SET_DEVICE = 1

_DEVICE_IFNAME = 2
_DEVICE_PRIVATE_KEY = 3
_DEVICE_PUBLIC_KEY = 4
_DEVICE_FLAGS = 5
_DEVICE_LISTEN_PORT = 6
_DEVICE_FWMARK = 7
_DEVICE_PEERS = 8
_DEVICE_F_REPLACE_PEERS = 1

_PEER_PUBLIC_KEY = 1
_PEER_PRESHARED_KEY = 2
_PEER_FLAGS = 3
_PEER_ENDPOINT = 4
_PEER_PERSISTENT_KEEPALIVE = 5
_PEER_LAST_HANDSHAKE = 6
_PEER_RX_BYTES = 7
_PEER_TX_BYTES = 8
_PEER_ALLOWED_IPS = 9
_PEER_F_REMOVE_ME = 1
_PEER_F_REPLACE_ALLOWED_IPS = 2
_PEER_F_UPDATE_ONLY = 4

_ALLOWED_IP_FAMILY = 1
_ALLOWED_IP_ADDRESS = 2
_ALLOWED_IP_LENGTH = 3
_ALLOWED_IP_FLAGS = 4
_ALLOWED_IP_F_REMOVE_ME = 1

_U8 = struct.Struct("=B")
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
_TIMESPEC = struct.Struct("=qq")
_NANOSECONDS = 10**9

# An attribute's length has 16 bits, so peers are spread over messages of about this size.
_MESSAGE_SIZE = 32 * 1024
_ALLOWED_IPS_IN_PART = 256


def device_name(name: str) -> bytes:
    """The attribute that says which interface is meant."""
    return attribute(_DEVICE_IFNAME, name.encode() + b"\0")


def encode_change(name: str, change: InterfaceChange) -> Iterator[bytes]:
    """The attributes of each message of `change`, to be sent in this order."""
    message = device_name(name) + _device(change)
    parts: list[bytes] = []
    size = 0
    for part in _peer_parts(change.peers):
        if size + len(part) > _MESSAGE_SIZE:
            yield message + nested(_DEVICE_PEERS, b"".join(parts))
            message, parts, size = device_name(name), [], 0
        parts.append(part)
        size += len(part)
    yield message + (nested(_DEVICE_PEERS, b"".join(parts)) if parts else b"")


def _device(change: InterfaceChange) -> bytes:
    found = b""
    if change.replace_peers:
        found += attribute(_DEVICE_FLAGS, _U32.pack(_DEVICE_F_REPLACE_PEERS))
    if change.private_key is not None:
        found += attribute(_DEVICE_PRIVATE_KEY, change.private_key)
    if change.listen_port is not None:
        found += attribute(_DEVICE_LISTEN_PORT, _U16.pack(change.listen_port))
    if change.fwmark is not None:
        found += attribute(_DEVICE_FWMARK, _U32.pack(change.fwmark))
    return found


def _peer_parts(peers: Iterable[PeerChange]) -> Iterator[bytes]:
    """Each peer, and again with nothing but more allowed IPs if it has many."""
    for peer in peers:
        first, rest = peer.allowed_ips[:_ALLOWED_IPS_IN_PART], peer.allowed_ips
        yield nested(0, _peer(peer) + _allowed_ips(first))
        for start in range(_ALLOWED_IPS_IN_PART, len(rest), _ALLOWED_IPS_IN_PART):
            again = PeerChange(peer.public_key, update_only=True)
            more = rest[start : start + _ALLOWED_IPS_IN_PART]
            yield nested(0, _peer(again) + _allowed_ips(more))


def _peer(peer: PeerChange) -> bytes:
    found = attribute(_PEER_PUBLIC_KEY, peer.public_key)
    flags = 0
    if peer.remove:
        flags |= _PEER_F_REMOVE_ME
    if peer.update_only:
        flags |= _PEER_F_UPDATE_ONLY
    if peer.replace_allowed_ips:
        flags |= _PEER_F_REPLACE_ALLOWED_IPS
    if flags:
        found += attribute(_PEER_FLAGS, _U32.pack(flags))
    if peer.preshared_key is not None:
        found += attribute(_PEER_PRESHARED_KEY, peer.preshared_key)
    if peer.endpoint is not None:
        found += attribute(_PEER_ENDPOINT, _encode_endpoint(peer.endpoint))
    if peer.persistent_keepalive is not None:
        found += attribute(_PEER_PERSISTENT_KEEPALIVE, _U16.pack(peer.persistent_keepalive))
    return found


def _encode_endpoint(endpoint: Endpoint) -> bytes:
    """A struct sockaddr_in or sockaddr_in6."""
    address = ip_address(endpoint.host).packed
    port = endpoint.port.to_bytes(2, "big")
    if endpoint.is_v6:
        return _U16.pack(AF_INET6) + port + bytes(4) + address + _U32.pack(endpoint.scope_id)
    return _U16.pack(AF_INET) + port + address + bytes(8)


def _allowed_ips(allowed_ips: Iterable[AllowedIPChange]) -> bytes:
    found = b"".join(nested(0, _allowed_ip(allowed)) for allowed in allowed_ips)
    return nested(_PEER_ALLOWED_IPS, found) if found else b""


def _allowed_ip(allowed: AllowedIPChange) -> bytes:
    network = allowed.network
    family = AF_INET if network.version == 4 else AF_INET6
    found = (
        attribute(_ALLOWED_IP_FAMILY, _U16.pack(family))
        + attribute(_ALLOWED_IP_ADDRESS, network.network_address.packed)
        + attribute(_ALLOWED_IP_LENGTH, _U8.pack(network.prefixlen))
    )
    if allowed.remove:
        found += attribute(_ALLOWED_IP_FLAGS, _U32.pack(_ALLOWED_IP_F_REMOVE_ME))
    return found


@dataclass
class _Peer:
    """What the messages have told so far of one peer."""

    values: dict[int, bytes] = field(default_factory=dict)
    networks: list[Network] = field(default_factory=list)


def decode_dump(messages: Iterable[bytes]) -> InterfaceStats:
    """The interface that the messages of one dump tell of; peers may be spread over several."""
    device: dict[int, bytes] = {}
    peers: dict[bytes, _Peer] = {}
    for message in messages:
        for kind, value in attributes(message):
            if kind != _DEVICE_PEERS:
                device[kind] = value
                continue
            for _, part in attributes(value):
                _add_part(peers, part)
    private_key = Secret(device.get(_DEVICE_PRIVATE_KEY, ZERO_KEY))
    known = private_key != ZERO_KEY
    return InterfaceStats(
        private_key=private_key if known else None,
        public_key=device.get(_DEVICE_PUBLIC_KEY) if known else None,
        listen_port=_number(_U16, device.get(_DEVICE_LISTEN_PORT)),
        fwmark=_number(_U32, device.get(_DEVICE_FWMARK)),
        peers=tuple(_peer_stats(key, peer) for key, peer in peers.items()),
    )


def _add_part(peers: dict[bytes, _Peer], part: bytes) -> None:
    values = dict(attributes(part))
    peer = peers.setdefault(values[_PEER_PUBLIC_KEY], _Peer())
    for _, allowed in attributes(values.pop(_PEER_ALLOWED_IPS, b"")):
        peer.networks.append(_decode_allowed_ip(dict(attributes(allowed))))
    peer.values.update(values)


def _decode_allowed_ip(values: dict[int, bytes]) -> Network:
    length = _number(_U8, values[_ALLOWED_IP_LENGTH])
    return ip_network((values[_ALLOWED_IP_ADDRESS], length))


def _peer_stats(public_key: bytes, peer: _Peer) -> PeerStats:
    values = peer.values
    seconds, nanoseconds = _TIMESPEC.unpack(values.get(_PEER_LAST_HANDSHAKE, bytes(16)))
    endpoint = values.get(_PEER_ENDPOINT)
    return PeerStats(
        public_key=public_key,
        preshared_key=Secret(values.get(_PEER_PRESHARED_KEY, ZERO_KEY)),
        endpoint=_decode_endpoint(endpoint) if endpoint else None,
        last_handshake_ns=seconds * _NANOSECONDS + nanoseconds,
        rx_bytes=_number(_U64, values.get(_PEER_RX_BYTES)),
        tx_bytes=_number(_U64, values.get(_PEER_TX_BYTES)),
        persistent_keepalive=_number(_U16, values.get(_PEER_PERSISTENT_KEEPALIVE)),
        allowed_ips=tuple(peer.networks),
    )


def _decode_endpoint(data: bytes) -> Endpoint:
    port = int.from_bytes(data[2:4], "big")
    if _number(_U16, data[:2]) == AF_INET:
        return Endpoint(str(IPv4Address(data[4:8])), port)
    return Endpoint(str(IPv6Address(data[8:24])), port, _number(_U32, data[24:28]))


def _number(layout: struct.Struct, data: bytes | None) -> int:
    return int(layout.unpack(data)[0]) if data else 0
