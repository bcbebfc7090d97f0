"""The keepers of one node, in the order in which they take their turns. Blocking."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from agent.keeper import Keeper, Outcome
from agent.model import Problem
from agent.network.base import Resource


class Keepers:
    """Each resource by itself, as soon as all that it needs is in order."""

    def __init__(
        self,
        resources: Iterable[Resource[Any]],
        needs: Mapping[str, tuple[str, ...]],
        clock: Callable[[], float],
    ) -> None:
        """`resources` in their order; `needs`: by name, those before it that must be in order."""
        self._keepers = {resource.name: Keeper[Any](resource, clock) for resource in resources}
        self._needs = needs

    def __getitem__(self, name: str) -> Keeper[Any]:
        return self._keepers[name]

    def look(self, names: Iterable[str] | None = None) -> None:
        """At these resources, or at all of them, in the next turn."""
        for name in self._keepers if names is None else names:
            if name in self._keepers:
                self._keepers[name].look()

    def turn(self) -> list[Outcome]:
        """Bring into order what is due."""
        outcomes = []
        for keeper in self._keepers.values():
            outcome = keeper.turn() if self._may(keeper) else None
            if outcome is not None:
                outcomes.append(outcome)
        return outcomes

    @property
    def unsettled(self) -> list[str]:
        """Names of the resources that are not as they were desired last."""
        return [name for name, keeper in self._keepers.items() if not keeper.settled]

    @property
    def due_at(self) -> float:
        """When the next of them is due."""
        return min(keeper.due_at for keeper in self._keepers.values() if self._may(keeper))

    def problems(self) -> Iterator[Problem]:
        """What could not be brought into order."""
        for keeper in self._keepers.values():
            if keeper.error is not None:
                yield Problem("error", f"{keeper.name}: {keeper.error.what}", keeper.error.advice)

    def _may(self, keeper: Keeper[Any]) -> bool:
        return all(self._keepers[need].settled for need in self._needs.get(keeper.name, ()))
