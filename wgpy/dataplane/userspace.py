"""The plane of userspace daemons: ours is started here, any that speaks UAPI is served."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from errno import EACCES, ECONNREFUSED, EEXIST, EINVAL, EIO, ENODEV, ENOENT, EPERM, ETIMEDOUT
from functools import partial
from pathlib import Path

from wgpy.dataplane.base import DataPlaneError, check_name
from wgpy.dataplane.removal import set_anywhere
from wgpy.protocol.config import InterfaceChange, InterfaceStats
from wgpy.uapi import client
from wgpy.uapi.paths import is_live, live_names, socket_path

# Seconds until a daemon must be ready, and gone.
_START_TIMEOUT = 60.0
_END_TIMEOUT = 30.0
_POLL = 0.02
# What a daemon is told through its environment is for one daemon only.
_DAEMON_VARIABLES = ("WG_TUN_FD", "WG_UAPI_FD", "WG_PROCESS_FOREGROUND")


class UserspacePlane:
    """Daemons with a socket in /var/run/wireguard; see base.DataPlane."""

    def names(self) -> list[str]:
        """Names of the interfaces whose sockets are served, sorted."""
        with _told("userspace interfaces"):
            return live_names()

    def has(self, name: str) -> bool:
        """Whether a daemon serves `name`."""
        check_name(name)
        with _told(name):
            return is_live(socket_path(name))

    def get(self, name: str, patience: float = client.TIMEOUT) -> InterfaceStats:
        """What interface `name` tells, and the public key, which UAPI leaves out."""
        check_name(name)
        with _told(name):
            stats = client.get(name, patience)
        if stats.private_key is None:
            return stats
        # Only here: to load it takes longer than to ask.
        from nacl.bindings import crypto_scalarmult_base

        # bytes(): a Secret is no exact bytes object, which the binding asks for.
        return replace(stats, public_key=crypto_scalarmult_base(bytes(stats.private_key)))

    def set(self, name: str, change: InterfaceChange, patience: float = client.TIMEOUT) -> None:
        """Apply `change`; our daemon does so wholly or not at all."""
        check_name(name)
        with _told(name):
            send = partial(client.set, name, timeout=patience)
            set_anywhere(send, partial(client.get, name, patience), change)

    def create(self, name: str) -> None:
        """Start our daemon and wait until the interface is ready."""
        check_name(name)
        if _exists(name) or self.has(name):
            raise DataPlaneError(EEXIST, f"{name}: an interface of this name exists")
        with _told(name):
            _start_daemon(name)

    def delete(self, name: str) -> None:
        """Remove the socket, which ends the daemon; returns when it and the interface are gone."""
        check_name(name)
        path = socket_path(name)
        deadline = time.monotonic() + _END_TIMEOUT
        with _told(name), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
            held.settimeout(_END_TIMEOUT)
            held.connect(os.fspath(path))
            path.unlink()
            # Nothing is ever said here: the end of the stream is the end of the daemon's service,
            # and so is a reset if it ends before it has answered the call.
            with suppress(ConnectionResetError):
                while held.recv(4096):
                    pass
            while _exists(name):
                if time.monotonic() > deadline:
                    raise TimeoutError(ETIMEDOUT, "its daemon did not end")
                time.sleep(_POLL)


def _exists(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def _start_daemon(name: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in _DAEMON_VARIABLES}
    # The very code that runs here, and nothing from the working directory.
    code = os.fspath(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
    # A file: the daemon may keep its standard error, and a pipe would never end.
    with tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "wgpy", "--", name],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                timeout=_START_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            message = f"{name}: the daemon was not ready within {_START_TIMEOUT:g} seconds"
            raise DataPlaneError(ETIMEDOUT, message) from None
        if done.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            reason = said[-1] if said else f"exit status {done.returncode}"
            raise DataPlaneError(EIO, f"{name}: the daemon did not start: {reason}")


@contextmanager
def _told(what: str) -> Iterator[None]:
    """OSError as DataPlaneError with an explanation."""
    try:
        yield
    except DataPlaneError:
        raise
    except OSError as error:
        raise _explained(what, error) from None


def _explained(what: str, error: OSError) -> DataPlaneError:
    number = error.errno or EINVAL
    if number in (ENOENT, ECONNREFUSED):
        return DataPlaneError(ENODEV, f"{what}: no such userspace interface")
    if number in (EACCES, EPERM):
        return DataPlaneError(number, f"{what}: not permitted", "run as root")
    return DataPlaneError(number, f"{what}: {error.strerror or error}")
