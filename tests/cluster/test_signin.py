"""How the agent signs in to a real API server: as a pod does, over TLS, with a token that ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from agent.apierrors import ForbiddenError, KubeError, UnauthorizedError, UnreachableError
from agent.apiserver import ApiServer, in_cluster
from tests.cluster.api import ApiError
from tests.cluster.certificates import write_certificates
from tests.cluster.controlplane import ControlPlane

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cluster")]

# That of the token is known to the server, and may do nothing.
_ACCOUNT = "signin"
_PODS = "/api/v1/namespaces/default/pods"
_NODES = "/api/v1/nodes"
# The API server remembers for ten seconds that a token was good.
_PATIENCE = 30.0


class Pod:
    """A pod's ServiceAccount directory, as kubelet keeps it."""

    def __init__(self, control_plane: ControlPlane, directory: Path) -> None:
        self._plane = control_plane
        self._names: list[str] = []
        self.directory = directory
        (directory / "ca.crt").write_text(control_plane.ca.read_text())

    def start(self, name: str) -> str:
        """A new pod of that name, whose token replaces the one that is there; the token."""
        spec = {"serviceAccountName": _ACCOUNT, "containers": [{"name": "one", "image": "none"}]}
        self._plane.admin.create(_PODS, {"metadata": {"name": name}, "spec": spec})
        self._names.append(name)
        token = self._plane.account_token("default", _ACCOUNT, pod=name)
        path = self.directory / "token"
        path.touch(mode=0o600)
        path.write_text(token)
        return token

    def end(self) -> None:
        while self._names:
            self._plane.admin.delete(f"{_PODS}/{self._names.pop()}?gracePeriodSeconds=0")


@pytest.fixture
def pod(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Pod]:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    try:
        control_plane.admin.create(accounts, {"metadata": {"name": _ACCOUNT}})
    except ApiError as error:
        assert error.status == 409, error
    pod = Pod(control_plane, tmp_path)
    yield pod
    pod.end()


def play(
    plane: ControlPlane, directory: Path, scene: Callable[[ApiServer], Awaitable[None]]
) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(plane.port)}

    async def run() -> None:
        api = ApiServer(in_cluster(environ, directory))
        try:
            await scene(api)
        finally:
            await api.close()

    asyncio.run(run())


async def _refusal(api: ApiServer) -> KubeError:
    with pytest.raises(KubeError) as refused:
        await api.get(_NODES)
    return refused.value


def test_a_pod_is_known_by_its_account_and_nothing_tells_its_token(
    control_plane: ControlPlane, pod: Pod, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = pod.start("signin-known")

    async def scene(api: ApiServer) -> None:
        # Known, but not allowed.
        error = await _refusal(api)
        assert isinstance(error, ForbiddenError)
        assert f"system:serviceaccount:default:{_ACCOUNT}" in str(error)
        assert token not in repr(error) + str(error)

    play(control_plane, pod.directory, scene)
    assert token not in caplog.text


def test_a_token_that_has_ended_is_unauthorized_until_the_file_has_another(
    control_plane: ControlPlane, pod: Pod
) -> None:
    pod.start("signin-ended")

    async def scene(api: ApiServer) -> None:
        assert isinstance(await _refusal(api), ForbiddenError)
        await asyncio.to_thread(pod.end)
        async with asyncio.timeout(_PATIENCE):
            while not isinstance(error := await _refusal(api), UnauthorizedError):
                await asyncio.sleep(0.2)
        assert "pod still exist" in error.advice
        # The same connection, another token: nobody restarts the agent for it.
        await asyncio.to_thread(pod.start, "signin-again")
        assert isinstance(await _refusal(api), ForbiddenError)

    play(control_plane, pod.directory, scene)


def test_a_server_of_another_authority_gets_no_token_and_the_advice_is_the_ca(
    control_plane: ControlPlane, pod: Pod, tmp_path: Path
) -> None:
    pod.start("signin-stranger")
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    write_certificates(stranger, ["127.0.0.1"])
    (pod.directory / "ca.crt").write_text((stranger / "ca.crt").read_text())

    async def scene(api: ApiServer) -> None:
        error = await _refusal(api)
        assert isinstance(error, UnreachableError)
        assert "certificate" in error.what
        assert "CA" in error.advice

    play(control_plane, pod.directory, scene)
