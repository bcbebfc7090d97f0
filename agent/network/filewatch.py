"""Changes in a directory, by inotify(7); Python has no module for it."""

import ctypes
import os
from pathlib import Path
from struct import Struct

# linux/inotify.h: written, attributes, moved from, moved to, deleted, the directory itself gone.
_MASK = 0x8 | 0x4 | 0x40 | 0x80 | 0x200 | 0x400 | 0x800
_OF_DIRECTORY = 0x400 | 0x800 | 0x4000 | 0x8000
_EVENT = Struct("=iIII")
_READ_SIZE = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class FileWatch:
    """Readable (`fileno`) when something has happened in a directory."""

    def __init__(self, directory: Path, name: str | None = None) -> None:
        """Only the file `name` counts, if one is given. OSError, ENOENT: no such directory."""
        self._name = os.fsencode(name) if name is not None else None
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), directory)
        try:
            watch = _libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK)
            _checked(watch, directory)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._fd)

    def fileno(self) -> int:
        return self._fd

    def changed(self) -> bool:
        """Whether what counts may have changed since the last call; never blocks."""
        changed = False
        try:
            while True:
                changed |= self._concerned(os.read(self._fd, _READ_SIZE))
        except BlockingIOError:
            return changed

    def _concerned(self, data: bytes) -> bool:
        position, found = 0, False
        while position < len(data):
            _, mask, _, size = _EVENT.unpack_from(data, position)
            position += _EVENT.size
            name = data[position : position + size].rstrip(b"\0")
            position += size
            found |= self._name in (None, name) or bool(mask & _OF_DIRECTORY)
        return found


def _checked(result: int, directory: Path) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(directory))
    return result
