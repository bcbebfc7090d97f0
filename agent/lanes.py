"""When a lane gets new keys, and which lane carries the traffic to each peer. Pure.

Lane 0 is home, lane 1 the spare: nothing flows on the spare but from, or to, a node in rotation.
A rotation gives both lanes new keys and ends at home, in steps that any start may find half done:

    drain   the lane that is not active has old keys: wait until nobody sends on it, re-key it
    prove   it has new keys, and the active lane old ones or is not home: move own routes over as
            handshakes complete; when all are done, or at a deadline, make it the active lane

Why no packet is lost:

- Who sends on a lane keeps it audible (persistent keepalive), and is silent on it once his route
  has left. So two keepalives of silence, of a peer heard on the other lane, say that he has moved.
  We must be silent there as well: a persistent keepalive is not sent where packets come in.
- A node goes to the spare for its own sake only under spare keys that are newer than its last time
  there. So once its new key is on our device it may come (`leaning`), and before that it cannot:
  a lane that is being drained takes no new keys of others.
- A leaning node never waits for others to give up the spare, so nobody waits in a circle.

All times are seconds of one clock, whichever.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf

from agent.lanefacts import Facts, PeerFacts, PeerPlan, Plan, Rotation, Stage, Timing
from agent.model import LANES, LaneKeys, Problem, WireGuardNode, few

HOME, SPARE = LANES


@dataclass(slots=True)
class _Seen:
    """What is remembered of a peer's key on one of our devices."""

    rx_bytes: int
    installed_at: float
    heard_at: float
    # When it last heard us or may have: as long as our route is there, that is now.
    told_at: float


