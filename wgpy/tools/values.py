"""The values of configuration files and of `wgpy set`, as wg(8) writes them.

Parsers raise ValueError with a message that says what was expected and what was found. They
accept what wg(8) accepts, but for ports beyond 65535 or with a sign, which wg(8) takes to be
some other port.
"""

import socket
from ipaddress import IPv4Network, IPv6Network

from wgpy.protocol.config import AllowedIPChange, Endpoint, Network
from wgpy.uapi.values import network_text, shown

__all__ = [
    "endpoint_text",
    "fwmark_text",
    "keepalive_text",
    "network_text",
    "parse_allowed_ips",
    "parse_fwmark",
    "parse_keepalive",
    "parse_port",
    "split_endpoint",
]

_U16_MAX = 2**16 - 1
_U32_MAX = 2**32 - 1


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 32


def parse_port(text: str) -> int:
    """A port from 0 to 65535, or the name of an UDP service."""
    if _is_number(text):
        if (port := int(text)) <= _U16_MAX:
            return port
    else:
        try:
            return socket.getservbyname(text, "udp")
        except (OSError, ValueError):
            pass
    raise ValueError(f"expected a port from 0 to {_U16_MAX}, found {shown(text)}")


def parse_fwmark(text: str) -> int:
    """`off`, or a number of 32 bits in decimal or after `0x` in hexadecimal; 0 is off."""
    if text.lower() == "off":
        return 0
    digits = text.removeprefix("0x")
    hexadecimal = digits != text
    if hexadecimal and digits and not digits.strip("0123456789abcdefABCDEF"):
        mark = int(digits, 16)
    elif _is_number(text):
        mark = int(text)
    else:
        mark = -1
    if 0 <= mark <= _U32_MAX:
        return mark
    raise ValueError(f"expected off or a mark from 0 to {_U32_MAX:#x}, found {shown(text)}")


def parse_keepalive(text: str) -> int:
    """`off`, or a number of seconds from 0, which is off, to 65535."""
    if text.lower() == "off":
        return 0
    if _is_number(text) and int(text) <= _U16_MAX:
        return int(text)
    raise ValueError(f"expected off or seconds from 0 to {_U16_MAX}, found {shown(text)}")


def parse_allowed_ips(text: str) -> tuple[list[AllowedIPChange], bool, list[str]]:
    """A list with commas of addresses, with a prefix length or whole.

    Returns the changes, whether they are incremental (one of them is written with a `+` to be
    added or with a `-` to be taken away, so the list does not replace the peer's), and those
    entries that have bits set beyond their length.
    """
    changes: list[AllowedIPChange] = []
    incremental = False
    host_bits: list[str] = []
    for entry in text.split(",") if text else []:
        sign = entry[:1] if entry[:1] in ("+", "-") else ""
        incremental = incremental or bool(sign)
        network, clean = _parse_network(entry.removeprefix(sign))
        if not clean:
            host_bits.append(entry)
        changes.append(AllowedIPChange(network, remove=sign == "-"))
    return changes, incremental, host_bits


def _parse_network(entry: str) -> tuple[Network, bool]:
    address, slash, length = entry.partition("/")
    if "%" not in address and (not slash or _is_number(length)):
        family = IPv6Network if ":" in address else IPv4Network
        whole = 128 if family is IPv6Network else 32
        try:
            host = family((address, whole))
            network = family((address, int(length) if slash else whole), strict=False)
            return network, network.network_address == host.network_address
        except ValueError:
            pass
    raise ValueError(f"expected ADDRESS or ADDRESS/LENGTH, found {shown(entry)}")


def split_endpoint(text: str) -> tuple[str, int]:
    """Host (an address or a name) and port of `HOST:PORT` or `[IPV6]:PORT`."""
    if text.startswith("["):
        host, closing, port = text[1:].partition("]")
        well_formed = closing and port.startswith(":")
        port = port[1:]
    else:
        host, colon, port = text.rpartition(":")
        well_formed = bool(colon)
    if not well_formed or not port:
        raise ValueError(f"expected HOST:PORT, found {shown(text)}; add the port")
    if not host or "\0" in host:
        raise ValueError(f"expected HOST:PORT, found {shown(text)}; add the host")
    return host, parse_port(port)


def endpoint_text(endpoint: Endpoint) -> str:
    """`HOST:PORT`, a scope by the name of its interface if it has one still."""
    if not endpoint.scope_id:
        return str(endpoint)
    try:
        scope = socket.if_indextoname(endpoint.scope_id)
    except OSError:
        scope = str(endpoint.scope_id)
    return f"[{endpoint.host}%{scope}]:{endpoint.port}"


def fwmark_text(fwmark: int) -> str:
    """`off`, or hexadecimal."""
    return f"{fwmark:#x}" if fwmark else "off"


def keepalive_text(seconds: int) -> str:
    """`off`, or seconds."""
    return str(seconds) if seconds else "off"
