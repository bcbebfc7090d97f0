"""The agent's API client and its manifests against a real API server."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.apierrors import InvalidError
from agent.apiserver import ApiServer, from_kubeconfig
from agent.kube import NODES, PUBLISHED, Kube
from agent.model import LaneKeys, WireGuardNode
from agent.watch import Pace
from tests.agent.kustomize import BASES, MANIFESTS, build
from tests.cluster.api import Api, ApiError, Json
from tests.cluster.controlplane import ControlPlane
from tests.cluster.install import NEWER, apply
from tests.cluster.relay import Relay

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

_NAMESPACE = "wgpy-system"
_ACCOUNT = "wgpy-agent"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_PATIENCE = 120.0


@pytest.fixture
def node(installed: ControlPlane) -> Iterator[str]:
    """A new Node; it and what was published for it are gone afterwards."""
    admin, name = installed.admin, f"kube-{time.time_ns():x}"
    spec = {"podCIDR": "10.99.1.0/24", "podCIDRs": ["10.99.1.0/24"]}
    admin.create(NODES, {"metadata": {"name": name}, "spec": spec})
    yield name
    for path in (f"{NODES}/{name}", f"{PUBLISHED}/{name}"):
        try:
            admin.delete(path)
        except ApiError as error:
            if error.status != 404:
                raise


def published(name: str, epoch: int = 1) -> WireGuardNode:
    first, second = (LaneKeys(bytes([n] * 32), bytes([n] * 32), 5000 + n, epoch) for n in (1, 2))
    return WireGuardNode(name, (first, second), backend="kernel", agent_version="1")


class Agent:
    """A Kube with the agent's own token, and nothing of the rest."""

    def __init__(self, api: ApiServer, node: str) -> None:
        self.api = api
        self.kube = Kube(api, node, lambda: None, _pace, time.time)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                await asyncio.sleep(0.02)


def play(
    plane: ControlPlane,
    node: str,
    directory: Path,
    scene: Callable[[Agent], Awaitable[None]],
    port: int = 0,
    account: str = _ACCOUNT,
) -> None:
    """`port`: of loopback, where the agent finds the API server; `account`: who it is."""
    access = plane.api(plane.account_token(_NAMESPACE, account))
    config = replace(access, port=port or access.port).kubeconfig(directory / "config")

    async def run() -> None:
        api = ApiServer(await from_kubeconfig(config))
        agent = Agent(api, node)
        task = asyncio.create_task(agent.kube.run())
        try:
            await agent.until(lambda: agent.kube.synced or task.done())
            await scene(agent)
        finally:
            task.cancel()
            results = await asyncio.gather(task, return_exceptions=True)
            await api.close()
        assert isinstance(results[0], asyncio.CancelledError), results

    asyncio.run(run())


def _pace() -> Pace:
    return Pace(asyncio.sleep, time.monotonic, random.random)


@pytest.mark.parametrize("base", BASES)
def test_a_base_is_accepted_whole(base: str, control_plane: ControlPlane) -> None:
    missing = apply(control_plane.admin, build(MANIFESTS / base))
    assert set(missing) <= NEWER


