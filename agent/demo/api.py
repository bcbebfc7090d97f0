"""The Kubernetes API over HTTPS, as much of it as the agent uses, from a `Store`.

GET of an object and of a list (one page), watch from a version with bookmarks, POST, merge patch,
server-side apply with dry run, the status subresource, DELETE for the administrator. A node's token
reads and writes what the manifests' Roles and admission policy allow it. No schemas.

`tests/agent/apiconformance.py` holds it to what kube-apiserver does, with the same tests for both.
kmock 0.8, the in-memory server that PyPI has, fails 24 of those 28, so it is not used: objects have
no uid, nothing has a resourceVersion; a watch tells all that is there whatever version it was asked
from, and ends by neither time nor error, without bookmarks; every PATCH merges into what exists,
so that an apply makes nothing, removes nothing and is no dry run, and a status is no subresource;
its own server has no TLS, and nothing asks for a token. With an adapter for all that a dict would
be left of it.
"""

import asyncio
import json
import re
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from aiohttp import web

from agent.demo.store import Json, Refused, Store, name_of
from agent.kube import NODES, PUBLISHED

T = TypeVar("T")
_PATH = re.compile(
    r"(?P<collection>/(api/v1|apis/[^/]+/[^/]+)(/namespaces/[^/]+(?=/[^/]+))?/[^/]+)"
    r"(/(?P<name>[^/]+)(/(?P<part>[^/]+))?)?"
)
EVENTS = "/api/v1/namespaces/default/events"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
# Seconds between two bookmarks of a watch that has nothing to tell, and its longest life.
_BOOKMARK = 10.0
_LONGEST = 600.0


class Api:
    """Serves nodes by their tokens, in a thread of its own, until it is closed."""

    def __init__(self, history: int = 1000) -> None:
        """`history`: how many events a watch may lag behind."""
        self._store = Store(_now, history)
        self._store.changed = self._wake_all
        self._nodes: dict[str, str] = {}
        self._watches: set[asyncio.Event] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api", daemon=True)
        self._thread.start()
        self._runner: web.AppRunner | None = None

    def start(self, listening: socket.socket, tls: ssl.SSLContext) -> None:
        """Serve on a bound socket from now on."""
        asyncio.run_coroutine_threadsafe(self._serve(listening, tls), self._loop).result()

    def token(self, node: str) -> str:
        """A new one for that node's agent; for the administrator, if none is named."""
        token = secrets.token_hex(16)
        self._nodes[token] = node
        return token

    def do(self, what: Callable[[Store], T]) -> T:
        """With the store, from another thread, as the cluster's administrator. Refused."""

        async def done() -> T:
            return what(self._store)

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result()

    def close(self) -> None:
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, listening: socket.socket, tls: ssl.SSLContext) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        # What is still being watched at the end ends with it.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.SockSite(self._runner, listening, ssl_context=tls).start()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._do(request, self._node(request))
        except Refused as refusal:
            told = status(refusal)
            return web.json_response(told, status=refusal.status)

    def _node(self, request: web.Request) -> str:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self._nodes:
            raise Refused(401, "Unauthorized", "no token of this cluster")
        return self._nodes[token]

    async def _do(self, request: web.Request, node: str) -> web.StreamResponse:
        if request.path == "/version":
            return web.json_response({"gitVersion": "v1.30.0-demo"})
        found = _PATH.fullmatch(request.path)
        if found is None:
            raise Refused(404, "NotFound", f"there is no {request.path}")
        if request.method != "GET":
            return await self._change(request, node, found)
        collection, name = found["collection"], found["name"]
        check(node, "GET", collection, name or "", found["part"])
        if name is not None:
            return web.json_response(self._store.get(collection, name))
        if request.query.get("watch") == "true":
            return await self._watch(request, collection)
        metadata = {"resourceVersion": str(self._store.version)}
        items = self._store.find(collection)
        return web.json_response({"kind": "List", "metadata": metadata, "items": items})

    async def _change(
        self, request: web.Request, node: str, found: re.Match[str]
    ) -> web.StreamResponse:
        body = await _body(request)
        name = found["name"] or name_of(body)
        check(node, request.method, found["collection"], name, found["part"])
        created = 201 if request.method == "POST" else 200
        return web.json_response(self._write(request, body, found), status=created)

    def _write(self, request: web.Request, body: Json, found: re.Match[str]) -> Json:
        collection, name = found["collection"], found["name"]
        match request.method, name, found["part"], request.content_type:
            case "POST", None, None, _:
                return self._store.create(collection, body)
            case "DELETE", str(), None, _:
                return self._store.delete(collection, name)
            case "PATCH", str(), None, kind if kind == _MERGE:
                return self._store.merge(collection, name, body)
            case "PATCH", str(), None, kind if kind == _APPLY:
                dry = request.query.get("dryRun") == "All"
                return self._store.apply(collection, name, body, dry_run=dry)
            case "PATCH", str(), "status", kind if kind == _APPLY:
                return self._store.apply_status(collection, name, body)
        raise Refused(405, "MethodNotAllowed", f"{request.method} of this is not served")

    async def _watch(self, request: web.Request, collection: str) -> web.StreamResponse:
        version = int(request.query.get("resourceVersion") or self._store.version)
        loop = asyncio.get_running_loop()
        end = loop.time() + min(_LONGEST, float(request.query.get("timeoutSeconds", _LONGEST)))
        woken = asyncio.Event()
        self._watches.add(woken)
        try:
            # An old version is refused before the answer begins.
            events, version = self._store.since(version, collection)
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            with suppress(ConnectionError):
                while True:
                    await response.write(b"".join(map(_line, events)))
                    left = end - loop.time()
                    if left <= 0 or (events and events[-1]["type"] == "ERROR"):
                        break
                    with suppress(TimeoutError):
                        async with asyncio.timeout(min(_BOOKMARK, left)):
                            await woken.wait()
                    woken.clear()
                    events, version = self._next(version, collection)
            return response
        finally:
            self._watches.discard(woken)

    def _next(self, version: int, collection: str) -> tuple[list[Json], int]:
        try:
            events, version = self._store.since(version, collection)
        except Refused as refusal:
            return [{"type": "ERROR", "object": status(refusal)}], self._store.version
        return events or [bookmark(version)], version

    def _wake_all(self) -> None:
        for woken in self._watches:
            woken.set()


def check(node: str, method: str, collection: str, name: str, part: str | None) -> None:
    """Refused: a node's agent may not do it; the manifests' Roles and admission policy say what.

    No node: the administrator, who may do everything.
    """
    own = {PUBLISHED: name == node, EVENTS: name.startswith(f"{node}.")}
    match method, part:
        case "GET", None:
            allowed = collection in (NODES, PUBLISHED)
        case "POST" | "PATCH", None:
            allowed = own.get(collection, False)
        case "PATCH", "status":
            allowed = collection == PUBLISHED and name == node
        case _:
            allowed = False
    if node and not allowed:
        raise Refused(403, "Forbidden", f"{node} may not {method} {collection}/{name}")


def bookmark(version: int) -> Json:
    """The event that tells nothing but how far the watch is."""
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}


def status(refusal: Refused) -> Json:
    """A refusal as Kubernetes tells it."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": refusal.reason,
        "code": refusal.status,
        "message": str(refusal),
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _body(request: web.Request) -> Json:
    try:
        body = json.loads(await request.read() or "{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(400, "BadRequest", "the body is no JSON object")
    return body


def _line(event: Json) -> bytes:
    return json.dumps(event).encode() + b"\n"
