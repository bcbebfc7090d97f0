"""The test cluster itself: it must be real, and its detector must see."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from interop.shell import CommandFailed, wait_until
from tests.cluster.api import Api, ApiError, Json
from tests.cluster.cluster import API_PORT, Cluster
from tests.cluster.controlplane import Access, ControlPlane
from tests.cluster.flows import Flows
from tests.cluster.node import PRIVATE, Node
from tests.cluster.pod import attach, detach

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_FETCH = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1])
print(urllib.request.urlopen(sys.argv[2], timeout=30, context=context).read().decode(), end="")
"""
_OFFICIAL = """
from kubernetes import client, config
config.load_incluster_config()
try:
    print(client.CoreV1Api().list_node())
except client.ApiException as error:
    print(error.body)
"""


def _established(definition: Json) -> bool:
    conditions = definition["status"]["conditions"] or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


@pytest.fixture
def cluster(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(control_plane, tmp_path, "harness", 2) as cluster:
        yield cluster


def test_the_api_server_serves_custom_resources(control_plane: ControlPlane) -> None:
    admin = control_plane.admin
    names = {"plural": "probes", "singular": "probe", "kind": "Probe"}
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["port"],
                "properties": {"port": {"type": "integer", "maximum": 65535}},
            }
        },
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "probes.harness.test"},
        "spec": {
            "group": "harness.test",
            "scope": "Cluster",
            "names": names,
            "versions": [version],
        },
    }
    admin.create(_CRDS, definition)
    try:
        path = f"{_CRDS}/probes.harness.test"
        wait_until("the CRD is established", lambda: _established(admin.get(path)), 10)
        kind = {"apiVersion": "harness.test/v1", "kind": "Probe", "metadata": {"name": "one"}}
        probes = "/apis/harness.test/v1/probes"
        with pytest.raises(ApiError) as refusal:
            admin.apply(f"{probes}/one", {**kind, "spec": {"port": 70000}}, "test")
        assert refusal.value.status == 422
        admin.apply(f"{probes}/one", {**kind, "spec": {"port": 7}}, "test")
        assert admin.get(f"{probes}/one")["spec"] == {"port": 7}
        event = next(admin.watch(f"{probes}?watch=1"))
        assert event["type"] == "ADDED" and event["object"]["metadata"]["name"] == "one"
    finally:
        admin.delete(f"{_CRDS}/probes.harness.test")


def _account_with_pod(control_plane: ControlPlane, name: str) -> Json:
    """A ServiceAccount and a pod that runs as it; the pod."""
    admin = control_plane.admin
    admin.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": name}})
    container = {"name": "one", "image": "none"}
    spec = {"serviceAccountName": name, "containers": [container]}
    pods = "/api/v1/namespaces/default/pods"
    return admin.create(pods, {"metadata": {"name": name}, "spec": spec})


def test_access_is_refused_until_a_role_grants_it(control_plane: ControlPlane) -> None:
    _account_with_pod(control_plane, "reader")
    reader = control_plane.api(control_plane.account_token("default", "reader"))
    with pytest.raises(ApiError) as refusal:
        reader.get("/api/v1/nodes")
    assert refusal.value.status == 403
    rule = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}
    admin = control_plane.admin
    admin.create(f"{_RBAC}/clusterroles", {"metadata": {"name": "reader"}, "rules": [rule]})
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
    }
    admin.create(f"{_RBAC}/clusterrolebindings", binding)
    listed = wait_until("the role counts", lambda: _answer(reader, "/api/v1/nodes"), 10)
    assert listed["kind"] == "NodeList"
    with pytest.raises(ApiError) as refusal:
        reader.create("/api/v1/nodes", {"metadata": {"name": "mine"}})
    assert refusal.value.status == 403


