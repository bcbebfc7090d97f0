"""Sticky sources: given up as soon as the host could not send from them any more."""

import asyncio

from wgpy.device.routes import RouteMonitor
from wgpy.protocol.interface import Interface
from wgpy.protocol.path import Path

# A change of routes is looked at at once, and a storm of them this often. Seconds.
_INTERVAL = 0.1
# What was underway to a source that is gone makes it the peer's again. After one was found, the
# looks go on until the next would come later than this. Seconds.
_LATEST = 1.0


class Sources:
    """Follows addresses and routes; `fwmark` is what our datagrams are routed with."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interface: Interface) -> None:
        """Raises OSError."""
        self.fwmark = 0
        self._loop = loop
        self._interface = interface
        self._routes = RouteMonitor()
        self._next_check: asyncio.TimerHandle | None = None
        self._pause = _INTERVAL
        # Since the last change.
        self._found = False
        loop.add_reader(self._routes.fileno(), self._changed)

    def close(self) -> None:
        self._loop.remove_reader(self._routes.fileno())
        self._routes.close()
        if self._next_check is not None:
            self._next_check.cancel()

    def _changed(self) -> None:
        if not self._routes.drain():
            return
        if self._next_check is not None:
            if self._pause == _INTERVAL:
                return
            self._next_check.cancel()
        self._found = self._check()
        self._look_again_after(_INTERVAL)

    def _look_again_after(self, pause: float) -> None:
        self._pause = pause
        self._next_check = self._loop.call_later(pause, self._look_again)

    def _look_again(self) -> None:
        self._next_check = None
        self._found |= self._check()
        if self._found and 2 * self._pause <= _LATEST:
            self._look_again_after(2 * self._pause)

    def _check(self) -> bool:
        """Forget the sources that are gone. True if there were any."""
        checked: dict[Path, bool] = {}

        def valid(path: Path) -> bool:
            if path not in checked:
                checked[path] = self._routes.still_valid(path, self.fwmark)
            return checked[path]

        self._interface.forget_sources(valid)
        return not all(checked.values())
