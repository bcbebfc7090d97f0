"""An API server that has a bad day: a proxy in front of the real one, which spoils some answers."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
from aiohttp import web

from tests.cluster.api import Json
from tests.cluster.controlplane import ControlPlane

T = TypeVar("T")
_REASONS = {
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}
_PASSED_ON = ("Authorization", "Content-Type", "Accept", "User-Agent")


@dataclass(frozen=True)
class Call:
    """One request, as far as it tells them apart."""

    verb: str  # get, list, watch, create, patch
    resource: str  # nodes, secrets, ...


# What is done to a request: nothing, a status to refuse it with, or seconds to wait before.
Spoil = Callable[[Call], int | float | None]


class Trouble:
    """Serves on `port` of loopback until it is closed; `calls` counts what has come."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.calls: Counter[Call] = Counter()
        self._spoil: Spoil = lambda call: None
        # Lists as they were, while old ones are served.
        self._old: dict[str, bytes] | None = None
        self._control_plane = control_plane
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port: int = self._call(self._start())

    def spoil(self, how: Spoil) -> None:
        """From now on."""
        self._spoil = how

    def heal(self) -> None:
        self._spoil = lambda call: None
        self._old = None

    def serve_old_lists(self) -> None:
        """Whoever lists gets what the first one got from now on."""
        self._old = {}

    def close(self) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, coroutine: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _start(self) -> int:
        plane = self._control_plane
        there = ssl.create_default_context(cafile=str(plane.ca))
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=there, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        here = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        here.load_cert_chain(plane.directory / "server.crt", plane.directory / "server.key")
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=here).start()
        return int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        call = _call_of(request)
        self.calls[call] += 1
        spoilt = self._spoil(call)
        if isinstance(spoilt, float):
            await asyncio.sleep(spoilt)
        elif spoilt is not None:
            return _refusal(spoilt, call)
        if call.verb == "list" and self._old is not None and request.path in self._old:
            return web.Response(
                body=self._old[request.path], headers={"Content-Type": "application/json"}
            )
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        url = f"https://127.0.0.1:{self._control_plane.port}{request.raw_path}"
        try:
            async with self._client.request(
                request.method, url, headers=headers, data=await request.read()
            ) as response:
                return await self._pass_on(request, call, response)
        except aiohttp.ClientError:
            return _refusal(503, call)

    async def _pass_on(
        self, request: web.Request, call: Call, response: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        kind = {"Content-Type": response.headers.get("Content-Type", "application/json")}
        if call.verb != "watch":
            body = await response.read()
            if call.verb == "list" and self._old is not None:
                self._old.setdefault(request.path, body)
            return web.Response(body=body, status=response.status, headers=kind)
        told = web.StreamResponse(status=response.status, headers=kind)
        await told.prepare(request)
        with suppress(aiohttp.ClientError, ConnectionError):
            async for line in response.content:
                await told.write(line)
        return told


def _call_of(request: web.Request) -> Call:
    parts = [part for part in request.path.split("/") if part]
    parts = parts[2:] if parts[:1] == ["api"] else parts[3:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    named = len(parts) > 1
    verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(request.method, "get")
    if verb == "get" and not named:
        verb = "watch" if request.query.get("watch") == "true" else "list"
    resource = "/".join([parts[0], *parts[2:]]) if parts else ""
    return Call(verb, resource)


def _refusal(status: int, call: Call) -> web.Response:
    """As an API server says it; in a watch it is an event of a stream that began well."""
    told: Json = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": _REASONS[status],
        "message": f"spoilt: {_REASONS[status]}",
        "code": status,
    }
    headers = {"Content-Type": "application/json"}
    if call.verb == "watch" and status == 410:
        line = json.dumps({"type": "ERROR", "object": told}) + "\n"
        return web.Response(text=line, headers=headers)
    if status == 429:
        headers["Retry-After"] = "1"
    return web.Response(text=json.dumps(told), status=status, headers=headers)
