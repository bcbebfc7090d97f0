"""The arguments of `wgpy set IFACE`, as wg(8) takes them."""

from collections.abc import Callable
from typing import Any, TypeAlias

from wgpy.protocol.config import InterfaceChange, PeerChange, Secret
from wgpy.tools.conffile import warn_host_bits
from wgpy.tools.errors import ToolError, UsageError
from wgpy.tools.keys import parse_key, read_key_file
from wgpy.tools.resolve import resolve_endpoint
from wgpy.tools.values import parse_allowed_ips, parse_fwmark, parse_keepalive, parse_port


def _secret_file(path: str) -> Secret:
    return Secret(read_key_file(path))


_Table: TypeAlias = dict[str, tuple[str, Callable[[str], object]]]
_INTERFACE: _Table = {
    "listen-port": ("listen_port", parse_port),
    "fwmark": ("fwmark", parse_fwmark),
    "private-key": ("private_key", _secret_file),
}
_PEER: _Table = {
    "preshared-key": ("preshared_key", _secret_file),
    "endpoint": ("endpoint", resolve_endpoint),
    "persistent-keepalive": ("persistent_keepalive", parse_keepalive),
}


def parse_set(arguments: list[str]) -> InterfaceChange:
    """The change that the arguments after the interface's name ask for.

    UsageError for an argument out of place, ToolError for a value that cannot be understood.
    """
    interface: dict[str, Any] = {}
    peers: list[dict[str, Any]] = []
    left = iter(arguments)
    for word in left:
        if word == "remove" and peers:
            peers[-1]["remove"] = True
            continue
        table = _PEER if peers else _INTERFACE
        if word != "peer" and word not in table and not (word == "allowed-ips" and peers):
            raise UsageError(_misplaced(word, bool(peers)))
        if (value := next(left, None)) is None:
            raise UsageError(f"{word}: expected a value after it")
        try:
            if word == "peer":
                peers.append({"public_key": parse_key(value)})
            elif word == "allowed-ips":
                _allow(peers[-1], value)
            else:
                name, parse = table[word]
                (peers[-1] if peers else interface)[name] = parse(value)
        except ValueError as error:
            raise ToolError(f"{word}: {error}") from None
    return InterfaceChange(**interface, peers=tuple(map(_peer_change, peers)))


def _misplaced(word: str, in_peer: bool) -> str:
    if word in _INTERFACE and in_peer:
        return f"{word!r} belongs to the interface; give it before the first peer"
    if word in _PEER or word in ("remove", "allowed-ips"):
        return f"{word!r} belongs to a peer; give 'peer PUBLIC-KEY' before it"
    # A word out of place may be a key: only what looks like a name is shown.
    name = repr(word) if len(word) < 32 else "an argument"
    return f"{name} is not known here"


def _allow(peer: dict[str, Any], value: str) -> None:
    changes, incremental, host_bits = parse_allowed_ips("".join(value.split()))
    for entry in host_bits:
        warn_host_bits("", entry)
    peer["allowed_ips"] = peer.get("allowed_ips", ()) + tuple(changes)
    # One entry with a sign is enough: nothing is replaced then.
    peer["replace_allowed_ips"] = peer.get("replace_allowed_ips", True) and not incremental


def _peer_change(peer: dict[str, Any]) -> PeerChange:
    # A peer on its way out has nothing else to change.
    return PeerChange(peer["public_key"], remove=True) if "remove" in peer else PeerChange(**peer)
