"""What is so of every node when nothing moves, whatever has happened before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from agent.network.attachments import RESULTS, read_attachments
from agent.network.neighbours import COUNTER, NeighboursDesired, neighbours_ruleset
from agent.network.ruleset import COUNTERS, FirewallDesired, ruleset
from interop.shell import run
from tests.cluster.agents import Agents
from tests.cluster.api import Json

_LANES = ("wgpy0", "wgpy1")
_SESSION = 180


@dataclass
class _Peer:
    psk: str
    handshake_at: int
    allowed_ips: set[str]


def broken_invariants(agents: Agents, pod_cidrs: dict[int, list[str]]) -> list[str]:
    """A sentence for each that does not hold; `pod_cidrs` are the Nodes' own, by number."""
    devices = {number: _devices(agents, number) for number in agents.numbers}
    return [
        f"{agents.cluster.nodes[number - 1].name}: {what}"
        for number in agents.numbers
        for what in (
            *_of_objects(agents, number),
            *_of_lanes(agents, number, devices, pod_cidrs),
            *_of_routes(agents, number, pod_cidrs),
            *_of_filter(agents, number, pod_cidrs),
        )
    ]


def _devices(agents: Agents, number: int) -> dict[str, dict[str, _Peer]]:
    """By lane and public key, as `wg` tells it."""
    found: dict[str, dict[str, _Peer]] = {lane: {} for lane in _LANES}
    dump = agents.cluster.nodes[number - 1].run("wg", "show", "all", "dump")
    for words in (line.split("\t") for line in dump.splitlines()):
        if len(words) == 9 and words[0] in found:
            lane, key, psk, _, allowed, handshake = words[:6]
            found[lane][key] = _Peer(psk, int(handshake), set(allowed.split(",")))
    return found


def _published(agents: Agents, number: int) -> list[str]:
    told = agents.object(number)
    assert told is not None
    return [lane["publicKey"] for lane in told["spec"]["lanes"]]


def _of_objects(agents: Agents, number: int) -> Iterator[str]:
    spec = (agents.object(number) or {})["spec"]
    if spec["activeLane"] != 0:
        yield "it is not at home"
    if len({lane["epoch"] for lane in spec["lanes"]}) != 1:
        yield "its lanes are of different epochs"
    told = agents.status(number)
    assert told is not None
    for problem in told["problems"]:
        # The API server of these tests is too old for it.
        if "write isolation" not in problem["what"]:
            yield f"it has a problem: {problem['what']}"


def _of_lanes(
    agents: Agents,
    number: int,
    devices: dict[int, dict[str, dict[str, _Peer]]],
    pod_cidrs: dict[int, list[str]],
) -> Iterator[str]:
    """Exactly the others, each with its own prefixes and one key that both ends have."""
    now = int(agents.cluster.nodes[0].run("date", "+%s"))
    own = _published(agents, number)
    others = {other: _published(agents, other) for other in agents.numbers if other != number}
    for position, lane in enumerate(_LANES):
        peers = devices[number][lane]
        if set(peers) != {keys[position] for keys in others.values()}:
            yield f"{lane} has other peers than there are"
        for other, keys in others.items():
            peer = peers.get(keys[position])
            back = devices[other][lane].get(own[position])
            if peer is None or back is None:
                continue
            if peer.psk == "(none)" or peer.psk != back.psk:
                yield f"{lane}: no common preshared key with node {other}"
            if not set(pod_cidrs[other]) <= peer.allowed_ips:
                yield f"{lane}: node {other} has {sorted(peer.allowed_ips)}"
            if position == 0 and now - peer.handshake_at > _SESSION:
                yield f"{lane}: no session with node {other}"


def _of_routes(agents: Agents, number: int, pod_cidrs: dict[int, list[str]]) -> Iterator[str]:
    """To each node by its home lane, and what is left without it is unreachable."""
    node = agents.cluster.nodes[number - 1]
    wanted = {cidr for other, cidrs in pod_cidrs.items() if other != number for cidr in cidrs}
    for family in ("-4", "-6"):
        told = node.run("ip", family, "route", "show", "proto", "157")
        there = {words[0]: words for line in told.splitlines() if (words := line.split())}
        for cidr in (one for one in wanted if (":" in one) == (family == "-6")):
            if "wgpy0" not in there.get(cidr, ()):
                yield f"{cidr} is not led into wgpy0"
            guards = f"ip {family} route show match {cidr} type unreachable".split()
            if not node.run(*guards).strip():
                yield f"{cidr} has no guard"
        for prefix, words in there.items():
            if set(_LANES) & set(words) and prefix not in wanted:
                yield f"{prefix} is led into a lane and is nobody's"


def _of_filter(agents: Agents, number: int, pod_cidrs: dict[int, list[str]]) -> Iterator[str]:
    """The tables are those that an agent makes which has never been there before."""
    node = agents.cluster.nodes[number - 1]
    links = {link["ifname"] for link in json.loads(node.run("ip", "-j", "link"))}
    addresses = [a for other in agents.numbers for a in agents.cluster.internal_ips(other)]
    own = FirewallDesired(
        _LANES,
        tuple(ip_network(cidr) for cidrs in pod_cidrs.values() for cidr in cidrs),
        tuple(map(ip_network, pod_cidrs[number])),
        tuple(map(ip_network, addresses)),
    )
    pods = NeighboursDesired(read_attachments(node.path(str(RESULTS)), links))
    text = _table("inet wgpy", ruleset(own), *COUNTERS)
    text += _table("bridge wgpy", neighbours_ruleset(pods), COUNTER)
    wanted = _listed(run("unshare", "--net", "sh", "-c", _LIST_ANEW, stdin=text))
    there = _listed(node.run("nft", "-j", "list", "ruleset"))
    for family in ("inet", "bridge"):
        if there[family] != wanted[family]:
            odd = sorted({*there[family]} ^ {*wanted[family]}) or "rules in another order"
            yield f"table {family} wgpy is not as it should be: {odd}"


_LIST_ANEW = "nft -f - && nft -j list ruleset"


def _table(name: str, rules: str, *counters: str) -> str:
    declared = "\n".join(f"counter {counter} {{ }}" for counter in counters)
    return f"table {name} {{\n{declared}\n{rules}\n}}\n"


def _listed(text: str) -> dict[str, list[str]]:
    """By family, what our tables have: sets, chains, and the rules of each chain in their order."""
    found: dict[str, list[tuple[str, str]]] = {"inet": [], "bridge": []}
    for entry in json.loads(text)["nftables"]:
        ((kind, value),) = entry.items()
        if value.get("table", value.get("name")) != "wgpy" or value["family"] not in found:
            continue
        # Of the kernel's own making.
        kept: Json = {k: v for k, v in value.items() if k not in ("handle", "packets", "bytes")}
        if "elem" in kept:
            kept["elem"] = sorted(kept["elem"], key=json.dumps)
        line = f"{kind} {json.dumps(kept)}"
        found[value["family"]].append((kept.get("chain", line), line))
    # Only among the rules of a chain the order says something.
    return {
        family: [line for _, line in sorted(lines, key=lambda line: line[0])]
        for family, lines in found.items()
    }
