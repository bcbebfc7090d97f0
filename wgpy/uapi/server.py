"""Serve a device's configuration on its unix socket.

Each connection is a task of its own that yields to the event loop after every few lines, so that
neither a long request nor a stuck client holds up the tunnel or other clients. A request is
applied as a whole when its empty line has come.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from errno import EINVAL, EPERM, EPROTO
from pathlib import Path
from typing import Protocol

from wgpy.protocol.config import ConfigError, InterfaceChange, InterfaceStats
from wgpy.uapi.lines import LineReader
from wgpy.uapi.text import SetParser, UapiError, format_errno, get_lines
from wgpy.uapi.watch import FileWatch

_log = logging.getLogger(__name__)

# Lines of an answer that are made between two turns of the loop: less than a millisecond.
_ANSWER_LINES = 256
# Bytes of keys that a client has not read before it is given up.
_KEYS_LIMIT = 1024 * 1024
# struct ucred: process, user, group.
_UCRED = struct.Struct("3i")


class Configurable(Protocol):
    """What the server needs of a device."""

    def configure(self, change: InterfaceChange) -> None:
        """Apply `change` wholly, or raise ConfigError and apply nothing."""

    def snapshot(self) -> InterfaceStats:
        """The present state."""

    def follow_keys(self, write: Callable[[bytes], None]) -> Callable[[], None]:
        """Tell the keys of every handshake; returns what ends it."""


class UapiServer:
    """Answers on `listener` for `device`; owns the listener and its socket file, if it has one.

    `on_deleted` is called once if the file is deleted or replaced by others: the daemon should
    end then. OSError from `start` if the file is already gone.
    """

    def __init__(
        self,
        listener: socket.socket,
        path: Path | None,
        device: Configurable,
        on_deleted: Callable[[], None],
    ) -> None:
        self._listener = listener
        self._path = path
        self._device = device
        self._on_deleted = on_deleted
        self._server: asyncio.Server | None = None
        self._watch: FileWatch | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to accept connections."""
        if self._path is not None:
            self._watch = FileWatch(self._path, self._on_deleted)
        self._server = await asyncio.start_unix_server(self._serve, sock=self._listener)

    async def close(self) -> None:
        """Remove the socket file if it is still ours, stop accepting and end all connections."""
        if self._path is not None and self._watch is not None:
            if self._watch.in_place():
                self._path.unlink()
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
            lines = LineReader(reader)
            while await self._answer(lines, writer):
                pass
        except (ConnectionError, asyncio.CancelledError):
            # The client has left, or the server ends: nobody is there to be answered.
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, lines: LineReader, writer: asyncio.StreamWriter) -> bool:
        """Serve the next request; False when there can be no further one."""
        go_on = True
        try:
            operation = await lines.begin()
            if operation is None:
                return False
            if operation in ("get=1", "get=2"):
                await self._get(lines, writer, drops=operation == "get=2")
            elif operation == "keys=1":
                await self._keys(lines, writer)
                return False
            elif operation == "set=1":
                await self._set(lines)
                writer.write(format_errno(0).encode())
            else:
                raise UapiError(EPROTO, "expected get=1 or set=1", 1)
        except ConfigError as error:
            _log.warning("configuration request refused: %s", error)
            # At once: a client may wait for the answer before it ends its request.
            writer.write(format_errno(error.errno).encode())
            go_on = await lines.skip_request()
        await writer.drain()
        return go_on

    async def _get(self, lines: LineReader, writer: asyncio.StreamWriter, *, drops: bool) -> None:
        if await lines.next():
            raise UapiError(EINVAL, "expected an empty line after get=1", 2)
        chunk: list[str] = []
        for line in get_lines(self._device.snapshot(), drops=drops):
            chunk.append(line)
            if len(chunk) == _ANSWER_LINES:
                writer.write("".join(chunk).encode())
                chunk.clear()
                await writer.drain()
                await asyncio.sleep(0)
        writer.write("".join(chunk).encode())

    async def _keys(self, lines: LineReader, writer: asyncio.StreamWriter) -> None:
        """Tell root the keys of all handshakes, each with an empty line, until the client leaves.

        Of our own making: see Device.follow_keys. A socket may have been handed to others.
        """
        if await lines.next():
            raise UapiError(EINVAL, "expected an empty line after keys=1", 2)
        if _user_of(writer) != 0:
            raise UapiError(EPERM, "keys are for root alone")

        def write(told: bytes) -> None:
            if writer.is_closing():
                return
            writer.write(told + b"\n")
            if writer.transport.get_write_buffer_size() > _KEYS_LIMIT:
                writer.transport.abort()

        writer.write(format_errno(0).encode())
        end = self._device.follow_keys(write)
        try:
            await lines.begin()
        finally:
            end()

    async def _set(self, lines: LineReader) -> None:
        parser = SetParser(socket.if_nametoindex)
        while line := await lines.next():
            parser.feed(line)
        self._device.configure(parser.finish())


def _user_of(writer: asyncio.StreamWriter) -> int:
    """Who is at the other end of a unix socket."""
    peer: socket.socket = writer.get_extra_info("socket")
    told = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    user: int = _UCRED.unpack(told)[1]
    return user
