"""The connection to the API server, against a real HTTP server on loopback."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from agent import apierrors
from agent.apiserver import ApiServer, from_kubeconfig, in_cluster

TOKEN = "token-that-nobody-may-see"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def account(tmp_path: Path, token: str = TOKEN) -> Path:
    (tmp_path / "token").write_text(f"{token}\n")
    (tmp_path / "ca.crt").write_text("")
    return tmp_path


@asynccontextmanager
async def served(handler: Handler, directory: Path) -> AsyncIterator[ApiServer]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}
    configuration = in_cluster(environ, account(directory))
    # No TLS here: tests/cluster has it.
    configuration.host = f"http://127.0.0.1:{port}"
    configuration.ssl_ca_cert = None
    api = ApiServer(configuration)
    try:
        yield api
    finally:
        await api.close()
        await runner.cleanup()


def play(handler: Handler, scene: Callable[[ApiServer], Awaitable[None]], tmp_path: Path) -> None:
    async def run() -> None:
        async with served(handler, tmp_path) as api:
            await scene(api)

    asyncio.run(run())


def test_a_write_is_an_apply_patch_with_our_manager(tmp_path: Path) -> None:
    seen: list[tuple[str, str, dict[str, str], str]] = []

    async def handler(request: web.Request) -> web.Response:
        kind = request.headers["Content-Type"]
        seen.append((request.method, kind, dict(request.query), await request.text()))
        return web.json_response({"done": True})

    async def scene(api: ApiServer) -> None:
        assert await api.apply("/things/a", {"x": 1}, "wgpy-agent") == {"done": True}

    play(handler, scene, tmp_path)
    ((method, kind, query, body),) = seen
    assert (method, kind) == ("PATCH", "application/apply-patch+yaml")
    assert query == {"fieldManager": "wgpy-agent", "force": "true"}
    assert json.loads(body) == {"x": 1}


def test_the_token_is_read_anew_for_each_request(tmp_path: Path) -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.json_response({})

    async def scene(api: ApiServer) -> None:
        await api.get("/")
        account(tmp_path, "second")
        await api.get("/")

    play(handler, scene, tmp_path)
    assert seen == [f"Bearer {TOKEN}", "Bearer second"]


def test_a_token_that_is_gone_is_told_with_its_path(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({})

    async def scene(api: ApiServer) -> None:
        (tmp_path / "token").unlink()
        with pytest.raises(apierrors.AccessError, match=str(tmp_path / "token")):
            await api.get("/")

    play(handler, scene, tmp_path)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, apierrors.UnauthorizedError),
        (403, apierrors.ForbiddenError),
        (404, apierrors.NotFoundError),
        (409, apierrors.ConflictError),
        (410, apierrors.ExpiredError),
        (422, apierrors.InvalidError),
        (429, apierrors.OverloadedError),
        (500, apierrors.OverloadedError),
        (503, apierrors.OverloadedError),
    ],
)
def test_a_refusal_says_what_and_where_and_shows_no_token(
    status: int, kind: type[apierrors.KubeError], tmp_path: Path
) -> None:
    async def handler(request: web.Request) -> web.Response:
        told = {"kind": "Status", "message": "because\nof it"}
        return web.json_response(told, status=status, headers={"Retry-After": "7"})

    async def scene(api: ApiServer) -> None:
        with pytest.raises(kind) as caught:
            await api.get("/api/v1/nodes")
        assert caught.value.what == f"{status} because of it"
        assert caught.value.where.startswith("GET /api/v1/nodes at http://")
        assert caught.value.wait == 7.0
        assert TOKEN not in "".join(traceback.format_exception(caught.value))

    play(handler, scene, tmp_path)


def test_a_version_from_the_future_is_an_expired_one(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
        told = {"message": "Timeout", "details": {"causes": causes}}
        return web.json_response(told, status=504)

    async def scene(api: ApiServer) -> None:
        with pytest.raises(apierrors.ExpiredError):
            await api.get("/")

    play(handler, scene, tmp_path)


def test_a_watch_yields_each_line_as_it_comes(tmp_path: Path) -> None:
    taken = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        assert dict(request.query) == {"a": "b", "watch": "true", "timeoutSeconds": "30"}
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"n": 1}\n')
        await asyncio.wait_for(taken.wait(), 5)
        # A line longer than any buffer on the way.
        await response.write(b'{"n": "' + b"x" * 1_000_000 + b'"}\n')
        return response

    async def scene(api: ApiServer) -> None:
        async with api.watch("/things", (("a", "b"),), 30) as events:
            assert await anext(events) == {"n": 1}
            taken.set()
            assert len((await anext(events))["n"]) == 1_000_000
            assert [event async for event in events] == []

    play(handler, scene, tmp_path)


def test_a_watch_that_is_cut_in_the_middle_is_unreachable(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"n": 1}\n')
        assert request.transport is not None
        request.transport.abort()
        return response

    async def scene(api: ApiServer) -> None:
        with pytest.raises(apierrors.UnreachableError, match=r"watch of /things"):
            async with api.watch("/things", (), 30) as events:
                [event async for event in events]

    play(handler, scene, tmp_path)


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"\xff", b"[" * 100_000])
def test_an_answer_that_is_no_object_is_unreachable(body: bytes, tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body)

    async def scene(api: ApiServer) -> None:
        with pytest.raises(apierrors.UnreachableError):
            await api.get("/")

    play(handler, scene, tmp_path)


def test_nobody_listening_is_unreachable(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({})

    async def run() -> None:
        async with served(handler, tmp_path) as api:
            pass
        configuration = in_cluster(
            {"KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": "1"}, account(tmp_path)
        )
        assert configuration.host == "https://[::1]:1"
        configuration.ssl_ca_cert = None
        api = ApiServer(configuration)
        try:
            with pytest.raises(apierrors.UnreachableError):
                await api.get("/")
        finally:
            await api.close()

    asyncio.run(run())


def test_outside_of_a_pod_the_advice_is_a_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(apierrors.AccessError, match="--kubeconfig"):
        in_cluster({}, tmp_path)
    environ = {"KUBERNETES_SERVICE_HOST": "h", "KUBERNETES_SERVICE_PORT": "1"}
    with pytest.raises(apierrors.AccessError, match="ca.crt is missing"):
        in_cluster(environ, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "users: [", f"users: [{{name: {TOKEN}}}]\n"])
def test_a_kubeconfig_that_cannot_be_read_is_told_without_its_text(
    text: str, tmp_path: Path
) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(apierrors.AccessError) as caught:
        asyncio.run(from_kubeconfig(path))
    assert str(path) in str(caught.value)
    assert TOKEN not in str(caught.value)
