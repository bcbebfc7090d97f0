"""What the agent needs of an API server, of the real one and of the demo's alike."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.apierrors import (
    ConflictError,
    ExpiredError,
    NotFoundError,
    UnauthorizedError,
    UnreachableError,
    refusal_from_status,
)
from agent.apiserver import ApiServer, from_kubeconfig
from agent.demo.certificate import write_certificate
from agent.kube import NODES, PUBLISHED, Kube
from agent.model import LaneKeys, WireGuardNode
from agent.watch import Pace
from tests.cluster.api import Api, ApiError, Json

NAMESPACE = "wgpy-system"
ACCOUNT = "wgpy-agent"
EVENTS = "/api/v1/namespaces/default/events"
_PATIENCE = 120.0
_STATUS = {
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "AllPeers",
            "message": "all is well",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ],
    "peers": {"ready": 1, "total": 2},
}


class Server(ABC):
    """An API server that runs, with what the agent's manifests put there."""

    @property
    @abstractmethod
    def admin(self) -> Api:
        """Who may do everything."""

    @abstractmethod
    def agent(self, node: str) -> Api:
        """With a token of that node's agent."""


class Agent:
    """A Kube with the agent's own token, and nothing of the rest."""

    def __init__(self, api: ApiServer, node: str) -> None:
        self.api = api
        self.kube = Kube(api, node, lambda: None, _pace, time.time)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                await asyncio.sleep(0.02)

    async def events(self, path: str, version: str, seconds: int) -> list[Json]:
        """Those of one watch from that version until the server ends it. KubeError."""
        asked = (("allowWatchBookmarks", "true"), ("resourceVersion", version))
        async with self.api.watch(path, asked, seconds) as events:
            return [event async for event in events]


def _pace() -> Pace:
    return Pace(asyncio.sleep, time.monotonic, random.random)


def published(name: str, epoch: int = 1) -> WireGuardNode:
    first, second = (LaneKeys(bytes([n] * 32), bytes([n] * 32), 5000 + n, epoch) for n in (1, 2))
    return WireGuardNode(name, (first, second), backend="kernel", agent_version="1")


@contextmanager
def new_node(admin: Api) -> Iterator[str]:
    """A new Node; it and what was published for it are gone afterwards."""
    name = f"kube-{time.time_ns():x}"
    spec = {"podCIDR": "10.99.1.0/24", "podCIDRs": ["10.99.1.0/24"]}
    admin.create(NODES, {"metadata": {"name": name}, "spec": spec})
    yield name
    for path in (f"{NODES}/{name}", f"{PUBLISHED}/{name}"):
        try:
            admin.delete(path)
        except ApiError as error:
            if error.status != 404:
                raise


def ask(access: Api, directory: Path, scene: Callable[[ApiServer], Awaitable[None]]) -> None:
    """The agent's client plays the scene."""
    config = access.kubeconfig(directory / "config")

    async def run() -> None:
        api = ApiServer(await from_kubeconfig(config))
        try:
            await scene(api)
        finally:
            await api.close()

    asyncio.run(run())


def play(
    access: Api, node: str, directory: Path, scene: Callable[[Agent], Awaitable[None]]
) -> None:
    """As `ask`, with caches that are filled."""

    async def run(api: ApiServer) -> None:
        agent = Agent(api, node)
        task = asyncio.create_task(agent.kube.run())
        try:
            await agent.until(lambda: agent.kube.synced or task.done())
            await scene(agent)
        finally:
            task.cancel()
            results = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError), results

    ask(access, directory, run)


def _version(one: Json) -> str:
    return str(one["metadata"]["resourceVersion"])


