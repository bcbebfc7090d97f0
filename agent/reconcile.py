"""One pass of the agent: look, decide, bring about. Blocking, for the agent's worker thread."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from os import urandom
from typing import Protocol

from agent.decisions import Decision, Decisions, Devices, Identity, Known
from agent.keeper import Outcome
from agent.lanefacts import Timing
from agent.model import Address, NodeFacts, Problem, WireGuardNode
from agent.topology import Desired
from wgpy.protocol.config import Network

# Seconds: it is a question for each endpoint, and routes of others may change all the time.
_BETWEEN_MEASURES = 5.0


@dataclass(frozen=True, slots=True)
class Caches:
    """The cluster as the API server has told it, all of it in sync."""

    nodes: Mapping[str, NodeFacts]
    published: Mapping[str, WireGuardNode]
    # Own object, as the API server has it.
    confirmed: WireGuardNode | None


@dataclass(frozen=True, slots=True)
class Result:
    """What a pass has come to."""

    decision: Decision
    # Devices as they were before it, and the wall clock then, nanoseconds.
    devices: Devices
    now_ns: int
    outcomes: list[Outcome]
    # Packets that the packet filter has dropped so far, by reason.
    drops: Mapping[str, int]
    problems: tuple[Problem, ...]
    # Resources that are not as they should be, and when to try again, by the monotonic clock.
    unsettled: tuple[str, ...]
    due_at: float


class Host(Protocol):
    """What a pass needs of agent.machine.Machine."""

    @property
    def unsettled(self) -> list[str]: ...

    @property
    def due_at(self) -> float: ...

    def look(self, names: Iterable[str] | None) -> None: ...

    def devices(self) -> Devices: ...

    def routes(self) -> Mapping[Network, int]: ...

    def path_mtus(self, endpoints: Iterable[Address]) -> dict[Address, int]: ...

    def turn(self, desired: Desired) -> list[Outcome]: ...

    def drops(self) -> dict[str, int]: ...

    def problems(self) -> Iterable[Problem]: ...


class Reconciler:
    """Brings this node to what the cluster says that it should be."""

    def __init__(
        self,
        identity: Identity,
        machine: Host,
        clock: Callable[[], float],
        clock_ns: Callable[[], int],
        timing: Timing,
    ) -> None:
        """`clock` is monotonic, seconds; `clock_ns` the wall clock."""
        self._identity = identity
        self._machine = machine
        self._clock = clock
        self._clock_ns = clock_ns
        self._timing = timing
        self._decisions: Decisions | None = None
        self._mtus: dict[Address, int] = {}
        # Of which endpoints, and when all of them.
        self._measured: frozenset[Address] = frozenset()
        self._measured_at = -inf
        self._paths_changed = False

    def reconcile(self, caches: Caches, look: frozenset[str] | None, rotate: bool) -> Result:
        """`look` names what may have changed, resources and "paths"; None: all. NetworkError.

        `rotate` asks for new keys. The first pass adopts what an earlier agent has left.
        """
        self._machine.look(look)
        devices, now_ns = self._machine.devices(), self._clock_ns()
        if self._decisions is None:
            self._decisions = Decisions(
                self._identity, urandom, devices, caches.confirmed, self._timing
            )
        known = Known(
            caches.nodes,
            caches.published,
            devices,
            self._machine.routes(),
            caches.confirmed,
            self._path_mtus(caches.published, look),
        )
        # When nothing can fail any more: who asks again after a failure asks for one rotation.
        if rotate:
            self._decisions.lanes.request_rotation()
        decision = self._decisions.decide(self._clock(), now_ns, known)
        outcomes = self._machine.turn(decision.desired)
        return Result(
            decision,
            devices,
            now_ns,
            outcomes,
            self._machine.drops(),
            tuple(self._machine.problems()),
            tuple(self._machine.unsettled),
            self._machine.due_at,
        )

    def _path_mtus(
        self, published: Mapping[str, WireGuardNode], look: frozenset[str] | None
    ) -> dict[Address, int]:
        """All at each look at everything and when paths change, and those that are new at once."""
        endpoints = frozenset(a for node in published.values() for a in node.endpoints)
        now = self._clock()
        self._paths_changed |= look is not None and "paths" in look
        rested = now - self._measured_at >= _BETWEEN_MEASURES
        if look is None or (self._paths_changed and rested):
            self._mtus = self._machine.path_mtus(endpoints)
            self._measured, self._measured_at, self._paths_changed = endpoints, now, False
        elif endpoints != self._measured:
            known = {a: mtu for a, mtu in self._mtus.items() if a in endpoints}
            self._mtus = known | self._machine.path_mtus(endpoints - self._measured)
            self._measured = endpoints
        return self._mtus
