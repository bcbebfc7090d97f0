"""The listening socket of an interface: private from birth, one server per name."""

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path

from wgpy.uapi.paths import DIRECTORY, is_live, socket_path

_BACKLOG = 64


def listen(name: str, directory: Path = DIRECTORY) -> socket.socket:
    """Bind and listen on interface `name`'s socket, making a private directory if it is missing.

    A stale socket is replaced. OSError EADDRINUSE if another process serves the name, EEXIST if
    something that is no socket is in the way.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = socket_path(name, directory)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux gives the file the mode of the unbound socket: there is no moment of a wider one.
        os.fchmod(listener.fileno(), 0o600)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Two daemons that find the same stale socket must not replace each other's new one.
            fcntl.flock(lock, fcntl.LOCK_EX)
            _refuse_others(path)
            # wg(8) unlinks a socket that refuses it: this one listens before it has its name.
            unborn = path.with_name(f".{name}.new")
            unborn.unlink(missing_ok=True)
            listener.bind(os.fspath(unborn))
            listener.listen(_BACKLOG)
            unborn.rename(path)
        finally:
            os.close(lock)
    except BaseException:
        listener.close()
        raise
    return listener


def _refuse_others(path: Path) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "not a socket, remove it", os.fspath(path))
    if is_live(path):
        raise OSError(errno.EADDRINUSE, "another process serves this interface", os.fspath(path))


def from_fd(fd: int) -> tuple[socket.socket, Path | None]:
    """A socket that already listens, as WG_UAPI_FD hands it over; its descriptor is taken over.

    With its path, unless it has no file, or an abstract name. OSError EBADF, ENOTSOCK or EINVAL
    if `fd` is anything else; it stays open then.
    """
    listener = socket.socket(fileno=fd)
    if (
        listener.family != socket.AF_UNIX
        or listener.type != socket.SOCK_STREAM
        or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        listener.detach()
        raise OSError(errno.EINVAL, f"descriptor {fd} is not a listening unix stream socket")
    address = listener.getsockname()
    return listener, Path(address) if isinstance(address, str) and address else None
