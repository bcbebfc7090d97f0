"""Sticky sources: given up as soon as the host could not send from them any more."""

import asyncio

from wgpy.device.routes import RouteMonitor
from wgpy.protocol.interface import Interface
from wgpy.protocol.path import Path

# A change of routes is looked at at once, a storm of them this often. Seconds.
_INTERVAL = 0.1


class Sources:
    """Follows addresses and routes; `fwmark` is what our datagrams are routed with."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interface: Interface) -> None:
        """Raises OSError."""
        self.fwmark = 0
        self._loop = loop
        self._interface = interface
        self._routes = RouteMonitor()
        self._next_check: asyncio.TimerHandle | None = None
        loop.add_reader(self._routes.fileno(), self._changed)

    def close(self) -> None:
        self._loop.remove_reader(self._routes.fileno())
        self._routes.close()
        if self._next_check is not None:
            self._next_check.cancel()

    def _changed(self) -> None:
        if self._routes.drain() and self._next_check is None:
            self._check()
            self._next_check = self._loop.call_later(_INTERVAL, self._settled)

    def _settled(self) -> None:
        # Whatever changed since the first look.
        self._next_check = None
        self._check()

    def _check(self) -> None:
        checked: dict[Path, bool] = {}

        def valid(path: Path) -> bool:
            if path not in checked:
                checked[path] = self._routes.still_valid(path, self.fwmark)
            return checked[path]

        self._interface.forget_sources(valid)
