"""Ask an interface over its unix socket. Blocking, for tools; every wait has an end."""

import contextlib
import errno
import os
import socket
import time
from pathlib import Path

from wgpy.protocol.config import InterfaceChange, InterfaceStats
from wgpy.uapi.paths import DIRECTORY, socket_path
from wgpy.uapi.text import UapiError, format_set, parse_get, raise_errno

# For a whole exchange. A daemon that configures 10,000 peers computes for some seconds.
TIMEOUT = 60.0
# An answer of 10,000 peers and 100,000 allowed IPs takes about 7 MB.
_ANSWER_LIMIT = 1 << 30
_READ_SIZE = 256 * 1024


def get(name: str, timeout: float = TIMEOUT, directory: Path = DIRECTORY) -> InterfaceStats:
    """What interface `name` tells.

    OSError with the file's name: ENOENT and ECONNREFUSED when nobody serves the interface,
    EACCES, ETIMEDOUT, EPROTO for an answer that makes no sense, or the errno it answers.
    """
    path = socket_path(name, directory)
    try:
        # With drops by reason; other implementations hang up on that.
        answer = _exchange(path, "get=2\n\n", timeout) or _exchange(path, "get=1\n\n", timeout)
        return parse_get(answer, socket.if_nametoindex)
    except UapiError as error:
        raise OSError(error.errno, _failure("get", error), os.fspath(path)) from None


def set(
    name: str, change: InterfaceChange, timeout: float = TIMEOUT, directory: Path = DIRECTORY
) -> None:
    """Apply `change` to interface `name`. OSError as for `get`."""
    path = socket_path(name, directory)
    answer = _exchange(path, format_set(change), timeout)
    try:
        key, _, value = answer.rstrip("\n").partition("=")
        if key != "errno":
            raise UapiError(errno.EPROTO, "the answer is no errno line")
        raise_errno(value)
    except UapiError as error:
        raise OSError(error.errno, _failure("set", error), os.fspath(path)) from None


class KeyReader:
    """The keys of an interface's handshakes from now on, as they come. For root alone.

    OSError as for `get`; EOPNOTSUPP for another implementation, which hangs up.
    """

    def __init__(self, name: str, timeout: float = TIMEOUT, directory: Path = DIRECTORY) -> None:
        path = socket_path(name, directory)
        self._partial = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(os.fspath(path))
            self._socket.sendall(b"keys=1\n\n")
            answer = b""
            while not answer.endswith(b"\n\n"):
                byte = self._socket.recv(1)
                if not byte:
                    raise OSError(errno.EOPNOTSUPP, "it does not tell keys")
                answer += byte
            raise_errno(answer.decode("latin-1").rstrip("\n").partition("=")[2])
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            raise OSError(error.errno or errno.EIO, error.strerror, os.fspath(path)) from None
        except UapiError as error:
            self._socket.close()
            raise OSError(error.errno, _failure("keys", error), os.fspath(path)) from None

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def read(self) -> bytes:
        """The handshakes that were told meanwhile, in the format of a key log; none is cut."""
        with contextlib.suppress(BlockingIOError):
            while data := self._socket.recv(_READ_SIZE):
                self._partial += data
        told, end, rest = self._partial.rpartition(b"\n\n")
        self._partial = rest
        return told.replace(b"\n\n", b"\n") + b"\n" if end else b""

    def close(self) -> None:
        self._socket.close()


def _failure(operation: str, error: UapiError) -> str:
    return f"{operation} failed: {error} ({os.strerror(error.errno)})"


def _exchange(path: Path, request: str, timeout: float) -> str:
    """Send a request, receive its answer up to the empty line or the end of the stream."""
    deadline = time.monotonic() + timeout
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(timeout)
            stream.connect(os.fspath(path))
            # Refused before it was whole: the reason is there to be read.
            with contextlib.suppress(BrokenPipeError):
                stream.sendall(request.encode())
            return _receive(stream, deadline).decode("latin-1")
    except TimeoutError:
        message = f"no answer within {timeout:g} seconds"
        raise OSError(errno.ETIMEDOUT, message, os.fspath(path)) from None
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror, os.fspath(path)) from None


def _receive(stream: socket.socket, deadline: float) -> bytes:
    answer = bytearray()
    while not answer.endswith(b"\n\n"):
        stream.settimeout(max(0.001, deadline - time.monotonic()))
        data = stream.recv(_READ_SIZE)
        if not data:
            break
        answer += data
        if len(answer) > _ANSWER_LIMIT:
            raise OSError(errno.EMSGSIZE, "the answer has no end")
    return bytes(answer)
