"""The doctor's questions to the API server, and to the other nodes through the tunnel."""

import asyncio
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from agent.apierrors import KubeError, NotFoundError
from agent.apiserver import ApiServer, Json
from agent.doctor import Finding
from agent.kube import NODES, PUBLISHED
from agent.model import GROUP, PLURAL, ModelError, NodeFacts
from agent.options import Options
from agent.paths import comes_through, path_mtu
from agent.prefixes import node_address

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# Group, resource, verbs.
_NEEDED = (
    ("", "nodes", ("list", "watch")),
    (GROUP, PLURAL, ("list", "watch", "create", "patch")),
)
_FORBIDDEN = (
    ("", "nodes", ("patch", "update", "delete")),
    (GROUP, PLURAL, ("delete",)),
    ("", "secrets", ("get", "list")),
)
# Seconds. Tokens and certificates are judged by the clock.
_SKEW = 30.0
_SMALL = 64


async def examine_cluster(api: ApiServer, options: Options) -> list[Finding]:
    """What the API server says of this node, and lets its agent do."""
    try:
        return [
            *await _node(api, options),
            *await _clock(api),
            *await _definition(api),
            *await _permissions(api),
        ]
    except KubeError as error:
        return [Finding("error", str(error), error.advice)]


async def _node(api: ApiServer, options: Options) -> list[Finding]:
    try:
        facts = NodeFacts.from_object_untrusted(await api.get(f"{NODES}/{options.node}"))
    except NotFoundError:
        advice = "give --node the name that `kubectl get nodes` has"
        return [Finding("error", f"there is no Node {options.node}", advice)]
    except ModelError as error:
        return [Finding("error", f"Node {options.node}: {error}")]
    found = []
    for what, values, advice in (
        ("pod CIDR", facts.pod_cidrs, "start the controller manager with --allocate-node-cidrs"),
        ("InternalIP", facts.internal_ips, "see the kubelet's --node-ip"),
    ):
        if values:
            found.append(Finding("ok", f"{what}: {', '.join(map(str, values))}"))
        else:
            found.append(Finding("error", f"Node {options.node} has no {what}", advice))
    return found


async def _clock(api: ApiServer) -> list[Finding]:
    date = await api.date()
    if date is None:
        return []
    skew = time.time() - parsedate_to_datetime(date).timestamp()
    if abs(skew) > _SKEW:
        which = "ahead of" if skew > 0 else "behind"
        what = f"this node's clock is {abs(skew):.0f} s {which} the API server's"
        return [Finding("error", what, "set it by NTP: tokens and certificates are judged by it")]
    return [Finding("ok", "this node's clock is that of the API server")]


async def _definition(api: ApiServer) -> list[Finding]:
    try:
        await api.get(PUBLISHED, (("limit", "1"),))
    except NotFoundError:
        advice = "kubectl apply -k agent/manifests/crd"
        return [Finding("error", f"the API server does not know {PLURAL}", advice)]
    return [Finding("ok", f"the API server knows {PLURAL}")]


async def _permissions(api: ApiServer) -> list[Finding]:
    asked = [
        (group, resource, verb, wanted)
        for rules, wanted in ((_NEEDED, True), (_FORBIDDEN, False))
        for group, resource, verbs in rules
        for verb in verbs
    ]
    answers = await asyncio.gather(*(_may(api, *what[:3]) for what in asked))
    found = []
    for (_, resource, verb, wanted), may in zip(asked, answers, strict=True):
        if may == wanted:
            continue
        if wanted:
            advice = "apply the manifests' RBAC again"
            found.append(Finding("error", f"the agent may not {verb} {resource}", advice))
        else:
            advice = "take it away: a stolen token could do harm with it"
            found.append(Finding("warning", f"the agent may {verb} {resource}", advice))
    return found or [Finding("ok", "the agent may do what it must, and no more")]


async def _may(api: ApiServer, group: str, resource: str, verb: str) -> bool:
    attributes = {"group": group, "resource": resource, "verb": verb}
    review: Json = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await api.create(_REVIEWS, review)
    return bool((answer.get("status") or {}).get("allowed"))


async def lane_addresses(api: ApiServer, options: Options) -> dict[str, list[str]]:
    """By name, addresses that each other node has inside of the tunnel. KubeError."""
    found: dict[str, list[str]] = {}
    for item in (await api.get(NODES)).get("items") or []:
        try:
            facts = NodeFacts.from_object_untrusted(item)
        except ModelError:
            continue
        if facts.name != options.node:
            found[facts.name] = [str(node_address(cidr)) for cidr in facts.pod_cidrs]
    return found


def examine_paths(addresses: dict[str, list[str]]) -> Iterator[Finding]:
    """Whether the largest packets come through the tunnel to each node. Blocking."""
    for name, inside in addresses.items():
        for address in inside:
            yield _examine_path(name, address)


def _examine_path(name: str, address: str) -> Finding:
    size = path_mtu(address)
    if not size:
        return Finding("error", f"{name}: there is no route to {address}", "see status")
    if not comes_through(address, _SMALL):
        return Finding("error", f"{name}: nothing comes through to {address}", "see status")
    if not comes_through(address, size):
        what = f"{name}: packets of {_SMALL} bytes come through to {address}, of {size} do not"
        advice = "the network between the nodes loses large packets: lower its MTU on both nodes"
        return Finding("error", what, advice)
    return Finding("ok", f"{name}: packets of {size} bytes come through to {address}")
