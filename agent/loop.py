"""The agent at work, over and over: woken by news and by time, a pass, and what it tells."""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from typing import Protocol

from agent.apiserver import Json
from agent.decisions import Identity
from agent.events import Kind
from agent.healing import Remedy
from agent.keeper import Outcome
from agent.metrics import OWN_OBJECT, Metrics
from agent.model import NodeFacts, Problem, WireGuardNode
from agent.network.base import NetworkError
from agent.options import Options
from agent.publisher import Said
from agent.reconcile import Caches, Result
from agent.snapshot import Snapshot, kubernetes_status, lane_views, peer_views

_log = logging.getLogger(__name__)

# Seconds. News that come together are one pass.
_GATHER = 0.05
# Until the next look while something moves, while nothing does, and after a failure; and how many
# times as long as the last one took, so that looking is never what a node is busy with.
_BUSY = 1.0
_CALM = 5.0
_MOST_CALM = 30.0
_FAILED = 1.0
_PAUSE = 20
# A snapshot that is older is taken anew for who asks, if that takes no longer than they wait.
_FRESH = 1.0
_PATIENCE = 5.0
# An agent that has not finished a pass for so long is to be restarted.
_STUCK = 180.0
_DRIFTS = 20
_LOGGED = 10
_EVENT_PER_PEER = 0.5
_TRACE = "`wgpy-agent trace` from a pod here to one there says where it stops"

# What is asked of the worker: which resources to look at, None for all, and whether to rotate.
Reconcile = Callable[[Caches, frozenset[str] | None, bool], Awaitable[Result]]


class Cluster(Protocol):
    """What the loop reads of agent.kube.Kube."""

    @property
    def synced(self) -> bool: ...

    @property
    def connected(self) -> bool: ...

    @property
    def problems(self) -> list[Problem]: ...

    @property
    def nodes(self) -> Mapping[str, NodeFacts]: ...

    @property
    def published(self) -> Mapping[str, WireGuardNode]: ...

    @property
    def confirmed(self) -> WireGuardNode | None: ...


class Speaker(Protocol):
    """What the loop needs of agent.publisher.Publisher."""

    @property
    def problems(self) -> list[Problem]: ...

    def say(self, said: Said) -> None: ...

    def tell(self, kind: Kind, reason: str, message: str) -> None: ...


