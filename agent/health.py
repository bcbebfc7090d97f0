"""/healthz, /readyz and /metrics over HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

# Why not; empty for all is well.
Check = Callable[[], str]
Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def served(
    host: str, port: int, healthy: Check, ready: Check, metrics: Callable[[], Awaitable[bytes]]
) -> AsyncIterator[int]:
    """Serve while the block runs; the port, of use when 0 was asked for. OSError.

    `healthy`: if not, the agent is restarted. `ready`: pods of this node are connected.
    """
    application = web.Application(client_max_size=0)
    application.router.add_get("/healthz", _checked(healthy))
    application.router.add_get("/readyz", _checked(ready))
    application.router.add_get("/metrics", _told(metrics))
    runner = web.AppRunner(application, access_log=None, keepalive_timeout=15)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _checked(check: Check) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        reason = check()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    return answer


def _told(
    metrics: Callable[[], Awaitable[bytes]],
) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=await metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer
