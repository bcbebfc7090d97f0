"""Serve a device's configuration on its unix socket.

Each connection is a task of its own that yields to the event loop after every few lines, so that
neither a long request nor a stuck client holds up the tunnel or other clients.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

from wgpy.protocol.config import ConfigError, InterfaceChange, InterfaceStats
from wgpy.uapi.text import SetParser, UapiError, get_lines
from wgpy.uapi.watch import FileWatch

_log = logging.getLogger(__name__)

# A request of 10,000 peers and 100,000 allowed IPs takes about 7 MB.
_REQUEST_LIMIT = 64 * 1024 * 1024
_LINE_LIMIT = 4096
# Lines are parsed in runs of this many bytes, a few milliseconds each.
_READ_SIZE = 16 * 1024
_WRITE_SIZE = 64 * 1024


class Configurable(Protocol):
    """What the server needs of a device."""

    def configure(self, change: InterfaceChange) -> None:
        """Apply `change` wholly, or raise ConfigError or OSError and apply nothing."""

    def snapshot(self) -> InterfaceStats:
        """The present state."""


class UapiServer:
    """Answers on `listener` for `device`; owns the listener and its socket file.

    `on_deleted` is called once if the file is deleted or replaced by others: the daemon should
    end then. OSError from `start` if the file is already gone.
    """

    def __init__(
        self, listener: socket.socket, device: Configurable, on_deleted: Callable[[], None]
    ) -> None:
        self._listener = listener
        self._device = device
        self._on_deleted = on_deleted
        self._server: asyncio.Server | None = None
        self._watch: FileWatch | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to accept connections."""
        address = self._listener.getsockname()
        # A socket inherited from a supervisor may have no file, or an abstract name.
        if isinstance(address, str) and address:
            self._watch = FileWatch(Path(address), self._on_deleted)
        self._server = await asyncio.start_unix_server(
            self._serve, sock=self._listener, limit=_LINE_LIMIT
        )

    async def close(self) -> None:
        """Remove the socket file if it is still ours, stop accepting and end all connections."""
        if self._watch is not None:
            if self._watch.in_place():
                os.unlink(self._listener.getsockname())
            self._watch.close()
            self._watch = None
        if self._server is not None:
            self._server.close()
            self._server = None
        self._listener.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._operation(_lines(reader), writer):
                pass
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()