def test_a_token_dies_with_the_pod_it_is_bound_to(control_plane: ControlPlane) -> None:
    _account_with_pod(control_plane, "bound")
    bound = control_plane.api(control_plane.account_token("default", "bound", pod="bound"))
    assert _status(bound, "/api/v1/nodes") == 403  # known, but not allowed
    control_plane.admin.delete("/api/v1/namespaces/default/pods/bound?gracePeriodSeconds=0")
    # The API server remembers a token for ten seconds.
    wait_until("refused", lambda: _status(bound, "/api/v1/nodes") == 401, 30, every=0.5)


def test_the_control_plane_comes_back_with_its_data(control_plane: ControlPlane) -> None:
    admin = control_plane.admin
    admin.create("/api/v1/namespaces", {"metadata": {"name": "kept"}})
    control_plane.kill_api_server()
    control_plane.kill_etcd()
    with pytest.raises(OSError):
        admin.get("/api/v1/namespaces/kept")
    control_plane.start_etcd()
    control_plane.start_api_server()
    assert admin.get("/api/v1/namespaces/kept")["metadata"]["name"] == "kept"


def test_nodes_reach_the_api_server_and_the_way_can_be_cut(cluster: Cluster) -> None:
    for number, node in enumerate(cluster.nodes, start=1):
        known = cluster.control_plane.admin.get(f"/api/v1/nodes/{node.name}")
        assert known["spec"]["podCIDRs"] == cluster.pod_cidrs(number)
        for host in ("198.18.0.1", "[2001:2:0:1::1]"):
            assert _ready(node, cluster.control_plane, host) == "ok"
    cluster.relay.refuse(True)
    with pytest.raises(CommandFailed):
        _ready(cluster.nodes[0], cluster.control_plane, "198.18.0.1")
    cluster.relay.refuse(False)
    assert _ready(cluster.nodes[0], cluster.control_plane, "198.18.0.1") == "ok"


def test_a_pod_of_a_node_speaks_for_itself_through_the_official_client(cluster: Cluster) -> None:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    cluster.control_plane.admin.create(accounts, {"metadata": {"name": "speaker"}})
    environment = cluster.sign_in(1, "default", "speaker")
    answer = json.loads(_said_to(cluster.nodes[0], environment))
    assert answer["code"] == 403 and "system:serviceaccount:default:speaker" in answer["message"]


def test_what_a_node_keeps_is_its_own(cluster: Cluster) -> None:
    one, two = cluster.nodes
    for directory in PRIVATE:
        one.run("touch", f"{directory}/here")
        assert one.path(f"{directory}/here").exists()
        assert two.run("ls", directory) == ""
        assert not Path(f"{directory}/here").exists()
    assert [node.run("uname", "-n").strip() for node in (one, two)] == [one.name, two.name]


def test_pods_of_one_node_ping_each_other_through_the_bridge(cluster: Cluster) -> None:
    _write_plain_network(cluster)
    one, two = cluster.pod(1, "one"), cluster.pod(1, "two")
    with cluster.no_plaintext():
        for version in (4, 6):
            assert ip_address(one.addresses[version]) in ip_network(
                cluster.pod_cidrs(1)[0 if version == 4 else 1]
            )
            one.ping(two.addresses[version])


def test_a_detached_pod_leaves_nothing_on_its_node(cluster: Cluster) -> None:
    _write_plain_network(cluster)
    node = cluster.nodes[0]
    pod = attach(node, "gone", cluster.lab.namespace("gone"))
    assert "veth" in node.namespace.ip("-br link show master plain0")
    assert pod.addresses[4] in node.run("ls", "/var/lib/cni/networks/plain")
    detach(pod)
    assert "veth" not in node.namespace.ip("-br link show master plain0")
    assert pod.addresses[4] not in node.run("ls", "/var/lib/cni/networks/plain").split()
    assert node.run("ls", "/var/lib/cni/results") == ""


