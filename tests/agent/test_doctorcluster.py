"""What the doctor hears from an API server of our making, and through a tunnel of our making."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import pytest

from agent.apierrors import ForbiddenError, KubeError, NotFoundError, UnreachableError
from agent.apiserver import Query
from agent.doctor import Finding
from agent.doctorcluster import examine_cluster, examine_paths, lane_addresses
from agent.kube import NODES, PUBLISHED
from agent.model import GROUP, PLURAL
from agent.options import Options, parse
from tests.agent.kustomize import BASES, MANIFESTS, build, find
from tests.agent.test_doctor import FakeHost

Json = dict[str, Any]
NOW = 1_800_000_000.0
NODE: Json = {
    "metadata": {"name": "me", "uid": "1"},
    "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:244:0:1::/64"]},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
}


class Grant(NamedTuple):
    """One verb that a rule of RBAC allows. No namespace, no name: in all, whatever the name."""

    verb: str
    group: str
    # With its subresource.
    resource: str
    namespace: str = ""
    name: str = ""

    def allows(self, asked: Json) -> bool:
        """As the API server judges a SelfSubjectAccessReview's resourceAttributes."""
        parts = [asked["resource"], asked.get("subresource")]
        return (
            (self.verb, self.group) == (asked["verb"], asked.get("group", ""))
            and self.resource == "/".join(part for part in parts if part)
            and self.namespace in ("", asked.get("namespace", ""))
            and self.name in ("", asked.get("name", ""))
        )


@cache
def granted(base: str) -> frozenset[Grant]:
    """All that the manifests of `base` let the agent do."""
    return frozenset(_grants(base))


def _grants(base: str) -> Iterator[Grant]:
    for role in (one for one in build(MANIFESTS / base) if one["kind"] in ("Role", "ClusterRole")):
        for rule in role["rules"]:
            for verb, group, resource, name in product(
                rule["verbs"],
                rule["apiGroups"],
                rule["resources"],
                rule.get("resourceNames", [""]),
            ):
                yield Grant(verb, group, resource, role["metadata"].get("namespace", ""), name)


@cache
def options(base: str) -> Options:
    """As the manifests of `base` start the agent."""
    daemons = find(build(MANIFESTS / base), "DaemonSet", "wgpy-agent")["spec"]["template"]["spec"]
    _, *words = daemons["containers"][0]["args"]
    return parse([word.replace("$(HOST_IP)", "192.0.2.1") for word in words], {"NODE_NAME": "me"})


@dataclass
class FakeServer:
    """An API server at which everything is well, but for what a test says."""

    grants: frozenset[Grant] = field(default_factory=lambda: granted("generic"))
    objects: dict[str, Json | KubeError] = field(default_factory=lambda: {NODES + "/me": NODE})
    # By how many seconds this node's clock is ahead of the server's; None: it tells no time.
    ahead: float | None = 0.0
    # Or what it says instead.
    told: str = ""

    async def get(self, path: str, query: Query = ()) -> Json:
        found = self.objects.get(path, {"items": []} if query else NotFoundError("404", path))
        if isinstance(found, KubeError):
            raise found
        return found

    async def create(self, path: str, body: Json) -> Json:
        assert path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        asked = body["spec"]["resourceAttributes"]
        allowed = any(grant.allows(asked) for grant in self.grants)
        # The API server leaves out what is false.
        return {**body, "status": {"allowed": True} if allowed else {"reason": ""}}

    async def date(self) -> str | None:
        if self.told:
            return self.told
        return None if self.ahead is None else formatdate(NOW - self.ahead, usegmt=True)


def findings(server: FakeServer, base: str = "generic") -> list[Finding]:
    return asyncio.run(examine_cluster(server, options(base), lambda: NOW))


def only(server: FakeServer, base: str = "generic") -> Finding:
    """The one thing that is not in order."""
    (finding,) = (found for found in findings(server, base) if found.verdict != "ok")
    return finding


def test_of_a_cluster_that_is_well_all_that_was_looked_at_is_told() -> None:
    assert findings(FakeServer()) == [
        Finding("ok", "pod CIDR: 10.244.1.0/24, fd00:244:0:1::/64"),
        Finding("ok", "InternalIP: 192.0.2.1"),
        Finding("ok", "this node's clock is that of the API server"),
        Finding("ok", "the API server knows wireguardnodes"),
        Finding("ok", "the agent may do what it must, and no more"),
    ]


def test_a_clock_that_is_ahead_or_behind_is_in_error() -> None:
    for skew, which in ((31.0, "31 s ahead of"), (-7200.0, "7200 s behind")):
        found = only(FakeServer(ahead=skew))
        assert found.verdict == "error"
        assert found.what == f"this node's clock is {which} the API server's"
        assert "NTP" in found.advice
    for skew in (29.0, -29.0):
        assert all(found.verdict == "ok" for found in findings(FakeServer(ahead=skew)))


def test_of_a_server_that_tells_no_time_nothing_is_said() -> None:
    for server in (FakeServer(ahead=None), FakeServer(told="yesterday")):
        assert not any("clock" in found.what for found in findings(server))
        assert len(findings(server)) == 4


