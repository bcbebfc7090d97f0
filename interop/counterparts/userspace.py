"""Implementations that are a command: `COMMAND INTERFACE`, configured over their UAPI socket.

A word of the command that holds `{keylog}` gets the path of a file in its place, beside the log,
which the implementation is to write session keys to (Wireshark's `wg.keylog_file`).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from interop.cache import CannotFetch, debian
from interop.counterparts.base import Implementation, Running, Unavailable
from interop.netns import Namespace, stop
from interop.shell import CommandFailed, ScenarioFailed, run, wait_until

_SOCKETS = Path("/var/run/wireguard")
_KEYLOG = "{keylog}"
_STARTS = 3
# What wireguard-go says then.
_LOST = "Failed to listen on uapi socket: no such file or directory"
_READY = 240.0
"""Seconds a daemon may take from its start to its answer to `wg show`: a guest is slow, and more
so on a busy machine."""


class Daemon(Running):
    """A daemon in the foreground, and what it must not leave behind."""

    def __init__(self, process: subprocess.Popen[bytes], interface: str, log: Path) -> None:
        self.process = process
        self._socket = _SOCKETS / f"{interface}.sock"
        self._log = log
        self._ended = False

    def stop(self) -> None:
        """SIGTERM.

        :raises ScenarioFailed: it had ended by itself, or its socket outlives it.
        """
        if self._ended:
            self._socket.unlink(missing_ok=True)
            return
        self._ended = True
        status = self.process.poll()
        stop(self.process)
        left_behind = self._socket.exists()
        self._socket.unlink(missing_ok=True)
        if status is not None:
            words = self._log.read_text(errors="replace").strip()[-300:]
            raise ScenarioFailed(f"{self.process.args!r} ended by itself ({status}): {words}")
        if left_behind:
            raise ScenarioFailed(f"{self.process.args!r} left its socket behind after SIGTERM")

    def crash(self) -> None:
        self._ended = True
        self.process.kill()
        self.process.wait()


class Userspace(Implementation):
    """`command` may hold arguments; the interface name is added as the last."""

    def __init__(self, name: str, command: str) -> None:
        self.name = name
        self.command = shlex.split(command)
        self.logs_keys = any(_KEYLOG in word for word in self.command)

    def executable(self) -> str:
        """:raises Unavailable: no such command."""
        path = shutil.which(self.command[0])
        if path is None:
            raise Unavailable(f"no command {self.command[0]!r}")
        return path

    def version(self) -> str:
        try:
            options = [word for word in self.command[1:] if _KEYLOG not in word]
            words = run(self.executable(), *options, "--version").splitlines()
        except CommandFailed as error:
            return f"unknown ({error})"[:80]
        return words[0].split()[-1] if words else "unknown"

    def start(self, interface: str, namespace: Namespace, log: Path) -> Running:
        for _ in range(_STARTS):
            try:
                return self._start(interface, namespace, log)
            except _LostSocket:
                continue
        return self._start(interface, namespace, log)

    def _start(self, interface: str, namespace: Namespace, log: Path) -> Running:
        keys = str(log.with_suffix(".keys"))
        options = [word.replace(_KEYLOG, keys) for word in self.command[1:]]
        argv = [self.executable(), *options, interface]
        shown = f"{self.command[0].rpartition('/')[2]} {interface}"
        with log.open("ab") as output:
            process = namespace.start(
                *argv,
                output=output,
                environment={
                    "WG_PROCESS_FOREGROUND": "1",
                    "LOG_LEVEL": os.environ.get("LOG_LEVEL", "verbose"),
                },
            )

        def ready() -> bool:
            if process.poll() is not None:
                words = log.read_text(errors="replace").strip()[-1000:]
                kind = _LostSocket if words.endswith(_LOST) else ScenarioFailed
                raise kind(f"{shown} ended at once: {words}")
            with contextlib.suppress(CommandFailed):
                namespace.run("wg", "show", interface)
                return True
            return False

        wait_until(f"{shown} answers `wg show`", ready, _READY)
        return Daemon(process, interface, log)


class _LostSocket(ScenarioFailed):
    """`wg`, asked for all interfaces at this moment, removes a socket that does not listen yet."""


class DebianDaemon(Userspace):
    """A daemon as some Debian suite packages it, unpacked in the cache."""

    def __init__(self, package: str, suite: str) -> None:
        super().__init__(f"{package}-{suite}", package)
        self.package = package
        self.suite = suite

    def executable(self) -> str:
        try:
            root, _ = debian(self.package, self.suite)
        except CannotFetch as error:
            raise Unavailable(str(error)) from None
        return str(root / "usr" / "bin" / self.package)

    def version(self) -> str:
        self.executable()
        return debian(self.package, self.suite)[1]