def test_what_a_node_publishes_is_confirmed_with_owner_and_status(
    installed: ControlPlane, node: str, tmp_path: Path
) -> None:
    wanted = published(node)
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "AllPeers",
        "message": "all is well",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {"conditions": [condition], "peers": {"ready": 1, "total": 2}}

    async def scene(agent: Agent) -> None:
        kube = agent.kube
        await kube.publish(wanted)
        await agent.until(lambda: kube.confirmed == wanted)
        await kube.set_status(status)
        told = await agent.api.get(f"{PUBLISHED}/{node}")
        assert told["status"] == status
        assert told["spec"] == wanted.spec()
        owner = await agent.api.get(f"{NODES}/{node}")
        assert told["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
        # A new spec leaves the status, and a new status the spec.
        await kube.publish(published(node, 2))
        another = {**status, "peers": {"ready": 2, "total": 2}}
        await kube.set_status(another)
        told = await agent.api.get(f"{PUBLISHED}/{node}")
        assert told["spec"] == published(node, 2).spec()
        assert told["status"] == another

    play(installed, node, tmp_path, scene)


def test_kubectl_gets_columns_worth_reading(
    installed: ControlPlane, node: str, tmp_path: Path
) -> None:
    one = published(node)
    two_epochs = replace(one, lanes=(one.lanes[0], replace(one.lanes[1], epoch=7)))

    async def scene(agent: Agent) -> None:
        await agent.kube.publish(two_epochs)

    play(installed, node, tmp_path, scene)
    table = _table(installed.admin, node)
    columns = [column["name"] for column in table["columnDefinitions"]]
    assert columns[:7] == ["Name", "Ready", "Peers", "Reached", "Backend", "Lane", "Rotation"]
    (row,) = table["rows"]
    cells = dict(zip(columns, row["cells"], strict=True))
    assert (cells["Name"], cells["Backend"], cells["Lane"]) == (node, "kernel", 0)
    assert (cells["Epoch-0"], cells["Epoch-1"]) == (1, 7)


def _table(admin: Api, node: str) -> Json:
    context = ssl.create_default_context(cafile=str(admin.ca))
    connection = http.client.HTTPSConnection(admin.host, admin.port, timeout=60, context=context)
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    headers = {"Authorization": f"Bearer {admin.token}", "Accept": accept}
    try:
        connection.request("GET", f"{PUBLISHED}/{node}", headers=headers)
        table: Json = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return table


def test_an_object_deleted_by_hand_is_seen_and_written_again(
    installed: ControlPlane, node: str, tmp_path: Path
) -> None:
    async def scene(agent: Agent) -> None:
        kube = agent.kube
        await kube.publish(published(node))
        await agent.until(lambda: kube.confirmed)
        installed.admin.delete(f"{PUBLISHED}/{node}")
        await agent.until(lambda: kube.confirmed is None)
        assert await kube.publish(published(node)) == f"WireGuardNode {node} was missing"
        await agent.until(lambda: kube.confirmed == published(node))

    play(installed, node, tmp_path, scene)


def test_an_event_is_counted_up(installed: ControlPlane, node: str, tmp_path: Path) -> None:
    async def scene(agent: Agent) -> None:
        await agent.kube.tell("Warning", "Tested", "something happened")

    play(installed, node, tmp_path, scene)
    query = f"fieldSelector=involvedObject.name={node}"
    (event,) = installed.admin.get(f"/api/v1/namespaces/default/events?{query}")["items"]
    assert (event["reason"], event["count"]) == ("Tested", 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lanes": []}, "lanes"),
        ({"lanes": published("x").spec()["lanes"] * 2}, "lanes"),
        ({"lanes": [{"publicKey": "short", "boxKey": "", "port": 1, "epoch": 1}] * 2}, "publicKey"),
        ({"activeLane": 2}, "activeLane"),
        ({"endpoints": ["not an address"]}, "endpoints"),
        ({"backend": "magic"}, "backend"),
        ({"suite": 0}, "suite"),
    ],
)
def test_the_server_refuses_what_the_schema_does_not_allow(
    change: Json, reason: str, installed: ControlPlane, node: str
) -> None:
    wanted = published(node).to_object("uid")
    wanted["spec"].update(change)
    with pytest.raises(ApiError, match=reason) as caught:
        installed.admin.create(PUBLISHED, wanted)
    assert caught.value.status == 422


def test_a_refusal_of_the_server_is_an_error_of_ours(
    installed: ControlPlane, node: str, tmp_path: Path
) -> None:
    async def scene(agent: Agent) -> None:
        with pytest.raises(InvalidError, match="backend"):
            await agent.kube.publish(replace(published(node), backend="magic"))

    play(installed, node, tmp_path, scene)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", f"{PUBLISHED}/NODE"),
        ("PUT", f"{PUBLISHED}/NODE"),
        ("PATCH", f"{NODES}/NODE"),
        ("PATCH", f"{NODES}/NODE/status"),
        ("DELETE", f"{NODES}/NODE"),
        ("GET", "/api/v1/secrets"),
        ("GET", f"/api/v1/namespaces/{_NAMESPACE}/secrets"),
        ("GET", "/api/v1/namespaces/kube-system/secrets"),
        ("GET", "/api/v1/namespaces/default/events"),
        ("GET", "/api/v1/namespaces/kube-system/configmaps/other"),
        ("POST", f"/api/v1/namespaces/{_NAMESPACE}/pods"),
        ("POST", f"/api/v1/namespaces/{_NAMESPACE}/serviceaccounts/{_ACCOUNT}/token"),
        ("PATCH", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/wireguardnodes.wgpy.io"),
    ],
)
def test_the_agents_token_may_not(
    method: str, path: str, installed: ControlPlane, node: str
) -> None:
    api = installed.api(installed.account_token(_NAMESPACE, _ACCOUNT))
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    body = None if method in ("GET", "DELETE") else {"metadata": {"name": node}}
    with pytest.raises(ApiError) as caught:
        api.request(method, path.replace("NODE", node), body, kind)
    assert caught.value.status == 403


