"""The doctor's questions to the API server, and to the other nodes through the tunnel."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Protocol, TypeAlias

from agent.apierrors import ForbiddenError, KubeError, NotFoundError
from agent.apiserver import Json, Query
from agent.doctor import Finding, Host
from agent.events import NAMESPACE
from agent.kube import NODES, PUBLISHED
from agent.model import GROUP, PLURAL, ModelError, NodeFacts
from agent.options import Options
from agent.prefixes import node_address

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# Seconds. Tokens and certificates are judged by the clock.
_SKEW = 30.0
_SMALL = 64


class Api(Protocol):
    """What this needs of agent.apiserver.ApiServer."""

    async def get(self, path: str, query: Query = ()) -> Json: ...

    async def create(self, path: str, body: Json) -> Json: ...

    async def date(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class _Right:
    """What one may do. No namespace, no name: in all of them, whatever the name."""

    verb: str
    # With its subresource.
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        place = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{name}{place}"

    def attributes(self) -> Json:
        """As a SelfSubjectAccessReview asks for it."""
        resource, _, subresource = self.resource.partition("/")
        told = {
            "verb": self.verb,
            "group": self.group,
            "resource": resource,
            "subresource": subresource,
            "namespace": self.namespace,
            "name": self.name,
        }
        return {key: value for key, value in told.items() if value}


def _rights(verbs: str, resource: str, group: str = "", namespace: str = "") -> list[_Right]:
    return [_Right(verb, resource, group, namespace) for verb in verbs.split()]


# All that the manifests grant; a test holds the two together.
_NEEDED = (
    *_rights("get list watch", "nodes"),
    *_rights("get", "pods"),
    *_rights("get list watch create patch", PLURAL, GROUP),
    *_rights("patch", f"{PLURAL}/status", GROUP),
    *_rights("create patch", "events", namespace=NAMESPACE),
)
# Where it is asked for the pods' ranges.
_KUBEADM = _Right("get", "configmaps", namespace="kube-system", name="kubeadm-config")
# The last one makes tokens of any node: no admission policy would tell them from that node's own.
_FORBIDDEN = (
    *_rights("patch update delete", "nodes"),
    *_rights("patch update", "nodes/status"),
    *_rights("delete deletecollection", PLURAL, GROUP),
    *_rights("get list", "secrets"),
    *_rights("create", "serviceaccounts/token"),
)


_Check: TypeAlias = Callable[[Api, Options], Awaitable[list[Finding]]]


async def examine_cluster(api: Api, options: Options, now: Callable[[], float]) -> list[Finding]:
    """What the API server says of this node, and lets its agent do. `now` is the wall clock."""
    checks: tuple[_Check, ...] = (_node, partial(_clock, now), _definition, _permissions)
    found: list[Finding] = []
    for check in checks:
        try:
            found += await check(api, options)
        except ForbiddenError as error:
            found.append(failure(error))
        except KubeError as error:
            # The others would fail alike.
            return [*found, failure(error)]
    return found


def failure(error: KubeError) -> Finding:
    """What could not be asked."""
    return Finding("error", f"{error.where}: {error.what}", error.advice)


async def _node(api: Api, options: Options) -> list[Finding]:
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


async def _clock(now: Callable[[], float], api: Api, _: Options) -> list[Finding]:
    told = _seconds(await api.date())
    if told is None:
        return []
    skew = now() - told
    if abs(skew) > _SKEW:
        which = "ahead of" if skew > 0 else "behind"
        what = f"this node's clock is {abs(skew):.0f} s {which} the API server's"
        return [Finding("error", what, "set it by NTP: tokens and certificates are judged by it")]
    return [Finding("ok", "this node's clock is that of the API server")]


def _seconds(date: str | None) -> float | None:
    """Since 1970, of what HTTP has for a date; None: it has none."""
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, OverflowError):
        return None


async def _definition(api: Api, _: Options) -> list[Finding]:
    try:
        await api.get(PUBLISHED, (("limit", "1"),))
    except NotFoundError:
        advice = "kubectl apply -k agent/manifests/crd"
        return [Finding("error", f"the API server does not know {PLURAL}", advice)]
    return [Finding("ok", f"the API server knows {PLURAL}")]


async def _permissions(api: Api, options: Options) -> list[Finding]:
    needed = [*_NEEDED, *([_KUBEADM] if options.overlay_from_kubeadm else [])]
    missing = await _answered(api, needed, allowed=False)
    harmful = await _answered(api, _FORBIDDEN, allowed=True)
    advice = "apply the manifests' RBAC again"
    found = [Finding("error", f"the agent may not {right}", advice) for right in missing]
    advice = "take it away: a stolen token could do harm with it"
    found += [Finding("warning", f"the agent may {right}", advice) for right in harmful]
    return found or [Finding("ok", "the agent may do what it must, and no more")]


async def _answered(api: Api, rights: Iterable[_Right], *, allowed: bool) -> list[_Right]:
    """Those of them that the agent has, or has not."""
    asked = list(rights)
    answers = await asyncio.gather(*(_may(api, right) for right in asked))
    return [right for right, may in zip(asked, answers, strict=True) if may == allowed]


async def _may(api: Api, right: _Right) -> bool:
    review: Json = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": right.attributes()},
    }
    answer = await api.create(_REVIEWS, review)
    return bool((answer.get("status") or {}).get("allowed"))


async def lane_addresses(api: Api, options: Options) -> dict[str, list[str]]:
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


def examine_paths(host: Host, addresses: dict[str, list[str]]) -> Iterator[Finding]:
    """Whether the largest packets come through the tunnel to each node. Blocking."""
    for name, inside in addresses.items():
        for address in inside:
            yield _examine_path(host, name, address)


def _examine_path(host: Host, name: str, address: str) -> Finding:
    size = host.path_mtu(address)
    if not size:
        return Finding("error", f"{name}: there is no route to {address}", "see status")
    if not host.comes_through(address, _SMALL):
        return Finding("error", f"{name}: nothing comes through to {address}", "see status")
    if not host.comes_through(address, size):
        what = f"{name}: packets of {_SMALL} bytes come through to {address}, of {size} do not"
        advice = "the network between the nodes loses large packets: lower its MTU on both nodes"
        return Finding("error", what, advice)
    return Finding("ok", f"{name}: packets of {size} bytes come through to {address}")
