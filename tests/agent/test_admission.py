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


def evaluate(expression: str, context: Json) -> Any:
    environment = celpy.Environment()
    program = environment.program(environment.compile(expression))
    return program.evaluate({name: json_to_cel(value) for name, value in context.items()})


def refusals(user: Json, group: str, resource: str, operation: str, written: Json) -> list[str]:
    """Messages of what fails, as the API server goes about it; an error is a refusal too."""
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
    }
    context: Json = {"request": request, "object": written}
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


def event(node: str) -> Json:
    return {"metadata": {"name": "e"}, "involvedObject": {"kind": "Node", "name": node}}


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


def test_others_than_agents_are_not_its_business() -> None:
    admin = {"username": "admin", "groups": ["system:masters"], "extra": {}}
    other = token("me", "system:serviceaccount:wgpy-system:other")
    for user in (admin, other):
        assert refusals(user, GROUP, PLURAL, "UPDATE", named("any")) == []


def test_a_write_that_fails_to_be_judged_is_refused() -> None:
    assert POLICY["failurePolicy"] == "Fail"
    # An Event about nothing.
    assert refusals(token("me"), "", "events", "CREATE", named("e")) == [
        "an agent writes Events about its own node only"
    ]


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
