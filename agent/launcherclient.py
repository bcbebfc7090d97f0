"""The agent's side of the launcher's socket (agent.launcher has the words). Blocking."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.network.base import NetworkError

# A daemon takes a few seconds to start on a busy machine; the launcher waits for 60.
_TIMEOUT = 70.0
_ADVICE = "see whether the data plane's pod (`wgpy-agent dataplane`) runs on this node"


class LauncherClient:
    """Asks the launcher that listens on `path`; a backend.Starter."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def probe(self) -> str:
        """Why it can run no daemon, empty if it can. NetworkError."""
        return str(self._ask({"do": "probe"})["reason"])

    def start(self, name: str) -> bool:
        """Make the daemon of interface `name` run; whether it is a new one. NetworkError."""
        return bool(self._ask({"do": "start", "name": name})["new"])

    def end(self, name: str) -> None:
        """Kill the daemon of interface `name`. NetworkError."""
        self._ask({"do": "end", "name": name})

    def daemons(self) -> dict[str, int]:
        """Process id of each daemon, by its interface. NetworkError."""
        return dict(self._ask({"do": "list"})["daemons"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._told(), self._connect() as stream:
            return _exchange(stream, request)

    def _connect(self) -> socket.socket:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            stream.settimeout(_TIMEOUT)
            stream.connect(os.fspath(self._path))
        except BaseException:
            stream.close()
            raise
        return stream

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise NetworkError(f"launcher at {self._path}: {reason}", _ADVICE) from None


def _exchange(stream: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
    """One request, one line of answer."""
    stream.sendall(json.dumps(request).encode() + b"\n")
    with stream.makefile("rb") as answers:
        answer = answers.readline()
    if not answer.endswith(b"\n"):
        raise ValueError("it hung up")
    told: dict[str, Any] = json.loads(answer)
    if not told["ok"]:
        raise ValueError(told["error"])
    return told
