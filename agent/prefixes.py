"""Which prefix belongs to which node: each to one, however they overlap. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from agent.model import Address, NodeFacts, Problem
from wgpy.protocol.config import AllowedIPChange, Network


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What belongs to a node, after disputes."""

    pods: tuple[Network, ...] = ()
    # Its own addresses, /32 and /128.
    nodes: tuple[Network, ...] = ()
    # All of them, as a lane is told in each pass.
    allowed: tuple[AllowedIPChange, ...] = field(init=False)

    def __post_init__(self) -> None:
        allowed = tuple(map(AllowedIPChange, (*self.pods, *self.nodes)))
        object.__setattr__(self, "allowed", allowed)


def node_address(pods: Network) -> Address:
    """Where the node itself is among its pods: the address that CNI gives to their gateway.

    Not the first of all: in IPv6 that is every router's (RFC 4291, 2.6.1), and Linux sends no
    ICMP errors to it.
    """
    return pods[min(1, pods.num_addresses - 1)]


def share_out(nodes: list[NodeFacts], problems: list[Problem]) -> dict[str, Prefixes]:
    """Each prefix to the first who claims any part of it, in the order of `nodes`."""
    claims = _Claims()
    shared = {}
    for node in nodes:
        addresses = tuple(ip_network(address) for address in node.internal_ips)
        granted: dict[Network, None] = {}
        for prefix in (*node.pod_cidrs, *addresses):
            owner = claims.owner(prefix)
            if owner is None:
                claims.grant(prefix, node.name)
                granted[prefix] = None
            elif owner != node.name:
                what = f"node {node.name} does not get {prefix}: it overlaps with node {owner}'s"
                problems.append(Problem("error", what, "give each node prefixes of its own"))
        pods = tuple(prefix for prefix in node.pod_cidrs if prefix in granted)
        shared[node.name] = Prefixes(pods, tuple(a for a in addresses if a in granted))
    return shared


class _Claims:
    """Disjoint prefixes and who has them, by where they begin."""

    def __init__(self) -> None:
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._granted: dict[tuple[int, int], tuple[Network, str]] = {}

    def owner(self, prefix: Network) -> str | None:
        """Who has any part of it."""
        starts = self._starts[prefix.version]
        at = bisect_right(starts, int(prefix.network_address))
        # The last one that begins before its end, or the first after its beginning.
        for start in starts[max(0, at - 1) : at + 1]:
            other, owner = self._granted[prefix.version, start]
            if other.version == prefix.version and _overlap(other, prefix):
                return owner
        return None

    def grant(self, prefix: Network, name: str) -> None:
        start = int(prefix.network_address)
        starts = self._starts[prefix.version]
        starts.insert(bisect_right(starts, start), start)
        self._granted[prefix.version, start] = prefix, name


def _overlap(one: Network, other: Network) -> bool:
    first, second = int(one.network_address), int(other.network_address)
    return first < second + other.num_addresses and second < first + one.num_addresses


class Ranges:
    """Addresses by prefixes, however many: what they have in common is joined."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self.networks = tuple(_collapsed(networks))
        self._by_version: dict[int, tuple[list[int], list[int]]] = {4: ([], []), 6: ([], [])}
        for network in self.networks:
            starts, ends = self._by_version[network.version]
            starts.append(int(network.network_address))
            ends.append(starts[-1] + network.num_addresses)

    def __contains__(self, address: Address) -> bool:
        starts, ends = self._by_version[address.version]
        at = bisect_right(starts, int(address)) - 1
        return at >= 0 and int(address) < ends[at]


def _collapsed(networks: Iterable[Network]) -> Iterator[Network]:
    """In the order of their addresses."""
    known = list(networks)
    yield from collapse_addresses(n for n in known if isinstance(n, IPv4Network))
    yield from collapse_addresses(n for n in known if isinstance(n, IPv6Network))
