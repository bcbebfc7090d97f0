"""The demo's API server is one as far as the agent can tell."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from agent.demo.api import Api as DemoApi
from agent.demo.certificate import write_certificate
from agent.kube import NODES, PUBLISHED
from tests.agent.apiconformance import Agent, ApiConformance, Server, ask, play, published
from tests.cluster.api import Api

_HISTORY = 20


class DemoServer(Server):
    """On loopback, in a thread of this process."""

    def __init__(self, api: DemoApi, port: int, ca: Path) -> None:
        self.api = api
        self._port = port
        self._ca = ca

    @property
    def admin(self) -> Api:
        return self._as("")

    def agent(self, node: str) -> Api:
        return self._as(node)

    def _as(self, node: str) -> Api:
        return Api("127.0.0.1", self._port, self._ca, self.api.token(node))


class TestDemoApi(ApiConformance):
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[DemoServer]:
        ca, tls = write_certificate(tmp_path, "127.0.0.1")
        listening = socket.create_server(("127.0.0.1", 0))
        api = DemoApi(_HISTORY)
        api.start(listening, tls)
        yield DemoServer(api, listening.getsockname()[1], ca)
        api.close()

    def forget_the_past(self, server: Server, node: str) -> None:
        for number in range(_HISTORY + 1):
            annotations = {"number": str(number)}
            server.admin.merge(f"{NODES}/{node}", {"metadata": {"annotations": annotations}})

    def test_a_watch_with_nothing_to_tell_says_how_far_it_is(
        self, server: Server, access: Api, node: str, tmp_path: Path
    ) -> None:
        async def scene(agent: Agent) -> None:
            listed = await agent.api.get(PUBLISHED)
            server.admin.merge(f"{NODES}/{node}", {"metadata": {"annotations": {"a": "b"}}})
            version = server.admin.get(f"{NODES}/{node}")["metadata"]["resourceVersion"]
            (event,) = await agent.events(PUBLISHED, listed["metadata"]["resourceVersion"], 1)
            assert event["type"] == "BOOKMARK"
            assert event["object"]["metadata"]["resourceVersion"] == version

        ask(access, tmp_path, lambda api: scene(Agent(api, node)))

    def test_nobody_writes_for_another_node(self, access: Api, node: str, tmp_path: Path) -> None:
        """As the admission policy of newer servers has it."""

        async def scene(agent: Agent) -> None:
            await agent.kube.publish(published(node))
            await agent.until(lambda: agent.kube.confirmed)
            assert not await agent.kube.may_write_for_others()

        play(access, node, tmp_path, scene)

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"metadata": 1}'])
    def test_what_is_no_object_is_refused(self, body: bytes, access: Api) -> None:
        context = ssl.create_default_context(cafile=str(access.ca))
        connection = HTTPSConnection(access.host, access.port, timeout=10, context=context)
        connection.request("POST", NODES, body, {"Authorization": f"Bearer {access.token}"})
        assert connection.getresponse().status in (400, 422)
        connection.close()