@pytest.fixture
def isolated(installed: ControlPlane, node: str) -> Iterator[str]:
    """A ServiceAccount that may write the object of one node, as the policy would have it."""
    admin, name = installed.admin, f"isolated-{node}"
    admin.create(f"/api/v1/namespaces/{_NAMESPACE}/serviceaccounts", {"metadata": {"name": name}})
    read = {"apiGroups": ["", "wgpy.io"], "resources": ["nodes", "wireguardnodes"]}
    write = {"apiGroups": ["wgpy.io"], "resources": ["wireguardnodes"], "resourceNames": [node]}
    rules = [
        {**read, "verbs": ["get", "list", "watch"]},
        {**write, "verbs": ["patch"]},
        {"apiGroups": ["wgpy.io"], "resources": ["wireguardnodes"], "verbs": ["create"]},
    ]
    subject = {"kind": "ServiceAccount", "name": name, "namespace": _NAMESPACE}
    reference = {"apiGroup": _RBAC.split("/")[2], "kind": "ClusterRole", "name": name}
    admin.create(f"{_RBAC}/clusterroles", {"metadata": {"name": name}, "rules": rules})
    binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    admin.create(f"{_RBAC}/clusterrolebindings", binding)
    yield name
    for path in (
        f"{_RBAC}/clusterrolebindings/{name}",
        f"{_RBAC}/clusterroles/{name}",
        f"/api/v1/namespaces/{_NAMESPACE}/serviceaccounts/{name}",
    ):
        admin.delete(path)


def test_the_self_check_knows_whether_one_may_write_for_others(
    installed: ControlPlane, node: str, isolated: str, tmp_path: Path
) -> None:
    """And writes nothing for it. This server has no admission policies, so RBAC stands for one."""
    found: list[bool] = []

    async def scene(agent: Agent) -> None:
        await agent.kube.publish(published(node))
        await agent.until(lambda: agent.kube.confirmed)
        found.append(await agent.kube.may_write_for_others())

    for account in (_ACCOUNT, isolated):
        play(installed, node, tmp_path, scene, account=account)
    assert found == [True, False]
    with pytest.raises(ApiError, match="404"):
        installed.admin.get(f"{PUBLISHED}/not-{node}")


def test_watches_survive_the_api_server(installed: ControlPlane, node: str, tmp_path: Path) -> None:
    admin = installed.admin

    async def scene(agent: Agent) -> None:
        kube = agent.kube
        installed.kill_api_server()
        await agent.until(lambda: not kube.connected)
        assert kube.synced
        assert node in kube.nodes
        assert kube.problems
        # In this thread: the server ends with the thread that started it.
        installed.start_api_server()
        await agent.until(lambda: kube.connected)
        admin.merge(f"{NODES}/{node}", {"metadata": {"annotations": {"wgpy.io/rotate": "now"}}})
        await agent.until(lambda: kube.nodes[node].rotate == "now")
        assert not kube.problems

    play(installed, node, tmp_path, scene)


def test_after_410_what_went_meanwhile_is_gone(
    installed: ControlPlane, node: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admin, other = installed.admin, f"{node}-other"
    admin.create(NODES, {"metadata": {"name": other}})
    listening = socket.create_server(("127.0.0.1", 0))
    relay = Relay([listening], installed.host, installed.port)

    async def scene(agent: Agent) -> None:
        kube = agent.kube
        assert other in kube.nodes
        relay.refuse(True)
        await agent.until(lambda: not kube.connected)
        admin.delete(f"{NODES}/{other}")
        # A new server's watch cache knows nothing of what was before.
        installed.kill_api_server()
        installed.start_api_server()
        admin.merge(f"{NODES}/{node}", {"metadata": {"annotations": {"wgpy.io/rotate": "x"}}})
        relay.refuse(False)
        await agent.until(lambda: other not in kube.nodes)
        assert kube.nodes[node].rotate == "x"
        await agent.until(lambda: kube.connected)

    try:
        with caplog.at_level(logging.INFO, "agent.watch"):
            play(installed, node, tmp_path, scene, listening.getsockname()[1])
    finally:
        relay.close()
        listening.close()
    assert any(message.startswith("Node: 410") for message in caplog.messages)
