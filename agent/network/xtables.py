"""The same rules as agent.network.ruleset, for iptables-restore and from iptables-save. Pure.

One chain of ours for each hook, to which the hook's own chain jumps first of all.
"""

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from agent.network.base import POD_BRIDGE
from agent.network.nft import Count
from agent.network.ruleset import FirewallDesired
from wgpy.protocol.config import Network

# Table, the kernel's chain, ours. nat has no drops and mangle comes before it on the way out, so
# what leaves is judged by the interface it leaves by, which nat does not change.
_JUMPS = (
    ("raw", "PREROUTING", "WGPY-PREROUTING"),
    ("mangle", "FORWARD", "WGPY-FORWARD"),
    ("mangle", "POSTROUTING", "WGPY-POSTROUTING"),
    ("nat", "POSTROUTING", "WGPY-NAT"),
)
_FROM_PODS, _FROM_LANES = "WGPY-FROM-PODS", "WGPY-FROM-LANES"
# All chains of each table, also those that stay empty.
_CHAINS = {
    "raw": ("WGPY-PREROUTING", _FROM_PODS, _FROM_LANES),
    "mangle": ("WGPY-FORWARD", "WGPY-POSTROUTING"),
    "nat": ("WGPY-NAT",),
}
_COUNTED = re.compile(r'^\[(\d+):(\d+)\] .*--comment "?wgpy:(\w+)"? ')


def restore_text(desired: FirewallDesired, version: int, saved: str) -> str:
    """What iptables-restore --noflush makes of the tables in `saved`: our chains, each as desired.

    Every table is one transaction.
    """
    rules = list(_rules(desired, version))
    lines: list[str] = []
    for table, chains in _CHAINS.items():
        own = [rule for where, rule in rules if where == table]
        jumps = [(hook, chain) for where, hook, chain in _JUMPS if where == table]
        lines += [f"*{table}", *(f":{chain} - [0:0]" for chain in chains), *own]
        for hook, chain in jumps:
            jump = f"-A {hook} -j {chain}"
            present = [line for line in table_lines(saved, table) if line.startswith(f"-A {hook} ")]
            if present[:1] != [jump] or present.count(jump) > 1:
                lines += [f"-D {hook} -j {chain}"] * present.count(jump)
                lines.append(f"-I {hook} 1 -j {chain}")
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


def removal_text(saved: str) -> str:
    """What takes everything of ours out of the tables in `saved`; empty when there is nothing."""
    lines: list[str] = []
    for table in _CHAINS:
        present = table_lines(saved, table)
        chains = [line[1:].split()[0] for line in present if line.startswith(":WGPY-")]
        rules = [line[3:] for line in present if line.startswith("-A ")]
        jumps = [rule for rule in rules if "-j WGPY-" in rule and not rule.startswith("WGPY-")]
        if chains:
            lines += [f"*{table}", *(f"-D {jump}" for jump in jumps)]
            lines += [f"{verb} {chain}" for verb in ("-F", "-X") for chain in chains]
            lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def own_rules(saved: str) -> list[str]:
    """What is ours in `saved`, and whether our jumps come first; to be compared."""
    found = []
    for table in _CHAINS:
        begun: set[str] = set()
        for line in table_lines(saved, table):
            if line.startswith((":WGPY-", "-A WGPY-")):
                found.append(line)
            elif line.startswith("-A "):
                hook = line.split()[1]
                if "-j WGPY-" in line:
                    found.append(f"{table} {line} {'late' if hook in begun else 'first'}")
                begun.add(hook)
    return found


def counts(saved: str) -> dict[str, Count]:
    """What was dropped, by reason, from `iptables-save -c`."""
    found: dict[str, Count] = {}
    for line in saved.splitlines():
        if match := _COUNTED.match(line):
            packets, size, name = int(match[1]), int(match[2]), match[3]
            before = found.get(name, Count())
            found[name] = Count(before.packets + packets, before.bytes + size)
    return found


def table_lines(saved: str, table: str) -> list[str]:
    """What iptables-save has of one table."""
    _, _, rest = saved.partition(f"*{table}\n")
    return rest.partition("COMMIT")[0].splitlines()


def _rules(desired: FirewallDesired, version: int) -> Iterator[tuple[str, str]]:
    lanes = sorted(set(desired.lanes))
    overlay, local = _of(desired.overlay, version), _of(desired.local, version)
    pre, forward, post, nat = (chain for _, _, chain in _JUMPS)
    # Goto: what returns there goes on after our chain.
    yield "raw", f"-A {pre} -i {POD_BRIDGE} -g {_FROM_PODS}"
    yield from (("raw", f"-A {pre} -i {lane} -g {_FROM_LANES}") for lane in lanes)
    yield "raw", f"-A {pre} -i lo -j RETURN"
    yield from (("raw", _drop(pre, f"-s {n}", "underlay_spoof")) for n in overlay)
    yield from (("raw", f"-A {_FROM_PODS} -s {n} -j RETURN") for n in local)
    if version == 6:
        for link in ("::/128", "fe80::/10"):
            yield "raw", f"-A {_FROM_PODS} -s {link} -p ipv6-icmp -j RETURN"
    yield "raw", _drop(_FROM_PODS, "", "pod_spoof")
    yield from (("raw", _drop(_FROM_LANES, f"-s {n}", "lane_spoof")) for n in local)
    for way in ("-i", "-o"):
        for lane in lanes:
            syn = "-p tcp -m tcp --tcp-flags SYN,RST SYN"
            yield "mangle", f"-A {forward} {way} {lane} {syn} -j TCPMSS --clamp-mss-to-pmtu"
    yield from (("mangle", f"-A {post} -o {name} -j RETURN") for name in ("lo", POD_BRIDGE, *lanes))
    yield from (("mangle", _drop(post, f"-d {n}", "leak")) for n in overlay)
    yield from (("nat", f"-A {nat} -o {lane} -j RETURN") for lane in lanes)
    for network in (*overlay, *_of(desired.nodes, version)):
        yield "nat", f"-A {nat} -d {network} -j RETURN"
    for network in local:
        outside = f"-s {network} -m addrtype ! --dst-type LOCAL"
        yield "nat", f"-A {nat} {outside} -j MASQUERADE --random-fully"


def _drop(chain: str, match: str, reason: str) -> str:
    return " ".join(f"-A {chain} {match} -m comment --comment wgpy:{reason} -j DROP".split())


def _of(networks: Iterable[Network], version: int) -> list[Network]:
    if version == 4:
        return list(collapse_addresses(n for n in networks if isinstance(n, IPv4Network)))
    return list(collapse_addresses(n for n in networks if isinstance(n, IPv6Network)))
