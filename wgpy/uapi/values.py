"""The values of UAPI lines: one parser and one printer for each kind. Pure.

Parsers raise ValueError with a message that says what was expected and, unless the value may be
a secret, what was found. They accept what wireguard-go accepts, except for prefix lengths with a
sign or a leading zero, which its newer releases refuse as well.
"""

import binascii
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

from wgpy.protocol.config import AllowedIPChange, Endpoint, Network, Secret

# Turns the scope of an IPv6 endpoint, an interface's name, into its index; OSError when unknown.
ScopeResolver: TypeAlias = Callable[[str], int]

_KEY_HEX_LEN = 64
# Who asks a device asks again, and gets the same endpoints and allowed IPs: of 10,000 peers, some.
_NETWORKS = 1 << 16


def shown(value: str) -> str:
    """`value` quoted for a message, shortened when it is long."""
    return repr(value if len(value) <= 64 else value[:61] + "...")


def parse_key(value: str) -> Secret:
    """32 bytes from 64 hexadecimal digits of either case. Every key is treated as secret."""
    try:
        if len(value) == _KEY_HEX_LEN:
            return Secret(binascii.unhexlify(value))
    except ValueError:
        pass
    raise ValueError(f"expected a key of {_KEY_HEX_LEN} hexadecimal digits")


def parse_true(value: str) -> bool:
    """`true`, the only value a flag can have."""
    if value != "true":
        raise ValueError(f"expected true, found {shown(value)}")
    return True


def parse_number(value: str, largest: int) -> int:
    """A decimal number from 0 to `largest`, without a sign."""
    if value.isascii() and value.isdigit() and len(value) <= 32 and int(value) <= largest:
        return int(value)
    raise ValueError(f"expected a number from 0 to {largest}, found {shown(value)}")


def parse_u16(value: str) -> int:
    """A port or a number of seconds."""
    return parse_number(value, 2**16 - 1)


def parse_u32(value: str) -> int:
    """A firewall mark."""
    return parse_number(value, 2**32 - 1)


def parse_u64(value: str) -> int:
    """A counter or a time."""
    return parse_number(value, 2**64 - 1)


def parse_endpoint(value: str, scope: ScopeResolver) -> Endpoint:
    """`1.2.3.4:5`, `[2001:db8::1]:5` or `[fe80::1%eth0]:5`; names are never looked up.

    The scope is an interface's index or name, and is kept only where it means something.
    """
    host, colon, port = value.rpartition(":")
    try:
        if not colon:
            raise ValueError
        if host.startswith("[") and host.endswith("]"):
            text, percent, zone = host[1:-1].partition("%")
            told, is_link_local = _ipv6_host(text)
            index = _scope_index(zone, scope) if percent else 0
            return Endpoint(told, parse_u16(port), index if is_link_local else 0)
        return Endpoint(_ipv4_host(host), parse_u16(port))
    except ValueError:
        raise ValueError(
            f"expected IPV4:PORT, [IPV6]:PORT or [IPV6%SCOPE]:PORT, found {shown(value)}"
        ) from None


@lru_cache(_NETWORKS)
def _ipv4_host(text: str) -> str:
    return str(IPv4Address(text))


@lru_cache(_NETWORKS)
def _ipv6_host(text: str) -> tuple[str, bool]:
    """As inet_ntop writes it, and whether a scope means something to it."""
    address = IPv6Address(text)
    return _address_text(address), address.is_link_local


def _scope_index(zone: str, scope: ScopeResolver) -> int:
    if zone.isascii() and zone.isdigit():
        return parse_u32(zone)
    try:
        return scope(zone)
    except OSError:
        raise ValueError from None


@lru_cache(_NETWORKS)
def parse_network(value: str) -> Network:
    """`ADDRESS/LENGTH` in either family; bits beyond the length are cleared."""
    address, slash, length = value.partition("/")
    canonical = length == "0" or not length.startswith("0")
    if slash and canonical and length.isascii() and length.isdigit() and "%" not in address:
        try:
            if ":" in address:
                return IPv6Network((address, int(length)), strict=False)
            return IPv4Network((address, int(length)), strict=False)
        except ValueError:
            pass
    raise ValueError(f"expected ADDRESS/LENGTH, found {shown(value)}")


def parse_allowed_ip(value: str) -> AllowedIPChange:
    """`ADDRESS/LENGTH` to add, `-ADDRESS/LENGTH` to take away."""
    if value.startswith("-"):
        return AllowedIPChange(parse_network(value[1:]), remove=True)
    return AllowedIPChange(parse_network(value))


def network_text(network: Network) -> str:
    """`network` as inet_ntop writes it."""
    return f"{_address_text(network.network_address)}/{network.prefixlen}"


def _address_text(address: IPv4Address | IPv6Address) -> str:
    # Python before 3.13 prints mapped addresses in hexadecimal, unlike everybody else.
    if address.version == 6 and (mapped := address.ipv4_mapped) is not None:
        return f"::ffff:{mapped}"
    return str(address)
