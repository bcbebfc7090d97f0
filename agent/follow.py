"""`wgpy-agent trace POD-A POD-B`: who and where they are, and the way as text."""

import argparse
import asyncio
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address

from agent import options as agent_options
from agent.apierrors import ForbiddenError, KubeError, NotFoundError
from agent.apiserver import ApiServer, Json
from agent.kube import NODES, PUBLISHED
from agent.machine import LANE_NAMES
from agent.model import Address, ModelError, NodeFacts, WireGuardNode
from agent.network.base import NetworkError
from agent.options import Options
from agent.run import configuration
from agent.topology import shares, survey
from agent.trace import Hop, Known, trace
from agent.tracehost import TraceHost

_MARKS = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}
_DESCRIPTION = """Follow a packet from a pod of this node to another pod, hop by hop, up to where it
stops. Sends a few small packets, and for a moment counts them in a table of its own. A pod is
NAMESPACE/NAME or an address; options of `run` may follow."""


class TraceError(Exception):
    """It cannot be begun; the text says why and what to do."""


def run(argv: list[str], environ: Mapping[str, str]) -> int:
    """Print the hops as they are found; 1 if the way ends early, 2 if it cannot be followed."""
    parser = argparse.ArgumentParser(
        prog="wgpy-agent trace", description=_DESCRIPTION, allow_abbrev=False
    )
    parser.add_argument("source", metavar="POD-A", help="of this node")
    parser.add_argument("target", metavar="POD-B", help="of any node")
    told, rest = parser.parse_known_args(argv)
    options = agent_options.parse(rest, environ)
    try:
        known, ways = asyncio.run(_ask(options, told.source, told.target))
    except TraceError as error:
        print(f"wgpy-agent: {error}", file=sys.stderr)
        return 2
    host = TraceHost(options.node, options.listen[1], options.proc_sys)
    stopped = False
    for source, target in ways:
        print(f"from {source} to {target}:")
        stopped |= _tell(trace(host, known, source, target))
    return int(stopped)


def _tell(hops: Iterable[Hop]) -> bool:
    """Whether the way ended early."""
    name = "host"
    try:
        for hop in hops:
            name = hop.name
            print(f"  {_MARKS[hop.verdict]} {name:<12} {hop.what}")
            if hop.advice:
                print(f"          -> {hop.advice}")
            sys.stdout.flush()
            if hop.verdict == "error":
                print(f"it stops at: {name}")
                return True
    except (NetworkError, OSError) as error:
        print(f"  ERROR   after {name}: {error}")
        return True
    print("it arrives, and the answer comes back")
    return False


async def _ask(
    options: Options, source: str, target: str
) -> tuple[Known, list[tuple[Address, Address]]]:
    """What the API server says. Addresses can be followed without it."""
    try:
        api = ApiServer(await configuration(options))
    except KubeError as error:
        return Known(options.node, LANE_NAMES), _ways(
            _only_address(source, error), _only_address(target, error)
        )
    try:
        first, second = await _addresses(api, source), await _addresses(api, target)
        return await _known(api, options), _ways(first, second)
    finally:
        await api.close()


def _only_address(text: str, error: KubeError) -> list[Address]:
    if (address := _address(text)) is None:
        raise TraceError(f"{text} is no address, and names cannot be looked up: {error}")
    return [address]


async def _addresses(api: ApiServer, text: str) -> list[Address]:
    if (address := _address(text)) is not None:
        return [address]
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise TraceError(f"{text!r} is neither NAMESPACE/NAME nor an address")
    try:
        pod = await api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
    except NotFoundError:
        raise TraceError(f"there is no pod {text}; see `kubectl get pods -A`") from None
    except ForbiddenError:
        ask = f"kubectl get pod -n {namespace} {name} -o wide"
        raise TraceError(f"pods cannot be looked up: give the address that `{ask}` has") from None
    except KubeError as error:
        raise TraceError(f"pod {text}: {error}; give its address") from None
    status: Json = pod.get("status") or {}
    if (pod.get("spec") or {}).get("hostNetwork"):
        raise TraceError(f"pod {text} is on its host's network: nothing of it is in a tunnel")
    found = [_address(one.get("ip", "")) for one in status.get("podIPs") or []]
    if not (addresses := [one for one in found if one is not None]):
        raise TraceError(f"pod {text} has no address yet: {status.get('phase', 'no status')}")
    return addresses


def _address(text: str) -> Address | None:
    with suppress(ValueError):
        return ip_address(text)
    return None


def _ways(sources: list[Address], targets: list[Address]) -> list[tuple[Address, Address]]:
    """One for each version of IP that both have."""
    by_version = {address.version: address for address in targets}
    ways = [(one, by_version[one.version]) for one in sources if one.version in by_version]
    if not ways:
        raise TraceError("the two have no version of IP in common")
    return ways


async def _known(api: ApiServer, options: Options) -> Known:
    try:
        items = (await api.get(NODES)).get("items") or []
        objects = (await api.get(PUBLISHED)).get("items") or []
    except KubeError as error:
        print(f"  WARNING the API server does not answer: {error}")
        return Known(options.node, LANE_NAMES)
    nodes: dict[str, NodeFacts] = {}
    published: dict[str, WireGuardNode] = {}
    for item in items:
        with suppress(ModelError):
            facts = NodeFacts.from_object_untrusted(item)
            nodes[facts.name] = facts
    complaints: dict[str, str] = {}
    for item in objects:
        with suppress(ModelError):
            node = WireGuardNode.from_object_untrusted(item)
            published[node.name] = node
            if complaint := _complaint(item):
                complaints[node.name] = complaint
    cluster = survey(options.node, shares(nodes, options.overlay), published)
    return Known(options.node, LANE_NAMES, cluster, complaints)


def _complaint(item: Json) -> str:
    """Of others' hands: anything may be there."""
    try:
        conditions = item["status"]["conditions"]
        return next(str(c["message"]) for c in conditions if c["status"] != "True")
    except (KeyError, TypeError, StopIteration):
        return ""
