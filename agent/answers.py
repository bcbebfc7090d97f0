"""What the lanes' devices tell, and what becomes of a daemon that tells nothing. Blocking.

One that hangs would keep its agent from all else, pass after pass. So it is waited for a little
each time and taken to be as it was, and when that lasts it is ended: then its lane is not there,
as if the daemon had died.
"""

import logging
from collections.abc import Callable, Iterator
from errno import EAGAIN, ECONNRESET, ENODEV, ETIMEDOUT

from agent.model import Problem
from agent.network.base import NetworkError
from wgpy import dataplane
from wgpy.dataplane import DataPlaneError
from wgpy.protocol.config import InterfaceStats

_log = logging.getLogger(__name__)

# Seconds that a daemon may take to tell, and of silence until it is ended.
TELLS = 5.0
_HUNG = 30.0
# No answer in time, or not even to those who asked before.
_SILENT = (ETIMEDOUT, EAGAIN)
# A daemon that ends at this very moment hangs up.
_GONE = (ENODEV, ECONNRESET)


class Answers:
    """Of the lanes `names`, whose daemons `end` kills; None if nobody here can."""

    def __init__(
        self,
        names: tuple[str, ...],
        end: Callable[[str], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._names = names
        self._end = end
        self._clock = clock
        # The last that each has told, and since when one is silent.
        self._told: dict[str, InterfaceStats] = {}
        self._silent: dict[str, float] = {}
        # Why one could not be ended.
        self._unending: dict[str, NetworkError] = {}

    def ask(self) -> dict[str, InterfaceStats]:
        """What each tells, or told before it fell silent; not those that are not there.

        NetworkError if one cannot tell, or has never told.
        """
        for name in self._names:
            try:
                self._told[name] = dataplane.get_interface(name, TELLS)
                self._unending.pop(name, None)
                self._silent.pop(name, None)
            except DataPlaneError as error:
                if error.errno in _GONE:
                    self._forget(name)
                elif error.errno in _SILENT:
                    self._note_silence(name)
                else:
                    raise NetworkError(error.message, error.advice) from None
        return dict(self._told)

    def _note_silence(self, name: str) -> None:
        since = self._silent.setdefault(name, self._clock())
        if self._end is not None and self._clock() - since >= _HUNG:
            try:
                self._end(name)
            except NetworkError as error:
                self._unending[name] = error
            else:
                _log.error("%s: its daemon did not answer, and is ended", name)
                self._forget(name)
                return
        if name not in self._told:
            self.expect(name)

    def _forget(self, name: str) -> None:
        self._told.pop(name, None)
        self._silent.pop(name, None)
        self._unending.pop(name, None)

    def expect(self, name: str) -> None:
        """NetworkError if it has not answered when it was asked last."""
        if name in self._silent:
            raise NetworkError(_what(name), self._advice(name))

    def problems(self) -> Iterator[Problem]:
        """Who is silent, and what is done."""
        for name in self._silent:
            yield Problem("error", _what(name), self._advice(name))

    def _advice(self, name: str) -> str:
        if error := self._unending.get(name):
            return f"kill it: {error.what}"
        return f"after {_HUNG:g} seconds another takes its place" if self._end else "kill it"


def _what(name: str) -> str:
    return f"{name}: its daemon does not answer"
