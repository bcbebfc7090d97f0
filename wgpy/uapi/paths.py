"""Where UAPI sockets live, and which of them are alive."""

import errno
import os
import socket
import stat
from pathlib import Path

DIRECTORY = Path("/var/run/wireguard")
_SUFFIX = ".sock"


def socket_path(name: str, directory: Path = DIRECTORY) -> Path:
    """The socket of interface `name`."""
    return directory / f"{name}{_SUFFIX}"


def is_live(path: Path) -> bool:
    """Whether somebody listens on `path`. OSError where that cannot be told (EACCES)."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(os.fspath(path))
    except BlockingIOError:
        # A listener with a full backlog.
        return True
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            return False
        raise
    return True


def live_names(directory: Path = DIRECTORY) -> list[str]:
    """Names of the interfaces whose sockets are served, sorted."""
    try:
        found = sorted(directory.glob(f"*{_SUFFIX}"))
    except FileNotFoundError:
        return []
    return [path.name.removesuffix(_SUFFIX) for path in found if is_live(path)]
