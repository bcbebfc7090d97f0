"""The API server's address on the underlay, and what can go wrong on the way to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")
_CHUNK = 1 << 16


class Relay:
    """Passes connections from sockets that listen inside a namespace on to `host` and `port`.

    TLS goes through untouched, so a client sees the API server's own certificate.
    """

    def __init__(self, listening: list[socket.socket], host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._refusing = False
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._servers = [self._call(self._listen(one)) for one in listening]

    async def _listen(self, listening: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(self._pass, sock=listening)

    def cut(self) -> None:
        """Drop all connections, watches among them; new ones are served."""
        self._call(self._cut())

    def lead_to(self, port: int) -> None:
        """Drop all connections; new ones go to another port of that host."""
        self._port = port
        self.cut()

    def refuse(self, refusing: bool) -> None:
        """Drop all connections and close new ones at once, until it is called with False."""
        self._refusing = refusing
        self.cut()

    def close(self) -> None:
        for server in self._servers:
            self._loop.call_soon_threadsafe(server.close)
        self.refuse(True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _cut(self) -> None:
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self._refusing:
                there = await asyncio.open_connection(self._host, self._port)
                try:
                    await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
                finally:
                    there[1].close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
