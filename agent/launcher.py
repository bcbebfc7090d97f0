"""`wgpy-agent dataplane`: the process that userspace daemons live under.

It has no part in anything else, so that an agent can be killed, restarted and upgraded while the
daemons go on. It starts and ends a daemon when it is asked to, and never restarts one by itself:
a new daemon has no keys, and only the agent can give them. The agent sees a daemon end by its link.

Over a unix socket, one JSON object a line:

    {"do": "probe"}                     {"ok": true, "reason": ""}
    {"do": "start", "name": "wgpy0"}    {"ok": true, "new": true}
    {"do": "end", "name": "wgpy0"}      {"ok": true}
    {"do": "list"}                      {"ok": true, "daemons": {"wgpy0": 4711}}
                                        {"ok": false, "error": "..."} when it could not be done
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from errno import EADDRINUSE, ENODEV
from pathlib import Path
from typing import Any

from wgpy import dataplane
from wgpy.dataplane import DataPlaneError

_log = logging.getLogger(__name__)

SOCKET = Path("/run/wgpy/dataplane.sock")
# Seconds until a daemon must be ready, and gone.
_START_TIMEOUT = 60.0
_END_TIMEOUT = 10.0
_POLL = 0.02
_REQUEST_LIMIT = 4096
# What a daemon is told through its environment is for one daemon only.
_DAEMON_VARIABLES = ("WG_TUN_FD", "WG_UAPI_FD", "WG_PROCESS_FOREGROUND")


class LauncherRefusal(Exception):
    """A request that cannot be done; its text goes to the client."""


class Launcher:
    """The daemons of this node, by the interface that each serves."""

    def __init__(self) -> None:
        self._daemons: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Two requests for one interface start one daemon.
        self._starting = asyncio.Lock()

    async def serve(self, listening: socket.socket, ended: asyncio.Event) -> None:
        """Serve clients of a listening unix socket until `ended`; then end all daemons."""
        server = await asyncio.start_unix_server(self._client, sock=listening, limit=_REQUEST_LIMIT)
        try:
            await ended.wait()
        finally:
            server.close()
            await self._end_all()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while line := await reader.readline():
                    writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                    await writer.drain()
        except ValueError:
            _log.warning("a client sent a line of more than %d bytes", _REQUEST_LIMIT)
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": True, **await self._do(line)}
        except LauncherRefusal as error:
            return {"ok": False, "error": str(error)}

    async def _do(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            what, name = request["do"], request.get("name")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise LauncherRefusal("a request is a JSON object with a key 'do'") from None
        match what:
            case "probe":
                return {"reason": dataplane.probe().userspace_reason}
            case "start" if isinstance(name, str):
                async with self._starting:
                    return {"new": await self._start(name)}
            case "end" if isinstance(name, str):
                await self._end(name)
                return {}
            case "list":
                return {"daemons": {name: daemon.pid for name, daemon in self._daemons.items()}}
        raise LauncherRefusal(f"request {what!r} is not known")

    async def _start(self, name: str) -> bool:
        """Whether it is a new one."""
        if await self._serves(name):
            return False
        daemon = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "wgpy", "--foreground", "--", name),
            env=_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            # A signal for us from a terminal is not for it.
            start_new_session=True,
        )
        self._daemons[name] = daemon
        task = asyncio.create_task(self._note_end(name, daemon))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT
        while not await self._serves(name):
            if daemon.returncode is not None:
                status = daemon.returncode
                raise LauncherRefusal(f"{name}: its daemon ended with status {status}, see its log")
            if asyncio.get_running_loop().time() > deadline:
                daemon.kill()
                raise LauncherRefusal(f"{name}: not ready within {_START_TIMEOUT:g} seconds")
            await asyncio.sleep(_POLL)
        _log.info("%s: daemon %d is ready", name, daemon.pid)
        return True

    async def _end(self, name: str) -> None:
        """One that does not answer does not end by itself either."""
        daemon = self._daemons.get(name)
        if daemon is None:
            raise LauncherRefusal(f"{name}: its daemon was not started here")
        _log.warning("%s: daemon %d is killed, as the agent asks for it", name, daemon.pid)
        with contextlib.suppress(ProcessLookupError):
            daemon.kill()
        await daemon.wait()

    async def _serves(self, name: str) -> bool:
        """Whether an interface answers: its daemon's socket is there before its device is."""
        try:
            await asyncio.to_thread(dataplane.get_interface, name)
        except DataPlaneError as error:
            ending = self._daemons.get(name)
            if error.errno == ENODEV or (ending is not None and ending.returncode is not None):
                return False
            raise LauncherRefusal(str(error)) from None
        return True

    async def _note_end(self, name: str, daemon: asyncio.subprocess.Process) -> None:
        status = await daemon.wait()
        if self._daemons.get(name) is daemon:
            del self._daemons[name]
        level = logging.WARNING if status else logging.INFO
        _log.log(level, "%s: daemon %d has ended with status %d", name, daemon.pid, status)

    async def _end_all(self) -> None:
        daemons = list(self._daemons.values())
        for daemon in daemons:
            with contextlib.suppress(ProcessLookupError):
                daemon.terminate()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=_END_TIMEOUT)
        if late:
            for daemon in daemons:
                with contextlib.suppress(ProcessLookupError):
                    daemon.kill()
            await asyncio.wait(late)


def run(path: Path = SOCKET) -> int:
    """Serve on `path` until SIGTERM or SIGINT. OSError if it cannot be listened on."""
    listening = listen(path)
    try:
        asyncio.run(_run(listening))
    finally:
        path.unlink(missing_ok=True)
    return 0


async def _run(listening: socket.socket) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await Launcher().serve(listening, ended)


def listen(path: Path) -> socket.socket:
    """A socket for root alone. OSError EADDRINUSE if another process serves it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is_served(path):
        raise OSError(EADDRINUSE, "another process serves it", os.fspath(path))
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Never open to others, not even for a moment.
        before = os.umask(0o177)
        try:
            listening.bind(os.fspath(beside))
        finally:
            os.umask(before)
        listening.listen()
        # It listens before it has its name: nobody who sees it is refused.
        os.replace(beside, path)
    except BaseException:
        listening.close()
        beside.unlink(missing_ok=True)
        raise
    return listening


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _environment() -> dict[str, str]:
    """The daemon runs the very code that runs here."""
    kept = {k: v for k, v in os.environ.items() if k not in _DAEMON_VARIABLES}
    code = os.fspath(Path(__file__).parents[1])
    paths = filter(None, [code, kept.get("PYTHONPATH")])
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}
