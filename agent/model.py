"""What the agents of a cluster know of each other: values without behaviour of their own.

Objects come from the API, where other nodes write them. `from_object_untrusted` believes nothing
and raises ModelError; what it returns is of the right shape, though still what a peer claims.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Literal, TypeAlias

from wgpy.protocol.config import Network

Address: TypeAlias = IPv4Address | IPv6Address
Severity: TypeAlias = Literal["info", "warning", "error"]

GROUP = "wgpy.io"
VERSION = "v1alpha1"
KIND = "WireGuardNode"
PLURAL = "wireguardnodes"
# On a Node: any new value asks for new keys.
ROTATE_ANNOTATION = f"{GROUP}/rotate"

LANES = (0, 1)
# How preshared keys are derived; agents of another suite are no peers.
SUITE = 2
_KEY_BYTES = 32
_MAX_EPOCH = 2**53
_MAX_ENDPOINTS = 16
_MAX_TEXT = 64
_FEW = 5
# Of a Node, and so of everything named after it (RFC 1123 subdomain).
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z")


class ModelError(ValueError):
    """An object that is not what it should be; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that an operator should know, and what to do about it."""

    severity: Severity
    what: str
    advice: str = ""


def few(texts: Sequence[str], between: str = "; ") -> str:
    """The first of them in one text: it is for people, and there are thousands of nodes."""
    more = f"{between}and {len(texts) - _FEW} more" if len(texts) > _FEW else ""
    return between.join(texts[:_FEW]) + more


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What Kubernetes says of a Node; only its API server and its administrators write it."""

    name: str
    uid: str
    # RFC 3339 in UTC, as the API writes it: sorts as text.
    created: str
    pod_cidrs: tuple[Network, ...] = ()
    internal_ips: tuple[Address, ...] = ()
    # Value of ROTATE_ANNOTATION, "" for none.
    rotate: str = ""

    @classmethod
    def from_object_untrusted(cls, node: Mapping[str, Any]) -> "NodeFacts":
        """From a Node as JSON. ModelError."""
        metadata = _mapping(node.get("metadata"), "metadata")
        spec = _mapping(node.get("spec") or {}, "spec")
        status = _mapping(node.get("status") or {}, "status")
        cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
        addresses = [
            _mapping(entry, "status.addresses") for entry in _list(status.get("addresses") or [])
        ]
        return cls(
            name=_name(metadata),
            uid=_text(metadata.get("uid", ""), "metadata.uid"),
            created=_text(metadata.get("creationTimestamp") or "", "metadata.creationTimestamp"),
            pod_cidrs=tuple(_network(cidr, "spec.podCIDRs") for cidr in _list(cidrs)),
            internal_ips=tuple(
                _address(entry.get("address"), "status.addresses")
                for entry in addresses
                if entry.get("type") == "InternalIP"
            ),
            rotate=str((metadata.get("annotations") or {}).get(ROTATE_ANNOTATION, "")),
        )


@dataclass(frozen=True, slots=True)
class LaneKeys:
    """The public half of one lane: who hears on `port` under `public_key`."""

    # 32 bytes each.
    public_key: bytes
    box_key: bytes
    port: int
    # Counts the keys of a lane; never goes back.
    epoch: int

    def to_object(self) -> dict[str, Any]:
        return {
            "publicKey": b64encode(self.public_key).decode(),
            "boxKey": b64encode(self.box_key).decode(),
            "port": self.port,
            "epoch": self.epoch,
        }

    @classmethod
    def from_object_untrusted(cls, lane: object, where: str) -> "LaneKeys":
        """ModelError."""
        fields = _mapping(lane, where)
        return cls(
            public_key=_key(fields.get("publicKey"), f"{where}.publicKey"),
            box_key=_key(fields.get("boxKey"), f"{where}.boxKey"),
            port=_number(fields.get("port"), 1, 65535, f"{where}.port"),
            epoch=_number(fields.get("epoch"), 1, _MAX_EPOCH, f"{where}.epoch"),
        )


