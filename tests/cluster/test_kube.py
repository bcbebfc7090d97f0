"""The agent's API client and its manifests against a real API server."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.apierrors import InvalidError
from agent.kube import NODES, PUBLISHED
from tests.agent.apiconformance import (
    ACCOUNT,
    NAMESPACE,
    Agent,
    ApiConformance,
    Server,
    new_node,
    play,
    published,
)
from tests.agent.kustomize import BASES, MANIFESTS, build
from tests.cluster.api import Api, ApiError, Json
from tests.cluster.controlplane import ControlPlane
from tests.cluster.install import NEWER, apply
from tests.cluster.relay import Relay

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

_RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture
def node(installed: ControlPlane) -> Iterator[str]:
    with new_node(installed.admin) as name:
        yield name


@pytest.fixture
def access(installed: ControlPlane) -> Api:
    """With the agent's token."""
    return _access(installed)


def _access(installed: ControlPlane, account: str = ACCOUNT) -> Api:
    return installed.api(installed.account_token(NAMESPACE, account))


class RealServer(Server):
    def __init__(self, installed: ControlPlane) -> None:
        self._installed = installed

    @property
    def admin(self) -> Api:
        return self._installed.admin

    def agent(self, node: str) -> Api:
        return _access(self._installed)


class TestRealApi(ApiConformance):
    @pytest.fixture
    def server(self, installed: ControlPlane) -> Server:
        return RealServer(installed)

    @pytest.fixture(autouse=True)
    def _installed(self, installed: ControlPlane) -> None:
        self._control_plane = installed

    def forget_the_past(self, server: Server, node: str) -> None:
        # A new server's watch cache knows nothing of what was before.
        self._control_plane.kill_api_server()
        self._control_plane.start_api_server()


@pytest.mark.parametrize("base", BASES)
def test_a_base_is_accepted_whole(base: str, control_plane: ControlPlane) -> None:
    missing = apply(control_plane.admin, build(MANIFESTS / base))
    assert set(missing) <= NEWER


def test_kubectl_gets_columns_worth_reading(
    installed: ControlPlane, access: Api, node: str, tmp_path: Path
) -> None:
    one = published(node)
    two_epochs = replace(one, lanes=(one.lanes[0], replace(one.lanes[1], epoch=7)))

    async def scene(agent: Agent) -> None:
        await agent.kube.publish(two_epochs)

    play(access, node, tmp_path, scene)
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
    access: Api, node: str, tmp_path: Path
) -> None:
    async def scene(agent: Agent) -> None:
        with pytest.raises(InvalidError, match="backend"):
            await agent.kube.publish(replace(published(node), backend="magic"))

    play(access, node, tmp_path, scene)


@pytest.fixture
def isolated(installed: ControlPlane, node: str) -> Iterator[str]:
    """A ServiceAccount that may write the object of one node, as the policy would have it."""
    admin, name = installed.admin, f"isolated-{node}"
    admin.create(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", {"metadata": {"name": name}})
    read = {"apiGroups": ["", "wgpy.io"], "resources": ["nodes", "wireguardnodes"]}
    write = {"apiGroups": ["wgpy.io"], "resources": ["wireguardnodes"], "resourceNames": [node]}
    rules = [
        {**read, "verbs": ["get", "list", "watch"]},
        {**write, "verbs": ["patch"]},
        {"apiGroups": ["wgpy.io"], "resources": ["wireguardnodes"], "verbs": ["create"]},
    ]
    subject = {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}
    reference = {"apiGroup": _RBAC.split("/")[2], "kind": "ClusterRole", "name": name}
    admin.create(f"{_RBAC}/clusterroles", {"metadata": {"name": name}, "rules": rules})
    binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    admin.create(f"{_RBAC}/clusterrolebindings", binding)
    yield name
    for path in (
        f"{_RBAC}/clusterrolebindings/{name}",
        f"{_RBAC}/clusterroles/{name}",
        f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{name}",
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

    for account in (ACCOUNT, isolated):
        play(_access(installed, account), node, tmp_path, scene)
    assert found == [True, False]
    with pytest.raises(ApiError, match="404"):
        installed.admin.get(f"{PUBLISHED}/not-{node}")


def test_watches_survive_the_api_server(
    installed: ControlPlane, access: Api, node: str, tmp_path: Path
) -> None:
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

    play(access, node, tmp_path, scene)


def test_after_410_what_went_meanwhile_is_gone(
    installed: ControlPlane,
    access: Api,
    node: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    admin, other = installed.admin, f"{node}-other"
    admin.create(NODES, {"metadata": {"name": other}})
    listening = socket.create_server(("127.0.0.1", 0))
    relay = Relay([listening], installed.host, installed.port)
    cut_off = replace(access, port=listening.getsockname()[1])

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
            play(cut_off, node, tmp_path, scene)
    finally:
        relay.close()
        listening.close()
    assert any(message.startswith("Node: 410") for message in caplog.messages)