@pytest.mark.parametrize("base", BASES)
def test_what_the_manifests_grant_is_all_that_the_agent_must_be_able_to_do(base: str) -> None:
    every = granted(base)
    assert every
    last = findings(FakeServer(every), base)[-1]
    assert last == Finding("ok", "the agent may do what it must, and no more")
    for grant in every:
        found = only(FakeServer(every - {grant}), base)
        assert found.verdict == "error"
        assert found.advice == "apply the manifests' RBAC again"
        words = ["the agent may not", grant.verb, grant.resource, grant.name]
        place = f"in namespace {grant.namespace}" if grant.namespace else ""
        assert found.what == " ".join(word for word in (*words, place) if word)


def test_what_is_granted_in_another_namespace_is_not_granted() -> None:
    every = granted("generic")
    moved = frozenset(g._replace(namespace="elsewhere") if g.namespace else g for g in every)
    found = [one.what for one in findings(FakeServer(moved)) if one.verdict == "error"]
    assert found == [
        f"the agent may not {verb} events in namespace default" for verb in ("create", "patch")
    ]


@pytest.mark.parametrize(
    "grant",
    [
        *(Grant(verb, "", "nodes") for verb in ("patch", "update", "delete")),
        *(Grant(verb, "", "nodes/status") for verb in ("patch", "update")),
        *(Grant(verb, GROUP, PLURAL) for verb in ("delete", "deletecollection")),
        *(Grant(verb, "", "secrets") for verb in ("get", "list")),
        Grant("create", "", "serviceaccounts/token"),
    ],
)
def test_what_would_make_a_stolen_token_harmful_is_warned_of(grant: Grant) -> None:
    found = only(FakeServer(granted("generic") | {grant}))
    assert found.verdict == "warning"
    assert found.what == f"the agent may {grant.verb} {grant.resource}"
    assert "stolen" in found.advice


def test_an_agent_that_may_do_nothing_is_told_all_that_it_lacks() -> None:
    """It may not even look at its Node; what is asked next may be answered."""
    refused = ForbiddenError("no", f"GET {NODES}/me", "apply it")
    found = findings(FakeServer(frozenset(), {f"{NODES}/me": refused, PUBLISHED: refused}))
    wrong = [one for one in found if one.verdict != "ok"]
    assert wrong[:2] == [Finding("error", f"GET {NODES}/me: no", "apply it")] * 2
    assert len(wrong) == 2 + len(granted("generic"))


def test_a_server_that_cannot_be_reached_is_told_once() -> None:
    gone = UnreachableError("no answer in time", "GET /api", "wait")
    server = FakeServer(objects={f"{NODES}/me": gone})
    assert findings(server) == [Finding("error", "GET /api: no answer in time", "wait")]


def test_a_cluster_that_does_not_know_this_node_or_our_objects_says_so() -> None:
    server = FakeServer(objects={PUBLISHED: NotFoundError("404", PUBLISHED)})
    wrong = [found for found in findings(server) if found.verdict != "ok"]
    assert [found.what for found in wrong] == [
        "there is no Node me",
        "the API server does not know wireguardnodes",
    ]
    assert "kubectl get nodes" in wrong[0].advice and "apply -k" in wrong[1].advice


@pytest.mark.parametrize(
    ("part", "what", "advice"),
    [
        ("spec", "Node me has no pod CIDR", "--allocate-node-cidrs"),
        ("status", "Node me has no InternalIP", "--node-ip"),
    ],
)
def test_a_node_without_what_an_agent_needs_of_it(part: str, what: str, advice: str) -> None:
    found = only(FakeServer(objects={f"{NODES}/me": {**NODE, part: {}}}))
    assert (found.verdict, found.what) == ("error", what)
    assert advice in found.advice


def test_the_addresses_of_other_nodes_are_those_inside_of_the_tunnel() -> None:
    other = {"metadata": {"name": "other", "uid": "2"}, "spec": {"podCIDR": "10.244.2.0/24"}}
    broken = {"metadata": {"name": "broken", "uid": "3"}, "spec": {"podCIDR": "nonsense"}}
    server = FakeServer(objects={NODES: {"items": [NODE, broken, other]}})
    found = asyncio.run(lane_addresses(server, options("generic")))
    assert found["other"] == ["10.244.2.1"]
    assert "me" not in found


def test_a_path_is_judged_by_what_comes_through() -> None:
    for host, verdict, what in (
        (FakeHost(), "ok", "packets of 1440 bytes come through to 10.0.0.1"),
        (FakeHost(mtu=0), "error", "there is no route to 10.0.0.1"),
        (FakeHost(largest=0), "error", "nothing comes through to 10.0.0.1"),
        (
            FakeHost(largest=1400),
            "error",
            "packets of 64 bytes come through to 10.0.0.1, of 1440 do not",
        ),
    ):
        (found,) = examine_paths(host, {"other": ["10.0.0.1"]})
        assert (found.verdict, found.what) == (verdict, f"other: {what}")
        assert bool(found.advice) == (verdict == "error")