@dataclass(frozen=True, slots=True)
class WireGuardNode:
    """What a node publishes of itself (the spec of its object)."""

    name: str
    lanes: tuple[LaneKeys, LaneKeys]
    # The lane that others are to send on.
    active_lane: int = 0
    endpoints: tuple[Address, ...] = ()
    backend: str = ""
    agent_version: str = ""

    def spec(self) -> dict[str, Any]:
        return {
            "lanes": [lane.to_object() for lane in self.lanes],
            "activeLane": self.active_lane,
            "endpoints": [str(address) for address in self.endpoints],
            "backend": self.backend,
            "agentVersion": self.agent_version,
            "suite": SUITE,
        }

    def to_object(self, node_uid: str) -> dict[str, Any]:
        """For server-side apply; it goes when the Node of this uid goes."""
        owner = {"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": node_uid}
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": self.name, "ownerReferences": [owner]},
            "spec": self.spec(),
        }

    @classmethod
    def from_object_untrusted(cls, node: Mapping[str, Any]) -> "WireGuardNode":
        """ModelError."""
        spec = _mapping(node.get("spec"), "spec")
        suite = _number(spec.get("suite"), 1, _MAX_EPOCH, "spec.suite")
        if suite != SUITE:
            raise ModelError(f"spec.suite is {suite}, only {SUITE} is known here")
        lanes = _list(spec.get("lanes"), "spec.lanes")
        if len(lanes) != len(LANES):
            raise ModelError(f"spec.lanes has {len(lanes)} entries, not {len(LANES)}")
        first, second = (
            LaneKeys.from_object_untrusted(lane, f"spec.lanes[{i}]") for i, lane in enumerate(lanes)
        )
        if first.public_key == second.public_key:
            raise ModelError("spec.lanes have one and the same key")
        endpoints = _list(spec.get("endpoints") or [], "spec.endpoints")
        if len(endpoints) > _MAX_ENDPOINTS:
            raise ModelError(f"spec.endpoints has more than {_MAX_ENDPOINTS} entries")
        return cls(
            name=_name(_mapping(node.get("metadata"), "metadata")),
            lanes=(first, second),
            active_lane=_number(spec.get("activeLane"), 0, 1, "spec.activeLane"),
            endpoints=tuple(_endpoint(address) for address in endpoints),
            backend=_text(spec.get("backend", ""), "spec.backend"),
            agent_version=_text(spec.get("agentVersion", ""), "spec.agentVersion"),
        )


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ModelError(f"{where} is missing or no object")
    return value


def _list(value: object, where: str = "list") -> list[Any]:
    if not isinstance(value, list):
        raise ModelError(f"{where} is missing or no list")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise ModelError(f"{where} is no text of at most {_MAX_TEXT} characters")
    return value


def _name(metadata: Mapping[str, Any]) -> str:
    name = metadata.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise ModelError("metadata.name is no name of a Node")
    return name


def _number(value: object, least: int, most: int, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ModelError(f"{where} is no number from {least} to {most}")
    return value


def _base64(value: object, where: str) -> bytes:
    try:
        return b64decode(value if isinstance(value, str) else "*", validate=True)
    except (Base64Error, ValueError):
        raise ModelError(f"{where} is no base64") from None


def _key(value: object, where: str) -> bytes:
    key = _base64(value, where)
    if len(key) != _KEY_BYTES or not any(key):
        raise ModelError(f"{where} is no key of {_KEY_BYTES} bytes")
    return key


def _network(value: object, where: str) -> Network:
    try:
        return ip_network(value if isinstance(value, str) else "")
    except ValueError:
        raise ModelError(f"{where} has an entry that is no prefix") from None


def _address(value: object, where: str) -> Address:
    try:
        return ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise ModelError(f"{where} has an entry that is no address") from None


def _endpoint(value: object) -> Address:
    address = _address(value, "spec.endpoints")
    scoped = isinstance(address, IPv6Address) and address.scope_id is not None
    if address.is_unspecified or address.is_multicast or scoped:
        raise ModelError("spec.endpoints has an entry that nobody can send to")
    return address
