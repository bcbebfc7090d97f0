"""Configuration files of wg(8), in one pass from lines to an InterfaceChange.

White space counts nowhere, `#` starts a comment, and names of sections and keys may be written in
any case.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

from wgpy.protocol.config import (
    ZERO_KEY,
    AllowedIPChange,
    Endpoint,
    InterfaceChange,
    PeerChange,
    Secret,
)
from wgpy.tools.errors import ToolError
from wgpy.tools.keys import parse_key
from wgpy.tools.resolve import resolve_endpoint
from wgpy.tools.values import parse_allowed_ips, parse_fwmark, parse_keepalive, parse_port

# A line of a file, with its number from 1.
Line = tuple[int, str]

_SETTINGS = {
    "interface": "PrivateKey, ListenPort, FwMark; to wgpy up also Address, DNS, MTU, Table, PreUp, "
    "PostUp, PreDown, PostDown, SaveConfig",
    "peer": "PublicKey, PresharedKey, AllowedIPs, Endpoint, PersistentKeepalive",
}
_FIELDS = {
    "interface": {"privatekey": "private_key", "listenport": "listen_port", "fwmark": "fwmark"},
    "peer": {
        "publickey": "public_key",
        "presharedkey": "preshared_key",
        "allowedips": "allowed_ips",
        "endpoint": "endpoint",
        "persistentkeepalive": "persistent_keepalive",
    },
}
# What wg-quick(8) adds to [Interface].
QUICK_KEYS = frozenset(
    ["address", "dns", "mtu", "table", "preup", "postup", "predown", "postdown", "saveconfig"]
)


def read_lines(path: str) -> list[Line]:
    """The numbered lines of file `path`. ToolError if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return list(enumerate(file.read().split("\n"), start=1))
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from None


def parse_config(
    lines: Iterable[Line],
    source: str,
    *,
    append: bool = False,
    resolve: Callable[[str], Endpoint] = resolve_endpoint,
    quiet: bool = False,
) -> InterfaceChange:
    """The change that a configuration file asks for; `source` names it in messages.

    `quiet` leaves out the warnings about bits beyond the length of an allowed IP.

    A whole configuration replaces all there is; one to append leaves other peers, and what it
    does not name of the interface, as they are. ToolError with file and line on the first line
    that cannot be understood.
    """
    parser = _Parser(source, resolve, quiet)
    for number, line in lines:
        parser.feed(number, "".join(line.partition("#")[0].split()))
    return parser.finish(append)


class _Parser:
    def __init__(self, source: str, resolve: Callable[[str], Endpoint], quiet: bool) -> None:
        self._source = source
        self._quiet = quiet
        self._section = ""
        self._interface: dict[str, Any] = {}
        self._peers: list[_Peer] = []
        self._interface_keys: dict[str, Callable[[str], object]] = {
            "private_key": lambda text: Secret(parse_key(text)),
            "listen_port": parse_port,
            "fwmark": parse_fwmark,
        }
        self._peer_keys: dict[str, Callable[[str], object]] = {
            "public_key": parse_key,
            "preshared_key": lambda text: Secret(parse_key(text)),
            "endpoint": resolve,
            "persistent_keepalive": parse_keepalive,
        }

    def feed(self, number: int, line: str) -> None:
        where = f"{self._source}:{number}: "
        lowered = line.lower()
        if not line:
            return
        if lowered == "[interface]":
            self._section = "interface"
        elif lowered == "[peer]":
            self._section = "peer"
            self._peers.append(_Peer(number))
        else:
            key, equals, value = line.partition("=")
            if not equals or line.startswith("["):
                raise ToolError(where + _malformed(line))
            self._setting(where, key, value)

    def _setting(self, where: str, key: str, value: str) -> None:
        if not self._section:
            raise ToolError(f"{where}expected [Interface] or [Peer] first, found a setting")
        name = _FIELDS[self._section].get(key.lower())
        if name is None:
            raise ToolError(where + _unknown(key, self._section))
        if not value:
            raise ToolError(f"{where}{key}: expected a value, found none; give one or delete it")
        try:
            if name == "allowed_ips":
                self._allow(where, value)
            elif self._section == "peer":
                self._peers[-1].values[name] = self._peer_keys[name](value)
            else:
                self._interface[name] = self._interface_keys[name](value)
        except ValueError as error:
            raise ToolError(f"{where}{key}: {error}") from None

    def _allow(self, where: str, value: str) -> None:
        for entry in self._peers[-1].allow(value):
            if not self._quiet:
                warn_host_bits(where, entry)

    def finish(self, append: bool) -> InterfaceChange:
        for peer in self._peers:
            if "public_key" not in peer.values:
                raise ToolError(
                    f"{self._source}:{peer.number}: this peer has no PublicKey; give it one"
                )
        peers = tuple(peer.change() for peer in self._peers)
        if append:
            return InterfaceChange(**self._interface, peers=peers)
        nothing: dict[str, Any] = {"private_key": ZERO_KEY, "listen_port": 0, "fwmark": 0}
        whole = nothing | self._interface
        return InterfaceChange(**whole, replace_peers=True, peers=peers)


class _Peer:
    """A [Peer] section while it is read; `number` is its first line's."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.values: dict[str, Any] = {}
        self._allowed_ips: list[AllowedIPChange] = []
        self._incremental = False

    def allow(self, value: str) -> list[str]:
        """Add a list; returns those entries that have bits beyond their length."""
        changes, incremental, host_bits = parse_allowed_ips(value)
        self._allowed_ips += changes
        self._incremental = self._incremental or incremental
        return host_bits

    def change(self) -> PeerChange:
        return PeerChange(
            **self.values,
            replace_allowed_ips=not self._incremental,
            allowed_ips=tuple(self._allowed_ips),
        )


def warn_host_bits(where: str, entry: str) -> None:
    """Tell that an allowed IP says more than its prefix length keeps."""
    print(f"wgpy: warning: {where}AllowedIP has nonzero host part: {entry}", file=sys.stderr)


def _malformed(line: str) -> str:
    if line.startswith("["):
        return "expected [Interface] or [Peer], found another section"
    return "expected [Interface], [Peer] or NAME = VALUE; is a '=' missing?"


def _unknown(key: str, section: str) -> str:
    # What stands before '=' may be a key in the wrong place: show only what looks like a name.
    name = repr(key) if key.isascii() and key.isalnum() and len(key) < 32 else "this name"
    other = "peer" if section == "interface" else "interface"
    if key.lower() in _FIELDS[other]:
        return f"{name} belongs into [{other.capitalize()}]; move it there"
    if key.lower() in QUICK_KEYS:
        return f"{name} is a setting of wgpy up and wg-quick; use them, or wgpy strip"
    return f"{name} is not known in [{section.capitalize()}] (known: {_SETTINGS[section]})"