class ApiConformance(ABC):
    """The client of the tests is the agent's own, except for what only an administrator does."""

    @pytest.fixture
    @abstractmethod
    def server(self) -> Server: ...

    @pytest.fixture
    def node(self, server: Server) -> Iterator[str]:
        with new_node(server.admin) as name:
            yield name

    @pytest.fixture
    def access(self, server: Server, node: str) -> Api:
        """As the agent of `node`."""
        return server.agent(node)

    def test_a_token_that_is_not_known_is_refused(self, access: Api, tmp_path: Path) -> None:
        async def scene(api: ApiServer) -> None:
            with pytest.raises(UnauthorizedError):
                await api.get(NODES)

        ask(replace(access, token="f" * 32), tmp_path, scene)

    def test_the_server_has_the_certificate_of_its_authority(
        self, access: Api, tmp_path: Path
    ) -> None:
        (tmp_path / "other").mkdir()
        other, _ = write_certificate(tmp_path / "other", access.host)

        async def scene(api: ApiServer) -> None:
            with pytest.raises(UnreachableError, match="certificate"):
                await api.get(NODES)

        ask(replace(access, ca=other), tmp_path, scene)

    def test_the_server_tells_the_time(self, access: Api, tmp_path: Path) -> None:
        async def scene(api: ApiServer) -> None:
            assert (await api.date() or "").endswith(" GMT")

        ask(access, tmp_path, scene)

    def test_what_is_missing_is_not_found(self, access: Api, node: str, tmp_path: Path) -> None:
        async def scene(api: ApiServer) -> None:
            for path in (f"{NODES}/none", f"{PUBLISHED}/none"):
                with pytest.raises(NotFoundError):
                    await api.get(path)
            with pytest.raises(NotFoundError):
                await api.merge(f"{EVENTS}/{node}.none", {"count": 2})

        ask(access, tmp_path, scene)

    def test_what_is_created_has_identity_and_version(
        self, access: Api, node: str, tmp_path: Path
    ) -> None:
        async def scene(api: ApiServer) -> None:
            wanted = published(node).to_object("uid")
            made = await api.create(PUBLISHED, wanted)
            metadata = made["metadata"]
            assert metadata["name"] == node
            assert metadata["uid"] and metadata["creationTimestamp"] and int(_version(made))
            assert await api.get(f"{PUBLISHED}/{node}") == made
            with pytest.raises(ConflictError):
                await api.create(PUBLISHED, wanted)

        ask(access, tmp_path, scene)

    def test_a_merge_names_what_changes(self, server: Server, node: str) -> None:
        admin, path = server.admin, f"{NODES}/{node}"
        before = admin.merge(path, {"metadata": {"annotations": {"one": "1", "two": "2"}}})
        after = admin.merge(path, {"metadata": {"annotations": {"one": None, "three": "3"}}})
        assert after["metadata"]["annotations"] == {"two": "2", "three": "3"}
        assert after["spec"] == before["spec"]
        assert int(_version(after)) > int(_version(before))
        # What changes nothing is no news.
        again = admin.merge(path, {"metadata": {"annotations": {"three": "3"}}})
        assert _version(again) == _version(after)

    def test_an_apply_that_is_tried_only_writes_nothing(
        self, access: Api, node: str, tmp_path: Path
    ) -> None:
        async def scene(api: ApiServer) -> None:
            wanted, path = published(node).to_object("uid"), f"{PUBLISHED}/{node}"
            tried = await api.apply(path, wanted, "test", dry_run=True)
            assert tried["spec"] == wanted["spec"]
            with pytest.raises(NotFoundError):
                await api.get(path)

        ask(access, tmp_path, scene)

    def test_what_an_apply_says_no_more_is_gone(
        self, access: Api, node: str, tmp_path: Path
    ) -> None:
        path = f"{PUBLISHED}/{node}"
        more, wanted = (published(node).to_object("uid") for _ in range(2))
        del wanted["spec"]["endpoints"]

        async def scene(api: ApiServer) -> None:
            made = await api.apply(path, more, "test")
            after = await api.apply(path, wanted, "test")
            assert made["spec"] == more["spec"] and after["spec"] == wanted["spec"]
            assert after["metadata"]["uid"] == made["metadata"]["uid"]

        ask(access, tmp_path, scene)

    def test_there_is_no_status_without_an_object(
        self, access: Api, node: str, tmp_path: Path
    ) -> None:
        async def scene(api: ApiServer) -> None:
            body = {**published(node).to_object("uid"), "status": _STATUS}
            with pytest.raises(NotFoundError):
                await api.apply(f"{PUBLISHED}/{node}/status", body, "test")
            # With the object it is left out.
            made = await api.apply(f"{PUBLISHED}/{node}", body, "test")
            assert "status" not in made

        ask(access, tmp_path, scene)

    def test_a_watch_tells_what_happened_since_the_list(
        self, server: Server, access: Api, node: str, tmp_path: Path
    ) -> None:
        other = f"{node}-other"

        async def scene(agent: Agent) -> None:
            listed = await agent.api.get(NODES)
            assert node in {one["metadata"]["name"] for one in listed["items"]}
            server.admin.create(NODES, {"metadata": {"name": other}})
            server.admin.merge(f"{NODES}/{other}", {"metadata": {"annotations": {"a": "b"}}})
            server.admin.delete(f"{NODES}/{other}")
            told = await agent.events(NODES, _version(listed), 3)
            ours = [e for e in told if e["object"]["metadata"].get("name") == other]
            assert [event["type"] for event in ours] == ["ADDED", "MODIFIED", "DELETED"]
            versions = [int(_version(event["object"])) for event in told]
            assert versions == sorted(versions) and versions[0] > int(_version(listed))
            # From the middle on, it tells the rest.
            again = await agent.events(NODES, _version(ours[0]["object"]), 1)
            ours = [e for e in again if e["object"]["metadata"].get("name") == other]
            assert [event["type"] for event in ours] == ["MODIFIED", "DELETED"]

        ask(access, tmp_path, lambda api: scene(Agent(api, node)))

    def test_a_watch_ends_when_it_should_and_the_next_goes_on(
        self, server: Server, access: Api, node: str, tmp_path: Path
    ) -> None:
        async def scene(agent: Agent) -> None:
            listed = await agent.api.get(PUBLISHED)
            await agent.api.create(PUBLISHED, published(node).to_object("uid"))
            # Of another kind: a bookmark may be newer than all that the watch has told.
            server.admin.merge(f"{NODES}/{node}", {"metadata": {"annotations": {"a": "b"}}})
            began = time.monotonic()
            told = await agent.events(PUBLISHED, _version(listed), 4)
            assert 2 < time.monotonic() - began < _PATIENCE
            assert told[0]["type"] == "ADDED"
            # No server guarantees bookmarks.
            assert {event["type"] for event in told[1:]} <= {"BOOKMARK"}
            versions = [int(_version(event["object"])) for event in told]
            assert versions == sorted(versions)
            after = await agent.events(PUBLISHED, str(versions[-1]), 1)
            assert {event["type"] for event in after} <= {"BOOKMARK"}

        ask(access, tmp_path, lambda api: scene(Agent(api, node)))

    def test_a_watch_from_long_ago_needs_a_new_list(
        self, server: Server, access: Api, node: str, tmp_path: Path
    ) -> None:
        self.forget_the_past(server, node)

        async def scene(agent: Agent) -> None:
            # Either the watch is refused, or it tells so at once.
            with pytest.raises(ExpiredError):
                (event,) = await agent.events(NODES, "1", 2)
                raise refusal_from_status(int(event["object"]["code"]), event["object"], NODES)

        ask(access, tmp_path, lambda api: scene(Agent(api, node)))

    @abstractmethod
    def forget_the_past(self, server: Server, node: str) -> None:
        """So that no watch can go on from version 1."""

    def test_what_a_node_publishes_is_confirmed_with_owner_and_status(
        self, access: Api, node: str, tmp_path: Path
    ) -> None:
        wanted = published(node)

        async def scene(agent: Agent) -> None:
            kube = agent.kube
            await kube.publish(wanted)
            await agent.until(lambda: kube.confirmed == wanted)
            await kube.set_status(_STATUS)
            told = await agent.api.get(f"{PUBLISHED}/{node}")
            assert told["status"] == _STATUS
            assert told["spec"] == wanted.spec()
            owner = await agent.api.get(f"{NODES}/{node}")
            assert told["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
            # A new spec leaves the status, and a new status the spec.
            await kube.publish(published(node, 2))
            another = {**_STATUS, "peers": {"ready": 2, "total": 2}}
            await kube.set_status(another)
            told = await agent.api.get(f"{PUBLISHED}/{node}")
            assert told["spec"] == published(node, 2).spec()
            assert told["status"] == another

        play(access, node, tmp_path, scene)

    def test_an_object_deleted_by_hand_is_seen_and_written_again(
        self, server: Server, node: str, tmp_path: Path
    ) -> None:
        async def scene(agent: Agent) -> None:
            kube = agent.kube
            await kube.publish(published(node))
            await agent.until(lambda: kube.confirmed)
            server.admin.delete(f"{PUBLISHED}/{node}")
            await agent.until(lambda: kube.confirmed is None)
            assert await kube.publish(published(node)) == f"WireGuardNode {node} was missing"
            await agent.until(lambda: kube.confirmed == published(node))

        play(server.agent(node), node, tmp_path, scene)

    def test_an_event_is_written(self, server: Server, node: str, tmp_path: Path) -> None:
        async def scene(agent: Agent) -> None:
            await agent.kube.tell("Warning", "Tested", "something happened")

        play(server.agent(node), node, tmp_path, scene)
        events = server.admin.get(EVENTS)["items"]
        (event,) = [one for one in events if one["involvedObject"]["name"] == node]
        assert (event["reason"], event["count"]) == ("Tested", 1)

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("DELETE", f"{PUBLISHED}/NODE"),
            ("PUT", f"{PUBLISHED}/NODE"),
            ("PATCH", f"{NODES}/NODE"),
            ("PATCH", f"{NODES}/NODE/status"),
            ("DELETE", f"{NODES}/NODE"),
            ("GET", "/api/v1/secrets"),
            ("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets"),
            ("GET", "/api/v1/namespaces/kube-system/secrets"),
            ("GET", EVENTS),
            ("GET", "/api/v1/namespaces/kube-system/configmaps/other"),
            ("POST", f"/api/v1/namespaces/{NAMESPACE}/pods"),
            ("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}/token"),
            (
                "PATCH",
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/wireguardnodes.wgpy.io",
            ),
        ],
    )
    def test_the_agents_token_may_not(self, method: str, path: str, access: Api, node: str) -> None:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        body = None if method in ("GET", "DELETE") else {"metadata": {"name": node}}
        with pytest.raises(ApiError) as caught:
            access.request(method, path.replace("NODE", node), body, kind)
        assert caught.value.status == 403
