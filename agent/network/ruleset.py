"""The text of our nftables table. Pure.

- prerouting, before connection tracking: who may say that it is in the overlay
- forward: TCP segments as large as the route takes
- nat: pods' packets to the world get the node's address
- postrouting, last: what is for the overlay leaves by a lane
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from agent.network.base import POD_BRIDGE
from wgpy.protocol.config import Network

TABLE_NAME = "inet wgpy"
COUNTERS = {
    "pod_spoof": "from the pod bridge with another source than this node's pods",
    "lane_spoof": "from a lane with this node's own pods as source",
    "underlay_spoof": "from elsewhere with a source in the overlay",
    "leak": "to the overlay by another way than a lane",
}
# Before raw (-300), so before all that tracks connections; and after everybody.
_FIRST = -310
_LAST = 2147483647
# Just before kube-proxy's and the port mapper's source NAT at 100.
_NAT = 99
_MANGLE = -150


@dataclass(frozen=True, slots=True)
class FirewallDesired:
    """Which prefixes are whose."""

    # Interfaces that lead into the tunnel.
    lanes: tuple[str, ...] = ()
    # All pods of the cluster.
    overlay: tuple[Network, ...] = ()
    # This node's pods.
    local: tuple[Network, ...] = ()
    # Addresses of all nodes: pods talk to them under their own addresses.
    nodes: tuple[Network, ...] = ()


def ruleset(desired: FirewallDesired) -> str:
    """What is in the table."""
    return "\n".join([*_sets(desired), _CHAINS])


def _sets(desired: FirewallDesired) -> Iterable[str]:
    yield nft_set("lanes", "ifname", [f'"{name}"' for name in sorted(set(desired.lanes))])
    for name in ("overlay", "local", "nodes"):
        networks: tuple[Network, ...] = getattr(desired, name)
        # The kernel's intervals must not overlap.
        v4 = collapse_addresses(n for n in networks if isinstance(n, IPv4Network))
        v6 = collapse_addresses(n for n in networks if isinstance(n, IPv6Network))
        yield nft_set(f"{name}4", "ipv4_addr", map(str, v4), "flags interval; ")
        yield nft_set(f"{name}6", "ipv6_addr", map(str, v6), "flags interval; ")


def nft_set(
    name: str, types: str, elements: Iterable[str], flags: str = "", kind: str = "set"
) -> str:
    """A set, or a map; an empty one must not say that it is.

    Rules with sets of their own, without name, are not for us: see Table._refill.
    """
    listed = ", ".join(elements)
    body = f"elements = {{ {listed} }}; " if listed else ""
    return f"{kind} {name} {{ type {types}; {flags}{body}}}"


_CHAINS = f"""
chain prerouting {{
    type filter hook prerouting priority {_FIRST}; policy accept;
    iifname "{POD_BRIDGE}" goto from_pods
    iifname @lanes goto from_lanes
    iifname "lo" accept
    ip saddr @overlay4 counter name underlay_spoof drop
    ip6 saddr @overlay6 counter name underlay_spoof drop
}}
chain from_pods {{
    ip saddr @local4 accept
    ip6 saddr @local6 accept
    # Neighbour discovery, which goes no further than the bridge.
    ip6 saddr :: meta l4proto ipv6-icmp accept
    ip6 saddr fe80::/10 meta l4proto ipv6-icmp accept
    counter name pod_spoof drop
}}
chain from_lanes {{
    ip saddr @local4 counter name lane_spoof drop
    ip6 saddr @local6 counter name lane_spoof drop
}}
chain forward {{
    type filter hook forward priority {_MANGLE}; policy accept;
    iifname @lanes tcp flags syn / syn,rst tcp option maxseg size set rt mtu
    oifname @lanes tcp flags syn / syn,rst tcp option maxseg size set rt mtu
}}
chain nat {{
    type nat hook postrouting priority {_NAT}; policy accept;
    oifname @lanes accept
    ip saddr @local4 ip daddr != @overlay4 ip daddr != @nodes4 \\
        fib daddr type != local masquerade fully-random
    ip6 saddr @local6 ip6 daddr != @overlay6 ip6 daddr != @nodes6 \\
        fib daddr type != local masquerade fully-random
}}
chain postrouting {{
    type filter hook postrouting priority {_LAST}; policy accept;
    oifname "lo" accept
    oifname "{POD_BRIDGE}" accept
    oifname @lanes accept
    ip daddr @overlay4 counter name leak drop
    ip6 daddr @overlay6 counter name leak drop
}}"""
