"""The manifests say what the threat model says."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kube import MANAGER
from agent.launcher import SOCKET
from agent.model import GROUP, KIND, PLURAL, SUITE, VERSION, LaneKeys, WireGuardNode
from agent.network.attachments import RESULTS
from agent.network.base import POD_BRIDGE
from agent.network.cni import DIRECTORY
from tests.agent.kustomize import BASES, MANIFESTS, build, find

Json = dict[str, Any]
DAEMONS = ("wgpy-agent", "wgpy-dataplane")
_READ = {"get", "list", "watch"}


@pytest.fixture(params=BASES)
def objects(request: pytest.FixtureRequest) -> list[Json]:
    return build(MANIFESTS / request.param)


def pod(objects: list[Json], name: str) -> Json:
    spec: Json = find(objects, "DaemonSet", name)["spec"]["template"]["spec"]
    return spec


def definition() -> Json:
    crd: Json = find(build(MANIFESTS / "crd"), "CustomResourceDefinition", f"{PLURAL}.{GROUP}")
    return crd


def spec_schema() -> Json:
    schema: Json = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    properties: Json = schema["properties"]["spec"]
    return properties


def test_nobody_may_delete_write_nodes_or_do_anything_by_wildcard(objects: list[Json]) -> None:
    rules = [
        rule for one in objects if one["kind"] in ("Role", "ClusterRole") for rule in one["rules"]
    ]
    assert rules
    for rule in rules:
        assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
        assert not {"delete", "deletecollection", "update", "escalate"} & set(rule["verbs"])
        assert not any(resource.startswith("nodes/") for resource in rule["resources"])
        if "nodes" in rule["resources"]:
            assert set(rule["verbs"]) <= _READ


def test_events_are_granted_in_one_namespace_only_and_secrets_nowhere(objects: list[Json]) -> None:
    (cluster,) = (one for one in objects if one["kind"] == "ClusterRole")
    assert {r for rule in cluster["rules"] for r in rule["resources"]} == {
        "nodes",
        "pods",
        PLURAL,
        f"{PLURAL}/status",
    }
    roles = [one for one in objects if one["kind"] in ("Role", "ClusterRole")]
    assert not any("secrets" in rule["resources"] for one in roles for rule in one["rules"])
    (pods,) = (rule for rule in cluster["rules"] if "pods" in rule["resources"])
    assert pods["verbs"] == ["get"]


def test_only_the_agent_has_a_token(objects: list[Json]) -> None:
    assert find(objects, "ServiceAccount", "wgpy-agent")["automountServiceAccountToken"] is False
    assert pod(objects, "wgpy-agent")["automountServiceAccountToken"] is True
    assert pod(objects, "wgpy-dataplane")["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod(objects, "wgpy-dataplane")


@pytest.mark.parametrize("name", DAEMONS)
def test_a_container_has_one_capability_and_writes_nothing_of_its_own(
    name: str, objects: list[Json]
) -> None:
    spec = pod(objects, name)
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostPID", "hostIPC"} & set(spec)
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "runAsUser": 0,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
    }


def test_the_docs_give_the_older_iptables_its_capability() -> None:
    text = (MANIFESTS.parents[1] / "docs" / "kubernetes.md").read_text()
    (told,) = re.findall(r"--type json --patch \\\n\s+'([^']*)'", text)
    (step,) = json.loads(told)
    place: Any = find(build(MANIFESTS / "generic"), "DaemonSet", "wgpy-agent")
    for part in step["path"].split("/")[1:-1]:
        place = place[int(part) if isinstance(place, list) else part]
    assert (place, step["op"], step["value"]) == (["NET_ADMIN"], "add", "NET_RAW")


def test_only_the_data_plane_has_the_tun_and_only_an_operator_restarts_it(
    objects: list[Json],
) -> None:
    def paths(name: str) -> set[str]:
        return {volume["hostPath"]["path"] for volume in pod(objects, name)["volumes"]}

    assert "/dev/net/tun" in paths("wgpy-dataplane")
    assert not any(path.startswith("/dev") for path in paths("wgpy-agent"))
    strategies = {
        name: find(objects, "DaemonSet", name)["spec"]["updateStrategy"]["type"] for name in DAEMONS
    }
    assert strategies == {"wgpy-agent": "RollingUpdate", "wgpy-dataplane": "OnDelete"}


def test_what_agent_and_data_plane_share_is_mounted_in_both(objects: list[Json]) -> None:
    for name in DAEMONS:
        mounts = {m["mountPath"]: m for m in pod(objects, name)["containers"][0]["volumeMounts"]}
        assert str(SOCKET.parent) in mounts
        assert "/var/run/wireguard" in mounts


def test_every_mount_has_its_volume(objects: list[Json]) -> None:
    for name in DAEMONS:
        spec = pod(objects, name)
        mounted = {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}


def test_the_cni_file_is_where_the_agent_writes_it(objects: list[Json]) -> None:
    (mount,) = (
        m for m in pod(objects, "wgpy-agent")["containers"][0]["volumeMounts"] if m["name"] == "cni"
    )
    assert mount["mountPath"] == str(DIRECTORY)


@pytest.mark.parametrize("base", BASES)
def test_the_notes_about_pods_are_read_where_the_runtime_writes_them(base: str) -> None:
    """And they can be before there is a pod: the agent may not make the directory."""
    spec = pod(build(MANIFESTS / base), "wgpy-agent")
    (mount,) = (m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "cni-results")
    (volume,) = (v for v in spec["volumes"] if v["name"] == "cni-results")
    assert mount["mountPath"] == volume["hostPath"]["path"] == str(RESULTS)
    assert volume["hostPath"]["type"] == "DirectoryOrCreate"


def test_k3s_has_its_own_place_for_cni_files() -> None:
    volumes = pod(build(MANIFESTS / "k3s"), "wgpy-agent")["volumes"]
    (cni,) = (volume["hostPath"]["path"] for volume in volumes if volume["name"] == "cni")
    assert cni == "/var/lib/rancher/k3s/agent/etc/cni/net.d"


def test_kubeadm_grants_its_one_configmap_and_no_other() -> None:
    role = find(build(MANIFESTS / "kubeadm"), "Role", "wgpy-agent-kubeadm-config")
    assert role["metadata"]["namespace"] == "kube-system"
    (rule,) = role["rules"]
    assert (rule["resourceNames"], rule["verbs"]) == (["kubeadm-config"], ["get"])


def test_the_definition_is_of_what_the_model_says() -> None:
    spec = definition()["spec"]
    assert (spec["group"], spec["names"]["kind"], spec["names"]["plural"]) == (GROUP, KIND, PLURAL)
    assert (spec["versions"][0]["name"], spec["scope"]) == (VERSION, "Cluster")
    assert spec["names"]["shortNames"] == ["wgn"]
    assert MANAGER == "wgpy-agent"
    assert POD_BRIDGE == "wgpy-pods"


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_every_key_that_the_model_writes_fits_the_schema(public: bytes, box: bytes) -> None:
    lane = LaneKeys(public, box, 51871, 1).to_object()
    properties = spec_schema()["properties"]["lanes"]["items"]["properties"]
    assert set(lane) == set(properties)
    for key in ("publicKey", "boxKey"):
        assert re.search(properties[key]["pattern"], lane[key])
        assert len(lane[key]) <= properties[key]["maxLength"]


@given(st.binary(max_size=40).filter(lambda key: len(key) != 32))
def test_a_key_of_another_length_does_not_fit_the_schema(key: bytes) -> None:
    told = spec_schema()["properties"]["lanes"]["items"]["properties"]["publicKey"]
    text = b64encode(key).decode()
    assert len(text) > told["maxLength"] or not re.search(told["pattern"], text)


def test_the_schema_has_the_fields_of_the_model_and_no_other() -> None:
    first, second = (LaneKeys(bytes([n] * 32), bytes([n] * 32), 5000 + n, 1) for n in (1, 2))
    written = WireGuardNode("n", (first, second), backend="kernel").spec()
    schema = spec_schema()
    assert set(written) == set(schema["properties"])
    assert set(schema["required"]) <= set(written)
    assert written["suite"] == SUITE
    lanes = schema["properties"]["lanes"]
    assert (lanes["minItems"], lanes["maxItems"]) == (2, 2)


def test_an_epoch_never_goes_back_where_the_server_knows_rules() -> None:
    rules = [one["rule"] for one in spec_schema()["x-kubernetes-validations"]]
    for lane in (0, 1):
        wanted = f"self.lanes[{lane}].epoch >= oldSelf.lanes[{lane}].epoch"
        assert any(wanted in rule for rule in rules)


def test_the_policy_ties_each_object_to_the_node_of_the_token() -> None:
    policy = find(
        build(MANIFESTS / "generic"), "ValidatingAdmissionPolicy", "wgpy-agent-own-objects"
    )
    rules = policy["spec"]["matchConstraints"]["resourceRules"]
    written = {resource for rule in rules for resource in rule["resources"]}
    granted = {
        resource
        for one in build(MANIFESTS / "generic")
        if one["kind"] in ("Role", "ClusterRole")
        for rule in one["rules"]
        if {"create", "patch"} & set(rule["verbs"])
        for resource in rule["resources"]
    }
    assert written == granted
    assert policy["spec"]["failurePolicy"] == "Fail"