class Loop:
    """One node's agent, between the caches and the worker.

    `metrics` and `control` are answered from its last pass.
    """

    def __init__(
        self,
        identity: Identity,
        options: Options,
        cluster: Cluster,
        reconcile: Reconcile,
        publisher: Speaker,
        session: float,
        clock: Callable[[], float] = time.monotonic,
        noted: Callable[[Result], None] = lambda result: None,
    ) -> None:
        """`session`: seconds until one is dead; `clock`: the one that `reconcile` goes by.

        `noted` is called with what each pass has come to.
        """
        self._identity = identity
        self._options = options
        self._cluster = cluster
        self._reconcile = reconcile
        self._publisher = publisher
        self._session = session
        self._clock = clock
        self._noted = noted
        self._metrics = Metrics(lambda: self._snapshot, lambda: not self.ready())
        self._woken = asyncio.Event()
        self._passed = asyncio.Condition()
        self._look: set[str] = set()
        self._look_at_all_at = -inf
        self._rotate = False
        self._rotate_at = self._next_rotation()
        # Value of the Node's annotation that has been acted on.
        self._annotation: str | None = None
        self._snapshot: Snapshot | None = None
        self._snapshot_at = -inf
        self._passed_at = clock()
        self._status: Json = {}
        self._unsettled: tuple[str, ...] = ()
        self._said: Said | None = None
        # Errors of the last pass that was not in vain.
        self._errors: frozenset[Problem] = frozenset()
        self._drift: deque[str] = deque(maxlen=_DRIFTS)
        self._healed: deque[str] = deque(maxlen=_DRIFTS)
        # Peers that answer no question through the tunnel.
        self._silent: list[str] = []
        self._heal_event_at = -inf
        # The last pass had to put right what somebody had altered.
        self._fought = False
        self._failure: NetworkError | None = None
        self.problems: list[Problem] = []

    # What others tell the loop.

    def wake(self) -> None:
        """There is news in the caches."""
        self._woken.set()

    def look(self, names: Iterable[str]) -> None:
        """Something may have happened to these resources."""
        self._look.update(names)
        if self._look:
            self._woken.set()

    def rotate(self) -> None:
        """New keys, as soon as may be."""
        self._rotate = True
        self._woken.set()

    def drifted(self, changes: Iterable[str], resource: str = OWN_OBJECT) -> None:
        """Somebody has altered what is ours, and it is put right."""
        self._metrics.drifted(resource)
        for change in changes:
            _log.warning("drift: %s", change)
            self._drift.append(f"{_now()} {change}")
            self._publisher.tell("Warning", "Drift", f"put right: {change}")

    def healed(self, remedies: Iterable[Remedy], silent: list[str]) -> None:
        """Peers did not answer, and this was done; `silent` are those who do not."""
        peers = len(self._snapshot.peers) if self._snapshot else 0
        for remedy in remedies:
            _log.warning("healing: %s", remedy)
            self._metrics.healed(remedy.cure)
            self._healed.append(f"{_now()} {remedy}")
            # When a node goes, all the others notice: together they write two Events a second.
            if self._clock() >= self._heal_event_at:
                self._publisher.tell("Warning", "Healing", str(remedy))
                self._heal_event_at = self._clock() + _EVENT_PER_PEER * peers
        self._silent = silent
        self._woken.set()

    def asked(self, answered: bool) -> None:
        """A peer was asked through the tunnel."""
        self._metrics.asked(answered)

    # What others ask of it.

    def healthy(self) -> str:
        """Why the agent is to be restarted; empty if it is not."""
        silent = self._clock() - self._passed_at
        return f"no pass for {silent:.0f} s" if silent > _STUCK else ""

    def ready(self) -> str:
        """Why pods of this node have no network; empty if they have."""
        if self._snapshot is None:
            return self._failure.what if self._failure else "the cluster is not known yet"
        return f"not in order: {', '.join(self._unsettled)}" if self._unsettled else ""

    async def status(self) -> Json | None:
        """The agent as it is now, or was when it last came to look."""
        await self._refresh()
        return self._snapshot.to_object() if self._snapshot else None

    async def metrics(self) -> bytes:
        """The same in Prometheus' format."""
        await self._refresh()
        return self._metrics.text()

    async def _refresh(self) -> None:
        if self._snapshot is None or self._clock() - self._snapshot_at < _FRESH:
            return
        self._woken.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE), self._passed:
                await self._passed.wait()

    # What it does.

    async def run(self) -> None:
        """Until it is cancelled."""
        while not self._cluster.synced:
            await self._wait(_CALM, _GATHER)
            self._passed_at = self._clock()
        while True:
            began = self._clock()
            wait = await self._pass()
            # News without end leave half of the time to others, and a fight over what is ours more.
            gather = _BUSY if self._fought else min(_BUSY, self._clock() - began)
            await self._wait(wait, max(_GATHER, gather))

    async def _wait(self, seconds: float, gather: float) -> None:
        """For news, at most so long, and then for those that come with them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        await asyncio.sleep(gather)
        # The pass that follows reads the caches before anything else happens.
        self._woken.clear()

    async def _pass(self) -> float:
        """Seconds until the next one is due."""
        began = self._clock()
        look, rotate = self._asked()
        caches = Caches(
            dict(self._cluster.nodes),
            dict(self._cluster.published),
            self._cluster.confirmed,
        )
        try:
            if self._identity.name not in caches.nodes:
                raise NetworkError(
                    f"there is no Node {self._identity.name}: this node is left as it is",
                    "see whether NODE_NAME is the name of this node in Kubernetes",
                )
            result = await self._reconcile(caches, look, rotate)
        except NetworkError as error:
            self._failed(error, look, rotate)
            return _FAILED
        finally:
            self._passed_at = self._clock()
        self._tell(result)
        async with self._passed:
            self._passed.notify_all()
        now = self._clock()
        calm = min(_MOST_CALM, max(_CALM, _PAUSE * (now - began)))
        wait = _BUSY if result.decision.plan.busy else calm
        due_at = min(result.due_at, self._rotate_at, self._look_at_all_at)
        return max(0.0, min(wait, due_at - now))

    def _asked(self) -> tuple[frozenset[str] | None, bool]:
        """What the next pass is to look at, and whether new keys are due."""
        now = self._clock()
        look: frozenset[str] | None = frozenset(self._look)
        self._look.clear()
        if now >= self._look_at_all_at:
            self._look_at_all_at = now + self._options.resync
            look = None
        own = self._cluster.nodes.get(self._identity.name)
        if own is not None and own.rotate != self._annotation:
            # At the start it is what an earlier agent has seen to: a start rotates anyway.
            self._rotate |= self._annotation is not None and own.rotate != ""
            self._annotation = own.rotate
        if now >= self._rotate_at:
            self._rotate_at = self._next_rotation()
            self._rotate = True
        rotate, self._rotate = self._rotate, False
        return look, rotate

    def _next_rotation(self) -> float:
        every = self._options.rotate_every
        # Nodes that were started together need not rotate together.
        return inf if every is None else self._clock() + every * random.uniform(0.9, 1.0)

    def _failed(self, error: NetworkError, look: frozenset[str] | None, rotate: bool) -> None:
        """Nothing was done: all that was asked for is asked again."""
        if self._failure is None or self._failure.what != error.what:
            _log.error("%s", error)
        self._failure = error
        self._rotate |= rotate
        if look is None:
            self._look_at_all_at = -inf
        else:
            self._look |= look
        if self._snapshot is not None:
            problem = Problem("error", error.what, error.advice)
            self._snapshot = replace(self._snapshot, problems=(problem, *self.problems))

    def _tell(self, result: Result) -> None:
        self._failure = None
        self._noted(result)
        self._fought = any(outcome.drift and outcome.changed for outcome in result.outcomes)
        for outcome in result.outcomes:
            self._note(outcome)
        before, plan = self._snapshot, result.decision.plan
        problems = (
            *self.problems,
            *self._publisher.problems,
            *self._cluster.problems,
            *result.problems,
            *result.decision.desired.problems,
            *(
                Problem("warning", f"node {name} does not answer through the tunnel", _TRACE)
                for name in self._silent
            ),
        )
        snapshot = self._snapshot = Snapshot(
            node=self._identity.name,
            version=self._identity.agent_version,
            backend=self._identity.backend,
            connected=self._cluster.connected,
            active_lane=plan.active_lane,
            rotation=plan.rotation,
            lanes=lane_views(plan, result.devices),
            peers=peer_views(plan, result.devices, result.now_ns, self._session),
            problems=tuple(dict.fromkeys(problems)),
            drift=tuple(self._drift),
            healing=tuple(self._healed),
            silent=tuple(self._silent),
            firewall_drops=result.drops,
        )
        self._snapshot_at, self._unsettled = self._clock(), result.unsettled
        self._tell_news(before, snapshot)
        self._status = kubernetes_status(snapshot, self._status, _now())
        if "lanes" not in result.unsettled:
            peers = len(plan.peers)
            self._said = Said(result.decision.publish, self._status, peers)
        elif self._said is not None:
            # Nobody may hear of keys that are not there, but all of the trouble.
            self._said = replace(self._said, status=self._status)
        if self._said is not None:
            self._publisher.say(self._said)

    def _note(self, outcome: Outcome) -> None:
        failed = outcome.error is not None
        changed = outcome.changed
        self._metrics.reconciled(outcome.resource, outcome.seconds, len(changed), failed)
        if outcome.drift and changed:
            self.drifted(changed, outcome.resource)
            return
        for change in changed[:_LOGGED]:
            _log.info("%s: %s", outcome.resource, change)
        if len(changed) > _LOGGED:
            _log.info("%s: and %d more changes", outcome.resource, len(changed) - _LOGGED)

    def _tell_news(self, before: Snapshot | None, now: Snapshot) -> None:
        errors = [problem for problem in now.problems if problem.severity == "error"]
        for problem in errors:
            if problem not in self._errors:
                self._publisher.tell("Warning", "Problem", problem.what)
        self._errors = frozenset(errors)
        if before is None:
            return
        if before.rotation.stage != now.rotation.stage:
            _log.info("rotation: %s, epoch %d", now.rotation.stage, now.rotation.goal)
            if now.rotation.stage == "steady":
                told = f"both lanes have new keys, epoch {now.rotation.goal}"
                self._publisher.tell("Normal", "KeysRotated", told)


def _now() -> str:
    """RFC 3339, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
