"""Pods of one node cannot pose as each other: a pod's veth, its MAC and its addresses go together.

A bridge carries frames between pods past all that looks at packets (unless br_netfilter is there),
so this is a table of the bridge's own. A veth that is not known yet is let through, with any
address that is not another pod's: a pod that starts while the agent does not run has its network.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.network.attachments import Attachment
from agent.network.base import Address
from agent.network.nft import Table
from agent.network.ruleset import nft_set

TABLE_NAME = "bridge wgpy"
COUNTER = "neighbour_spoof"
_FIRST = -310


@dataclass(frozen=True, slots=True)
class NeighboursDesired:
    """All pods that are attached."""

    attachments: tuple[Attachment, ...] = ()


class Neighbours(Table[NeighboursDesired]):
    """Table `bridge wgpy`, with one counter."""

    name = "neighbours"

    def __init__(self) -> None:
        super().__init__(TABLE_NAME, (COUNTER,), neighbours_ruleset)


def neighbours_ruleset(desired: NeighboursDesired) -> str:
    """What is in the table: a chain for each pod, and one for those that are not known."""
    pods = desired.attachments
    taken = {address for pod in pods for address in pod.addresses}
    goto = [f'"{pod.veth}" : goto {_chain(pod)}' for pod in pods]
    lines = [
        nft_set("taken4", "ipv4_addr", _of(taken, 4)),
        nft_set("taken6", "ipv6_addr", _of(taken, 6)),
        f"chain spoofed {{ counter name {COUNTER} drop; }}",
        *(line for pod in pods for line in _pod_chain(pod)),
        nft_set("known", "ifname : verdict", goto, kind="map"),
        "chain prerouting {",
        f"type filter hook prerouting priority {_FIRST}; policy accept;",
        "iifname vmap @known",
        "ip saddr @taken4 goto spoofed",
        "arp saddr ip @taken4 goto spoofed",
        "ip6 saddr @taken6 goto spoofed",
        "}",
    ]
    return "\n".join(lines)


def _pod_chain(pod: Attachment) -> Iterator[str]:
    yield f"chain {_chain(pod)} {{"
    yield f"ether saddr != {pod.mac} goto spoofed"
    yield from (f"ip saddr {address} accept" for address in _of(pod.addresses, 4))
    # 0.0.0.0 asks whether an address is free.
    yield from (f"arp saddr ip {own} accept" for own in ("0.0.0.0", *_of(pod.addresses, 4)))
    # Whoever says where an address is says it of its own, or of one of the link (fe80::/10).
    own = "".join(f" @th,64,128 != {int(a):#034x}" for a in pod.addresses if a.version == 6)
    yield f"icmpv6 type nd-neighbor-advert @th,64,10 != 0x3fa{own} goto spoofed"
    yield from (f"ip6 saddr {address} accept" for address in _of(pod.addresses, 6))
    yield from (f"ip6 saddr {link} meta l4proto ipv6-icmp accept" for link in ("::", "fe80::/10"))
    yield "goto spoofed"
    yield "}"


def _chain(pod: Attachment) -> str:
    # Names of interfaces have characters that names of chains have not, and may start with digits.
    return "pod_" + "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in pod.veth)


def _of(addresses: Iterable[Address], version: int) -> list[str]:
    return sorted(str(address) for address in addresses if address.version == version)
