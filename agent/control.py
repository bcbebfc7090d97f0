"""The running agent's socket, and its client: one JSON object a line, for root alone.

{"do": "status"}    {"ok": true, "status": {...}}    agent.snapshot has the words
{"do": "rotate"}    {"ok": true}
                    {"ok": false, "error": "..."}    when it could not be done
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Json = dict[str, Any]

SOCKET = Path("/run/wgpy/agent.sock")
_TIMEOUT = 10.0
_REQUEST_LIMIT = 4096


class ControlError(Exception):
    """No agent answers, or it refuses; the text says what to do."""


class Control:
    """Answers for an agent."""

    def __init__(
        self, status: Callable[[], Awaitable[Json | None]], rotate: Callable[[], None]
    ) -> None:
        """`status`: None as long as there is none. `rotate` only asks; it does not wait."""
        self._status = status
        self._rotate = rotate

    async def serve(self, listening: socket.socket) -> None:
        """Serve clients of a listening unix socket until it is cancelled."""
        server = await asyncio.start_unix_server(self._client, sock=listening, limit=_REQUEST_LIMIT)
        async with server:
            await server.serve_forever()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, TimeoutError, ValueError):
                async with asyncio.timeout(_TIMEOUT):
                    while line := await reader.readline():
                        writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                        await writer.drain()
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Json:
        try:
            what = json.loads(line)["do"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return {"ok": False, "error": "a request is a JSON object with a key 'do'"}
        match what:
            case "status":
                if (told := await self._status()) is None:
                    return {"ok": False, "error": "the agent has only just started, try again"}
                return {"ok": True, "status": told}
            case "rotate":
                self._rotate()
                return {"ok": True}
        return {"ok": False, "error": f"request {what!r} is not known"}


def ask(path: Path, what: str) -> Json:
    """One request to the agent of this node. Blocking. ControlError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(_TIMEOUT)
            stream.connect(os.fspath(path))
            stream.sendall(json.dumps({"do": what}).encode() + b"\n")
            with stream.makefile("rb") as answers:
                told = json.loads(answers.readline())
    except (FileNotFoundError, ConnectionRefusedError):
        advice = "see whether the agent's pod runs on this node"
        raise ControlError(f"no agent listens at {path}; {advice}") from None
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror or error}") from None
    except ValueError:
        raise ControlError(f"{path}: the agent hung up; see its log") from None
    if not isinstance(told, dict) or not told.get("ok"):
        raise ControlError(str(told.get("error")) if isinstance(told, dict) else "no answer")
    return told
