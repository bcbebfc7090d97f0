"""`wgpy show IFACE FIELD` for scripts: lines of `wg show IFACE FIELD`, and one JSON object."""

from collections.abc import Callable, Iterator
from typing import Any

from wgpy.protocol.config import InterfaceStats, PeerStats
from wgpy.tools.keys import key_text
from wgpy.tools.values import endpoint_text, fwmark_text, keepalive_text, network_text

_NANOSECONDS = 10**9


def _key(key: bytes | None) -> str:
    return "(none)" if key is None else key_text(key)


def _preshared(peer: PeerStats) -> str:
    return key_text(peer.preshared_key) if any(peer.preshared_key) else "(none)"


def _endpoint(peer: PeerStats) -> str:
    return "(none)" if peer.endpoint is None else endpoint_text(peer.endpoint)


def _allowed_ips(peer: PeerStats, separator: str) -> str:
    return separator.join(map(network_text, peer.allowed_ips)) or "(none)"


def _handshake(peer: PeerStats) -> str:
    return str(peer.last_handshake_ns // _NANOSECONDS)


_INTERFACE_FIELDS: dict[str, Callable[[InterfaceStats], str]] = {
    "public-key": lambda stats: _key(stats.public_key),
    "private-key": lambda stats: _key(stats.private_key),
    "listen-port": lambda stats: str(stats.listen_port),
    "fwmark": lambda stats: fwmark_text(stats.fwmark),
}
# What stands after the peer's public key.
_PEER_FIELDS: dict[str, Callable[[PeerStats], tuple[str, ...]]] = {
    "peers": lambda peer: (),
    "preshared-keys": lambda peer: (_preshared(peer),),
    "endpoints": lambda peer: (_endpoint(peer),),
    "allowed-ips": lambda peer: (_allowed_ips(peer, " "),),
    "latest-handshakes": lambda peer: (_handshake(peer),),
    "transfer": lambda peer: (str(peer.rx_bytes), str(peer.tx_bytes)),
    "persistent-keepalive": lambda peer: (keepalive_text(peer.persistent_keepalive),),
}
FIELDS = (*_INTERFACE_FIELDS, *_PEER_FIELDS, "dump")


def field_lines(stats: InterfaceStats, field: str, prefix: tuple[str, ...] = ()) -> Iterator[str]:
    """The lines of `field`, one of FIELDS, cells separated by tabs, `prefix` before all others."""
    for row in _rows(stats, field):
        yield "\t".join((*prefix, *row)) + "\n"


def _rows(stats: InterfaceStats, field: str) -> Iterator[tuple[str, ...]]:
    if field == "dump":
        yield from _dump_rows(stats)
    elif field in _INTERFACE_FIELDS:
        yield (_INTERFACE_FIELDS[field](stats),)
    else:
        for peer in stats.peers:
            yield (key_text(peer.public_key), *_PEER_FIELDS[field](peer))


def _dump_rows(stats: InterfaceStats) -> Iterator[tuple[str, ...]]:
    yield (
        _key(stats.private_key),
        _key(stats.public_key),
        str(stats.listen_port),
        fwmark_text(stats.fwmark),
    )
    for peer in stats.peers:
        yield (
            key_text(peer.public_key),
            _preshared(peer),
            _endpoint(peer),
            _allowed_ips(peer, ","),
            _handshake(peer),
            str(peer.rx_bytes),
            str(peer.tx_bytes),
            keepalive_text(peer.persistent_keepalive),
        )


def json_object(stats: InterfaceStats, show_keys: bool) -> dict[str, Any]:
    """One interface for `--json`: camelCase names, absent values left out.

    Private and preshared keys only if `show_keys`; times are seconds since 1970.
    """
    interface: dict[str, Any] = {}
    if stats.public_key is not None:
        interface["publicKey"] = key_text(stats.public_key)
    if show_keys and stats.private_key is not None:
        interface["privateKey"] = key_text(stats.private_key)
    if stats.listen_port:
        interface["listenPort"] = stats.listen_port
    if stats.fwmark:
        interface["fwmark"] = stats.fwmark
    if stats.drops:
        interface["drops"] = stats.drops
    interface["peers"] = {
        key_text(peer.public_key): _json_peer(peer, show_keys) for peer in stats.peers
    }
    return interface


def _json_peer(peer: PeerStats, show_keys: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if show_keys and any(peer.preshared_key):
        found["presharedKey"] = key_text(peer.preshared_key)
    if peer.endpoint is not None:
        found["endpoint"] = endpoint_text(peer.endpoint)
    found["allowedIps"] = list(map(network_text, peer.allowed_ips))
    if peer.last_handshake_ns:
        found["latestHandshake"] = peer.last_handshake_ns // _NANOSECONDS
    found["transferRx"] = peer.rx_bytes
    found["transferTx"] = peer.tx_bytes
    if peer.persistent_keepalive:
        found["persistentKeepalive"] = peer.persistent_keepalive
    if peer.drops:
        found["drops"] = peer.drops
    return found
