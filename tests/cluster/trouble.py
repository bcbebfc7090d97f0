"""An API server that has a bad day: a proxy in front of the real one, which spoils some answers."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from base64 import urlsafe_b64decode
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable
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
    """What is asked for, as far as it tells that apart."""

    verb: str  # get, list, watch, create, patch
    resource: str  # nodes, secrets, ...


@dataclass(frozen=True)
class Request:
    """One call: when it came, by the monotonic clock, and the pod that made it."""

    at: float
    pod: str
    call: Call
    # It was refused, made to wait, or got an old list.
    spoilt: bool


# What is done to a request: nothing, a status to refuse it with, or seconds to wait before.
Spoil = Callable[[Call], int | float | None]


class Trouble:
    """Serves on `port` of loopback until it is closed; `requests` are those that have come."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.requests: list[Request] = []
        self._spoil: Spoil = lambda call: None
        # Lists as they were, while old ones are served.
        self._old: dict[str, bytes] | None = None
        self._control_plane = control_plane
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port: int = self._call(self._start())

    @property
    def calls(self) -> Counter[Call]:
        """How often each was made."""
        return Counter(request.call for request in self.requests)

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
        # Of connections that are still being closed.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        call = _call_of(request)
        spoilt = self._spoil(call)
        old = (self._old or {}).get(request.path) if call.verb == "list" else None
        self.requests.append(
            Request(time.monotonic(), _pod_of(request), call, (spoilt, old) != (None, None))
        )
        if isinstance(spoilt, float):
            await asyncio.sleep(spoilt)
        elif spoilt is not None:
            return _refusal(spoilt, call)
        if old is not None:
            return web.Response(body=old, headers={"Content-Type": "application/json"})
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


def busiest(requests: Iterable[Request], seconds: float) -> dict[str, int]:
    """By pod, the most requests that it made in any stretch of time of that length."""
    most: Counter[str] = Counter()
    last: defaultdict[str, deque[float]] = defaultdict(deque)
    for request in requests:
        times = last[request.pod]
        times.append(request.at)
        while times[0] <= request.at - seconds:
            times.popleft()
        most[request.pod] = max(most[request.pod], len(times))
    return dict(most)


def _pod_of(request: web.Request) -> str:
    """Whose token it is (a JWT, bound to a pod); empty for others."""
    try:
        claims = request.headers["Authorization"].split(".")[1]
        told = json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return str(told["kubernetes.io"]["pod"]["name"])
    except (KeyError, IndexError, ValueError):
        return ""


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
