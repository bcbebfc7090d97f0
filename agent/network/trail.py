"""Follows packets of one kind through this host's packet filter: a table that only counts.

It counts before all others and after all others of each hook, so what stays away between two of
its counters was dropped between them, by whomever.
"""

from dataclasses import dataclass

from agent.network.base import Address
from agent.network.nft import Table

TABLE_NAME = "inet wgpy_trace"
# In the order in which a packet that is forwarded meets them.
STAGES = ("entered", "routed", "passed", "left")
_HOOKS = {
    "entered": ("prerouting", -450),
    "routed": ("forward", -450),
    "passed": ("forward", 2147483647),
    "left": ("postrouting", 2147483647),
}
_MATCH = {
    4: "ip saddr {} ip daddr {} icmp type destination-unreachable",
    6: "ip6 saddr {} ip6 daddr {} icmpv6 type destination-unreachable",
}


@dataclass(frozen=True, slots=True)
class TrailDesired:
    """Whose ICMP errors are counted: those of `source` for `target`."""

    source: Address
    target: Address


class Trail(Table[TrailDesired]):
    """Table `inet wgpy_trace`, with a counter for each of STAGES."""

    name = "trail"

    def __init__(self) -> None:
        super().__init__(TABLE_NAME, STAGES, trail_ruleset)


def trail_ruleset(desired: TrailDesired) -> str:
    """What is in the table."""
    match = _MATCH[desired.source.version].format(desired.source, desired.target)
    lines = []
    for stage, (hook, priority) in _HOOKS.items():
        lines.append(f"chain {stage} {{ type filter hook {hook} priority {priority};")
        lines.append(f"{match} counter name {stage}; }}")
    return "\n".join(lines)
