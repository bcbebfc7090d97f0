"""The admission policy, by a CEL implementation: a token writes for its own node and no other."""

from __future__ import annotations

from typing import Any

import celpy
import pytest
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError

from agent.model import GROUP, PLURAL
from tests.agent.kustomize import MANIFESTS, build, find

Json = dict[str, Any]
AGENT = "system:serviceaccount:wgpy-system:wgpy-agent"
NODE_CLAIM = "authentication.kubernetes.io/node-name"
POLICY: Json = find(
    build(MANIFESTS / "admission"), "ValidatingAdmissionPolicy", "wgpy-agent-own-objects"
)["spec"]

_EVENTS = "an agent writes Events about its own node only"


def evaluate(expression: str, context: Json) -> Any:
    environment = celpy.Environment()
    program = environment.program(environment.compile(expression))
    return program.evaluate({name: json_to_cel(value) for name, value in context.items()})


def refusals(
    user: Json,
    group: str,
    resource: str,
    operation: str,
    written: Json,
    *,
    before: Json | None = None,
    namespace: str | None = None,
) -> list[str]:
    """Messages of what fails, as the API server goes about it; an error is a refusal too.

    An update is of `before`, or of something that was as it will be; Events are in `default`.
    """
    # A subresource is matched together with its resource, and told apart.
    rules = POLICY["matchConstraints"]["resourceRules"]
    if not any(
        group in rule["apiGroups"]
        and resource in rule["resources"]
        and operation in rule["operations"]
        for rule in rules
    ):
        return []
    plain, _, subresource = resource.partition("/")
    request = {
        "userInfo": user,
        "resource": {"group": group, "resource": plain},
        "subResource": subresource,
        "operation": operation,
        "namespace": ("default" if plain == "events" else "") if namespace is None else namespace,
    }
    old = (before or written) if operation == "UPDATE" else None
    context: Json = {"request": request, "object": written, "oldObject": old}
    if not all(evaluate(one["expression"], context) for one in POLICY["matchConditions"]):
        return []
    context["variables"] = {
        one["name"]: str(evaluate(one["expression"], context)) for one in POLICY["variables"]
    }
    found = []
    for one in POLICY["validations"]:
        try:
            good = bool(evaluate(one["expression"], context))
        except CELEvalError:
            good = False
        if not good:
            found.append(one["message"])
    return found


def token(node: str | None, name: str = AGENT) -> Json:
    extra = {NODE_CLAIM: [node]} if node is not None else {"else": ["x"]}
    return {"username": name, "groups": ["system:serviceaccounts"], "extra": extra}


def named(name: str) -> Json:
    return {"metadata": {"name": name}}


def event(node: str, kind: str = "Node") -> Json:
    return {"metadata": {"name": "e"}, "involvedObject": {"kind": kind, "name": node}}


WRITES = [
    (GROUP, PLURAL, named("{}")),
    (GROUP, f"{PLURAL}/status", named("{}")),
    ("", "events", event("{}")),
]


def of(written: Json, node: str) -> Json:
    """`written` about a node."""
    return {
        key: of(value, node) if isinstance(value, dict) else str(value).format(node)
        for key, value in written.items()
    }


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize(("group", "resource", "written"), WRITES)
def test_an_agent_writes_for_its_own_node_only(
    group: str, resource: str, written: Json, operation: str
) -> None:
    mine = refusals(token("me"), group, resource, operation, of(written, "me"))
    assert mine == []
    for other in ("other", "me2", "", "wgpy-me"):
        theirs = refusals(token("me"), group, resource, operation, of(written, other))
        assert len(theirs) == 1
        assert "its own node only" in theirs[0]


@pytest.mark.parametrize(("group", "resource", "written"), WRITES)
def test_a_token_that_is_bound_to_no_node_writes_nothing(
    group: str, resource: str, written: Json
) -> None:
    for user in (token(None), token("")):
        said = refusals(user, group, resource, "CREATE", of(written, "me"))
        assert "this token is not bound to a node" in said


@pytest.mark.parametrize("resource", [PLURAL, f"{PLURAL}/status"])
def test_a_name_that_the_server_shall_make_is_not_the_node_s(resource: str) -> None:
    """Neither where it is not made yet nor where it is; it begins with the node's."""
    said = ["an agent writes the WireGuardNode of its own node only"]
    for metadata in (
        {"generateName": "me"},
        {"generateName": "me", "name": ""},
        {"generateName": "me", "name": "mex7k2p"},
    ):
        for operation in ("CREATE", "UPDATE"):
            written = {"metadata": metadata}
            assert refusals(token("me"), GROUP, resource, operation, written) == said


def test_an_event_may_have_a_name_that_the_server_makes() -> None:
    """What it is called says nothing of what it is about."""
    mine, other = ({**event(node), "metadata": {"generateName": "me."}} for node in ("me", "other"))
    assert refusals(token("me"), "", "events", "CREATE", mine) == []
    assert refusals(token("me"), "", "events", "CREATE", other) == [_EVENTS]


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize("kind", ["Pod", "node", "WireGuardNode", ""])
def test_an_event_is_about_a_node_and_nothing_else_of_its_name(operation: str, kind: str) -> None:
    assert refusals(token("me"), "", "events", operation, event("me", kind)) == [_EVENTS]


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize("namespace", ["kube-system", "wgpy-system", ""])
def test_an_event_is_where_events_about_nodes_are(operation: str, namespace: str) -> None:
    said = refusals(token("me"), "", "events", operation, event("me"), namespace=namespace)
    assert said == ["an agent writes Events in the namespace default only"]


def test_an_event_about_another_is_not_made_one_about_the_own_node() -> None:
    """What it has told would be gone."""
    for before in (event("other"), event("me", "Pod")):
        said = refusals(token("me"), "", "events", "UPDATE", event("me"), before=before)
        assert said == [_EVENTS]


def test_others_than_agents_are_not_its_business() -> None:
    admin = {"username": "admin", "groups": ["system:masters"], "extra": {}}
    other = token("me", "system:serviceaccount:wgpy-system:other")
    for user in (admin, other):
        assert refusals(user, GROUP, PLURAL, "UPDATE", named("any")) == []


def test_a_write_that_fails_to_be_judged_is_refused() -> None:
    assert POLICY["failurePolicy"] == "Fail"
    # An Event about nothing.
    assert refusals(token("me"), "", "events", "CREATE", named("e")) == [_EVENTS]


def test_it_is_about_all_that_an_agent_may_write() -> None:
    objects = build(MANIFESTS / "generic")
    judged = {
        (group, resource)
        for rule in POLICY["matchConstraints"]["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    for role in (one for one in objects if one["kind"] in ("Role", "ClusterRole")):
        for rule in role["rules"]:
            if set(rule["verbs"]) & {"create", "patch", "update"}:
                written = {(g, r) for g in rule["apiGroups"] for r in rule["resources"]}
                assert written <= judged, role["metadata"]["name"]
            assert not set(rule["verbs"]) & {"delete", "deletecollection", "*"}