@pytest.mark.parametrize("version", [4, 6])
def test_the_detector_sees_pods_of_two_nodes_without_a_tunnel(
    cluster: Cluster, version: int
) -> None:
    _write_plain_network(cluster)
    one, two = cluster.pod(1, "one"), cluster.pod(2, "two")
    with pytest.raises(CommandFailed):
        one.ping(two.addresses[version], attempts=1, patience=0.5)
    _add_plain_routes(cluster)
    with cluster.capture() as detector:
        one.ping(two.addresses[version])
    findings = detector.findings()
    assert len(findings) >= 2 and all("inner address" in finding for finding in findings)
    assert any(one.addresses[version] in finding for finding in findings)


def test_the_detector_sees_what_a_tunnel_without_encryption_carries(cluster: Cluster) -> None:
    _write_plain_network(cluster)
    one, two = cluster.pod(1, "one"), cluster.pod(2, "two")
    for number, node in enumerate(cluster.nodes, start=1):
        here, there = cluster.internal_ips(number)[0], cluster.internal_ips(3 - number)[0]
        node.run(
            *f"ip link add plain type vxlan id 7 dstport 4789 local {here} remote {there}".split()
        )
        node.run("ip", "link", "set", "plain", "up")
        node.run(*f"ip address add 192.0.2.{number}/24 dev plain".split())
        way = f"{cluster.pod_cidrs(3 - number)[0]} via 192.0.2.{3 - number}"
        node.run(*f"ip route add {way}".split())
    with cluster.capture() as detector:
        one.ping(two.addresses[4])
    assert any("carried in the clear" in finding for finding in detector.findings())
    with pytest.raises(AssertionError, match="in the clear"), cluster.no_plaintext():
        one.ping(two.addresses[4])


@pytest.mark.parametrize("version", [4, 6])
def test_flows_count_what_is_lost(cluster: Cluster, version: int) -> None:
    _write_plain_network(cluster)
    _add_plain_routes(cluster)
    pods = [cluster.pod(1, "one"), cluster.pod(2, "two")]
    with cluster.capture() as detector, Flows(pods, 200, version) as good:
        time.sleep(1)
    assert good.lost == 0 and all(flow.sent > 100 for flow in good.flows)
    assert any("payload in the clear" in finding for finding in detector.findings())
    cluster.nodes[1].lose(50)
    with Flows(pods, 200, version) as bad:
        time.sleep(1)
    there, back = bad.flows
    assert 0 < there.lost < there.sent and back.lost == 0


def _write_plain_network(cluster: Cluster) -> None:
    """A bridge with addresses of both families, without the agent."""
    for number, node in enumerate(cluster.nodes, start=1):
        ipam = {
            "type": "host-local",
            "ranges": [[{"subnet": cidr}] for cidr in cluster.pod_cidrs(number)],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        }
        bridge = {"type": "bridge", "bridge": "plain0", "isGateway": True, "ipam": ipam}
        plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
        network = {"cniVersion": "0.4.0", "name": "plain", "plugins": plugins}
        node.run("tee", "/etc/cni/net.d/10-plain.conflist", stdin=json.dumps(network))


def _add_plain_routes(cluster: Cluster) -> None:
    for number, node in enumerate(cluster.nodes, start=1):
        other = 3 - number
        for cidr, gateway in zip(
            cluster.pod_cidrs(other), cluster.internal_ips(other), strict=True
        ):
            node.run("ip", "route", "add", cidr, "via", gateway)


def _ready(node: Node, control_plane: Access, host: str) -> str:
    url = f"https://{host}:{API_PORT}/readyz"
    return node.run(sys.executable, "-c", _FETCH, str(control_plane.ca), url)


def _said_to(node: Node, environment: dict[str, str]) -> str:
    """What the API server answers to the process of a node that lists all nodes."""
    words = [f"{name}={value}" for name, value in environment.items()]
    return node.run("env", *words, sys.executable, "-c", _OFFICIAL)


def _status(api: Api, path: str) -> int:
    try:
        api.get(path)
    except ApiError as error:
        return error.status
    return 200


def _answer(api: Api, path: str) -> Json:
    """Nothing while it is refused."""
    try:
        return api.get(path)
    except ApiError:
        return {}
