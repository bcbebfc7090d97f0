"""Notice at once that a file has left its place (inotify through ctypes)."""

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

# linux/inotify.h
_IN_MOVED_FROM = 0x40
_IN_MOVED_TO = 0x80
_IN_DELETE = 0x200
_IN_DELETE_SELF = 0x400
_IN_MOVE_SELF = 0x800
_IN_ONLYDIR = 0x01000000
_EVENTS = _IN_MOVED_FROM | _IN_MOVED_TO | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
_LEFT = _IN_MOVED_FROM | _IN_DELETE
# Watch, mask, cookie, length of the name that follows.
_EVENT = struct.Struct("iIII")
_READ_SIZE = 64 * 1024


class FileWatch:
    """Calls `on_gone` once when `path` no longer names the file that it named at first.

    OSError if the file is missing or inotify is exhausted. Needs a running event loop.
    """

    def __init__(self, path: Path, on_gone: Callable[[], None]) -> None:
        self._path = path
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._gone = False
        self._fd = _inotify_on(path.parent)
        try:
            self._identity = _identity(path)
            if self._identity is None:
                raise FileNotFoundError(f"{path} is gone")
        except BaseException:
            os.close(self._fd)
            raise
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        if not self.in_place():
            self.close()
            self._on_gone()

    def in_place(self) -> bool:
        """Whether the path has named the same file all the time."""
        if not self._gone:
            # A new file may have the number of the old one, and events may be lost to an overflow.
            self._gone = self._left_by_event() or _identity(self._path) != self._identity
        return not self._gone

    def _left_by_event(self) -> bool:
        try:
            events = os.read(self._fd, _READ_SIZE)
        except BlockingIOError:
            return False
        name = os.fsencode(self._path.name)
        return any(mask & _LEFT and found == name for mask, found in _parse_events(events))

    def close(self) -> None:
        """Stop watching; may be called again."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def _parse_events(events: bytes) -> Iterator[tuple[int, bytes]]:
    """Mask and file name of each event."""
    position = 0
    while position < len(events):
        _, mask, _, size = _EVENT.unpack_from(events, position)
        position += _EVENT.size
        yield mask, events[position : position + size].rstrip(b"\0")
        position += size


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _inotify_on(directory: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1 failed")
    if libc.inotify_add_watch(fd, os.fsencode(directory), ctypes.c_uint32(_EVENTS)) < 0:
        number = ctypes.get_errno()
        os.close(fd)
        raise OSError(number, os.strerror(number), os.fspath(directory))
    return fd
