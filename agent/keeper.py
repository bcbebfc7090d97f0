"""One resource of this node, and when to look at it again. Blocking; the clock is the caller's."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

from agent.network.base import NetworkError, Resource

_log = logging.getLogger(__name__)

Desired = TypeVar("Desired")
# Seconds after a failure until the next try, and after many.
_FIRST = 0.5
_MOST = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One turn of a keeper."""

    resource: str
    # How long it took, seconds.
    seconds: float
    changed: tuple[str, ...] = ()
    # What was changed is not what was newly wanted: others have altered it.
    drift: bool = False
    error: NetworkError | None = None


class Keeper(Generic[Desired]):
    """Brings `resource` to what is desired when that changes, when told to look, and on failure.

    A failure is tried again by itself, later and later; what else happens to the resource does not
    hasten it, as most of that is our own doing.
    """

    def __init__(self, resource: Resource[Desired], clock: Callable[[], float]) -> None:
        self.name = resource.name
        self.error: NetworkError | None = None
        self._resource = resource
        self._clock = clock
        self._desired: Desired | None = None
        # The last that was brought about.
        self._made: Desired | None = None
        self._altered = False
        self._due_at = -inf
        self._failures = 0

    @property
    def settled(self) -> bool:
        """It is as desired, as far as this node has heard since."""
        return self._desired is not None and self._due_at == inf

    @property
    def due_at(self) -> float:
        """When to take a turn; infinite if nothing happens before."""
        return self._due_at if self._desired is not None else inf

    def want(self, desired: Desired) -> None:
        """From now on."""
        if desired != self._desired:
            self._desired = desired
            self._due_at = -inf

    def look(self, *, altered: bool = False) -> None:
        """Something may have happened to it, or, if it is `altered`, has."""
        self._altered |= altered
        if self.error is None:
            self._due_at = -inf

    def turn(self) -> Outcome | None:
        """Bring it into order if that is due."""
        desired, began = self._desired, self._clock()
        if desired is None or began < self._due_at:
            return None
        drift = self._altered or desired == self._made
        try:
            changed = tuple(self._resource.reconcile(desired))
        except NetworkError as error:
            self._fail(error)
            took = self._clock() - began
            return Outcome(self.name, took, error.changed, drift, error)
        if self.error is not None:
            _log.info("%s: in order again", self.name)
        self.error, self._failures = None, 0
        self._made, self._due_at, self._altered = desired, inf, False
        return Outcome(self.name, self._clock() - began, changed, drift)

    def _fail(self, error: NetworkError) -> None:
        # Once for each trouble, not for each try.
        if self.error is None or self.error.what != error.what:
            _log.error("%s: %s", self.name, error)
        self.error = error
        self._due_at = self._clock() + min(_MOST, _FIRST * 2.0 ** min(self._failures, 16))
        self._failures += 1