class Lanes:
    """The two lanes of this node.

    `adopted` are the keys that live devices have and others know; a lane without gets new ones
    from `new_keys(lane, epoch)` at once. `published` is the own object of an earlier run.
    """

    def __init__(
        self,
        new_keys: Callable[[int, int], LaneKeys],
        adopted: tuple[LaneKeys | None, LaneKeys | None] = (None, None),
        published: WireGuardNode | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._new_keys = new_keys
        self._timing = timing or Timing()
        last = max(lane.epoch for lane in published.lanes) if published else 0
        first, second = (keys or new_keys(lane, last + 1) for lane, keys in enumerate(adopted))
        self._own = [first, second]
        self._fresh = [keys is None for keys in adopted]
        self._active = published.active_lane if published else HOME
        # What was begun is finished before anything new begins.
        self._goal = max(first.epoch, second.epoch)
        self._requested = False
        # Of the stage, from when others can know of it.
        self._since: float | None = None
        self._seen: tuple[dict[bytes, _Seen], dict[bytes, _Seen]] = ({}, {})
        # Since when each peer's object is as it is.
        self._changed: dict[str, tuple[WireGuardNode, float]] = {}
        self._cut: dict[str, int] = {}

    def request_rotation(self) -> None:
        """Give both lanes new keys, once more if that is being done already."""
        self._requested = True

    def step(self, now: float, facts: Facts) -> Plan:
        """What to do now. Until it is done `facts` will say so; call again then."""
        look = self._observe(now, facts)
        while self._advance(look):
            pass
        stage, lane = self._stage()
        first, second = (self._closed(look, lane) for lane in LANES)
        plans = {name: self._plan(look, name, (first, second)) for name in facts.peers}
        self._note_audible(look, plans)
        waiting = tuple(sorted(self._waiting(look)))
        return Plan(
            lanes=(self._own[HOME], self._own[SPARE]),
            active_lane=self._active,
            peers=plans,
            rotation=Rotation(stage, lane, self._goal, waiting),
            problems=tuple(self._problems(look, waiting)),
            busy=stage != "steady"
            or not self._confirmed(facts)
            or any(self._moving(look, name, plan) for name, plan in plans.items()),
        )

    def _observe(self, now: float, facts: Facts) -> "_Look":
        """Facts of devices that have the keys they should, and what follows from earlier ones."""
        first, second = (
            device.peers if device.public_key == own.public_key else {}
            for device, own in zip(facts.devices, self._own, strict=True)
        )
        look = _Look(now, facts, (first, second), self._timing.session)
        for seen, peers in zip(self._seen, look.peers, strict=True):
            for key in [key for key in seen if key not in peers]:
                del seen[key]
            for key, peer in peers.items():
                if key not in seen:
                    age = peer.handshake_age or 0.0
                    seen[key] = _Seen(peer.rx_bytes, now, now - age, now)
                elif seen[key].rx_bytes != peer.rx_bytes:
                    seen[key].rx_bytes, seen[key].heard_at = peer.rx_bytes, now
        known = self._changed
        self._changed = {
            name: known[name] if name in known and known[name][0] == published else (published, now)
            for name, published in facts.peers.items()
        }
        self._cut = {
            name: lane
            for name, lane in self._cut.items()
            if name in facts.peers and not any(look.live(name, lane) for lane in LANES)
        }
        return look

    def _confirmed(self, facts: Facts) -> bool:
        """Whether others can know how things are."""
        published = facts.published
        return (
            published is not None
            and list(published.lanes) == self._own
            and published.active_lane == self._active
        )

    def _stage(self) -> tuple[Stage, int]:
        other = 1 - self._active
        if self._own[other].epoch < self._goal:
            return "drain", other
        if self._own[self._active].epoch < self._goal or self._active != HOME:
            return "prove", other
        return "steady", self._active

    def _advance(self, look: "_Look") -> bool:
        """One step of the rotation if it is time; whether it was."""
        if not self._confirmed(look.facts):
            self._since = None
            return False
        if self._since is None:
            self._since = look.now
        elapsed = look.now - self._since
        match self._stage():
            case "drain", lane:
                if any(self._leaners(look, lane)):
                    self._since = look.now
                    return False
                holders = list(self._holders(look, lane))
                if holders and elapsed < self._timing.cap:
                    return False
                self._cut |= dict.fromkeys(holders, lane)
                self._own[lane] = self._new_keys(lane, self._goal)
                self._fresh[lane] = True
                look.forget(lane)
            case "prove", lane:
                unproven = len(list(self._unproven(look, lane)))
                # Nobody at all: it is not the others, and they would all be cut.
                hopeless = unproven and not any(look.live(name, lane) for name in look.facts.peers)
                if unproven and (hopeless or elapsed < self._timing.deadline):
                    return False
                self._active = lane
            case _:
                if not self._requested and all(self._fresh):
                    return False
                self._requested = False
                self._goal += 1
        self._since = look.now
        return True

    def _waiting(self, look: "_Look") -> set[str]:
        match self._stage():
            case "drain", lane:
                return {*self._leaners(look, lane), *self._holders(look, lane)}
            case "prove", lane:
                return set(self._unproven(look, lane))
        return set()

    def _leaners(self, look: "_Look", lane: int) -> Iterator[str]:
        """Peers that may come to the spare at any time. Not for ever: an agent may be down."""
        if lane != SPARE:
            return
        longest = self._timing.cap + 2 * self._timing.deadline
        for name, (published, since) in self._changed.items():
            if leaning(published) and look.has(name, SPARE) and look.now - since < longest:
                yield name

    def _holders(self, look: "_Look", lane: int) -> Iterator[str]:
        """Peers that may be sending on a lane, or that we send to on it."""
        for name in look.facts.peers:
            if look.has(name, lane) and self._holds(look, name, lane):
                yield name

    def _holds(self, look: "_Look", name: str, lane: int) -> bool:
        seen = self._seen[lane][look.key(name, lane)]
        elsewhere = self._seen[1 - lane].get(look.key(name, 1 - lane))
        there = elsewhere.heard_at if elsewhere else -inf
        if look.now - max(seen.heard_at, seen.installed_at, there) >= self._timing.cap:
            return False  # gone, and so is all that we send
        if not look.proven(name, lane):
            return look.now - seen.installed_at < self._timing.quiet
        silent = look.now - max(seen.heard_at, seen.told_at)
        # Not heard on either lane: behind a broken path, where it may still send.
        return silent < self._timing.quiet or there <= seen.heard_at

    def _unproven(self, look: "_Look", lane: int) -> Iterator[str]:
        """Peers that can be reached, but not yet on this lane."""
        for name in look.facts.peers:
            if look.live(name, 1 - lane) and not look.live(name, lane):
                yield name

    def _plan(self, look: "_Look", name: str, closed: tuple[bool, bool]) -> PeerPlan:
        first, second = (
            keys if look.has(name, lane) or not closed[lane] else None
            for lane, keys in enumerate(look.facts.peers[name].lanes)
        )
        wanted = self._wanted(look, name)
        current = look.facts.routes.get(name)
        route = _route(look, name, wanted, current)
        audible = {wanted, current, route}
        home, spare = (lane in audible or not look.proven(name, lane) for lane in LANES)
        return PeerPlan((first, second), (home, spare), route)

    def _closed(self, look: "_Look", lane: int) -> bool:
        """Whether a lane takes no new keys of others. Only for a while: they wait for us."""
        if self._stage() != ("drain", lane) or any(self._leaners(look, lane)):
            return False
        return self._since is not None and look.now - self._since < 2 * self._timing.quiet

    def _wanted(self, look: "_Look", name: str) -> int:
        """Where the traffic to a peer belongs: on the spare while either end says so."""
        if look.facts.peers[name].active_lane == SPARE:
            return SPARE
        stage, lane = self._stage()
        return lane if stage == "prove" else self._active

    def _note_audible(self, look: "_Look", plans: Mapping[str, PeerPlan]) -> None:
        for name, plan in plans.items():
            for lane in LANES:
                if plan.keepalive[lane] and look.has(name, lane):
                    self._seen[lane][look.key(name, lane)].told_at = look.now

    def _moving(self, look: "_Look", name: str, plan: PeerPlan) -> bool:
        """Whether something is about to happen between us and a peer."""
        if plan.route != look.facts.routes.get(name) or leaning(look.facts.peers[name]):
            return True
        new = (
            look.now - self._seen[lane][look.key(name, lane)].installed_at < self._timing.deadline
            for lane in LANES
            if look.has(name, lane) and not look.proven(name, lane)
        )
        return any(new)

    def _problems(self, look: "_Look", waiting: tuple[str, ...]) -> Iterator[Problem]:
        for name, lane in sorted(self._cut.items()):
            yield Problem(
                "error",
                f"{name} is cut off: it kept lane {lane} in use for {self._timing.cap:g} s",
                f"see whether the agent on {name} runs and reaches the API server",
            )
        stage, lane = self._stage()
        elapsed = 0.0 if self._since is None else look.now - self._since
        if waiting and elapsed > self._timing.deadline:
            those = few(waiting, ", ")
            yield Problem(
                "warning",
                f"rotation, lane {lane} ({stage}): {elapsed:.0f} s of waiting for {those}",
                "see whether their agents run, and whether UDP reaches both ports of them",
            )


@dataclass(slots=True)
class _Look:
    """The facts of one step, asked by the peer's name."""

    now: float
    facts: Facts
    # By lane and key; empty when the device has not the keys that it should.
    peers: tuple[Mapping[bytes, PeerFacts], Mapping[bytes, PeerFacts]]
    session: float

    def key(self, name: str, lane: int) -> bytes:
        return self.facts.peers[name].lanes[lane].public_key

    def has(self, name: str, lane: int) -> bool:
        """Whether our device has the peer under its present key."""
        return self.key(name, lane) in self.peers[lane]

    def proven(self, name: str, lane: int) -> bool:
        """Whether there has been a handshake between the present keys."""
        return self._age(name, lane) is not None

    def live(self, name: str, lane: int) -> bool:
        """Whether there is a session."""
        age = self._age(name, lane)
        return age is not None and age < self.session

    def _age(self, name: str, lane: int) -> float | None:
        peer = self.peers[lane].get(self.key(name, lane))
        return peer.handshake_age if peer else None

    def forget(self, lane: int) -> None:
        """The lane's keys have just been replaced."""
        first, second = ({} if lane == at else peers for at, peers in enumerate(self.peers))
        self.peers = first, second


def _route(look: _Look, name: str, wanted: int, current: int | None) -> int | None:
    """A route moves only to a live session, and stays where one can be had."""
    if look.live(name, wanted):
        return wanted
    if current is not None and look.has(name, current):
        return current
    return next((lane for lane in LANES if look.live(name, lane)), current)


def leaning(peer: WireGuardNode) -> bool:
    """Whether a node is on the spare, or on its way there."""
    return peer.active_lane == SPARE or peer.lanes[SPARE].epoch > peer.lanes[HOME].epoch
