"""How the pods of this node are attached, as the container runtime has noted it.

libcni keeps the result of every attachment (github.com/containernetworking/cni, libcni/api.go): one
JSON file for each network, container and interface, written after ADD and removed after DEL.
"""

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from agent.network.base import POD_BRIDGE, Address

_log = logging.getLogger(__name__)

RESULTS = Path("/var/lib/cni/results")
_NETWORK = "wgpy"
_KIND = "cniCacheV1"
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")


@dataclass(frozen=True, slots=True, order=True)
class Attachment:
    """One pod: its end of the pair on the bridge, and what it may say it is."""

    veth: str
    # Lower case, with colons.
    mac: str
    addresses: tuple[Address, ...]


def read_attachments(directory: Path, links: Iterable[str]) -> tuple[Attachment, ...]:
    """Those whose veth is one of `links`: what is left of a pod that is gone counts no more.

    A file that makes no sense is logged and passed over. OSError if there is no such directory.
    """
    present = frozenset(links)
    found = {}
    for path in sorted(directory.iterdir()):
        try:
            attachment = parse_result_untrusted(path.read_bytes())
        except FileNotFoundError:
            continue  # gone in between
        except ValueError as error:
            _log.warning("%s is not the result of an attachment: %s", path, error)
            continue
        if attachment is not None and attachment.veth in present:
            found[attachment.veth] = attachment
    return tuple(sorted(found.values()))


def parse_result_untrusted(data: bytes) -> Attachment | None:
    """The attachment in one file, None if it is of another network. ValueError."""
    try:
        cached = json.loads(data)
        if cached["kind"] != _KIND or cached["networkName"] != _NETWORK:
            return None
        return _attachment(cached["result"])
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _attachment(result: dict[str, Any]) -> Attachment:
    interfaces = result["interfaces"]
    # The bridge plugin's come first; plugins that are chained to it add theirs.
    outer = [i["name"] for i in interfaces if not i.get("sandbox") and i["name"] != POD_BRIDGE]
    veth = outer[0]
    (inner,) = (number for number, i in enumerate(interfaces) if i.get("sandbox"))
    mac = str(interfaces[inner]["mac"]).lower()
    # It becomes part of a script for nft.
    if not _NAME.fullmatch(veth):
        raise ValueError(f"{veth!r} is not the name of a veth")
    if not _MAC.fullmatch(mac):
        raise ValueError(f"{mac!r} is not a hardware address")
    mine = (ip for ip in result["ips"] if ip.get("interface", inner) == inner)
    return Attachment(veth, mac, tuple(ip_interface(str(ip["address"])).ip for ip in mine))
