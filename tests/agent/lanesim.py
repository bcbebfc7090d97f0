"""A cluster in virtual time: agents' lanes over a small model of WireGuard and of the API.

The model of WireGuard, one second a turn: a session belongs to two devices' present keys and one
preshared key; a new private key and the removal of a peer end sessions; a persistent keepalive is
due when nothing has come or gone for its time; the initiator renews a session after 120 seconds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from agent.lanefacts import DeviceFacts, Facts, PeerFacts, Plan, Timing
from agent.lanes import Lanes
from agent.model import LANES, LaneKeys, WireGuardNode

TIMING = Timing()
_REKEY_AFTER = 120
_REJECT_AFTER = 180
_RETRY = 5
_PASSIVE = 10


class Crash(Exception):
    """The agent has ended here."""


@dataclass(eq=False)
class Session:
    created: int


@dataclass(eq=False)
class Entry:
    """A peer on a device."""

    name: str
    psk: object
    keepalive: bool = False
    sessions: list[Session] = field(default_factory=list)
    initiator: bool = False
    handshake_at: int | None = None
    rx_bytes: int = 0
    traversed_at: int = -1000
    tried_at: int = -1000
    passive_at: int | None = None


@dataclass(eq=False)
class Device:
    """One lane of one node."""

    key: bytes | None = None
    entries: dict[bytes, Entry] = field(default_factory=dict)

    def set(self, key: bytes, wanted: Mapping[bytes, tuple[str, object, bool]]) -> None:
        if key != self.key:
            # All peers begin anew: what they tell of handshakes is about the key that there is.
            self.key = key
            self.entries.clear()
        for gone in [k for k in self.entries if k not in wanted]:
            del self.entries[gone]
        for public, (name, psk, keepalive) in wanted.items():
            entry = self.entries.setdefault(public, Entry(name, psk))
            entry.psk = psk
            if keepalive and not entry.keepalive:
                entry.traversed_at = -1000
            entry.keepalive = keepalive

    def entry_of(self, name: str) -> tuple[bytes, Entry] | None:
        return next(((k, e) for k, e in self.entries.items() if e.name == name), None)


class Wire:
    """All devices, and the paths between them."""

    def __init__(self) -> None:
        self.now = 0
        self.devices: dict[tuple[str, int], Device] = {}
        self.broken: set[frozenset[str]] = set()

    def send(self, source: str, lane: int, target: str, size: int) -> bool:
        """Whether the packet arrives; a handshake comes first where one is due."""
        device = self.devices[source, lane]
        found = device.entry_of(target)
        if found is None or device.key is None:
            return False
        public, entry = found
        entry.traversed_at = self.now
        entry.passive_at = None
        age = self.now - entry.sessions[0].created if entry.sessions else _REJECT_AFTER
        stale = age >= (_REKEY_AFTER if entry.initiator else _REJECT_AFTER)
        if stale and self.now - entry.tried_at >= _RETRY:
            entry.tried_at = self.now
            self._handshake(source, lane, public, entry)
        other = self._other(source, lane, public, entry)
        if other is None or not entry.sessions:
            return False
        if self.now - entry.sessions[0].created >= _REJECT_AFTER:
            return False
        if entry.sessions[0] not in other.sessions:
            return False
        other.rx_bytes += size
        other.traversed_at = self.now
        if size > 32 and other.passive_at is None:
            other.passive_at = self.now + _PASSIVE
        return True

    def _other(self, source: str, lane: int, public: bytes, entry: Entry) -> Entry | None:
        """The receiver's entry for us, when the path holds and it has the key we send to."""
        device, peer = self.devices[source, lane], self.devices.get((entry.name, lane))
        if peer is None or peer.key != public or frozenset({source, entry.name}) in self.broken:
            return None
        other = peer.entries.get(device.key or b"")
        return other if other is not None and other.name == source else None

    def _handshake(self, source: str, lane: int, public: bytes, entry: Entry) -> None:
        other = self._other(source, lane, public, entry)
        if other is None or other.psk != entry.psk:
            return
        session = Session(self.now)
        for end in (entry, other):
            end.sessions[:] = [session, *end.sessions[:1]]
            end.handshake_at = end.traversed_at = self.now
            end.rx_bytes += 92
        entry.initiator, other.initiator = True, False

    def turn(self, keepalive: int) -> None:
        self.now += 1
        for (name, lane), device in self.devices.items():
            for entry in list(device.entries.values()):
                due = entry.keepalive and self.now - entry.traversed_at >= keepalive
                trying = entry.keepalive and not entry.sessions
                passive = entry.passive_at is not None and self.now >= entry.passive_at
                if due or passive or (trying and self.now - entry.tried_at >= _RETRY):
                    self.send(name, lane, entry.name, 32)

    def facts(self, name: str, lane: int) -> DeviceFacts:
        device = self.devices[name, lane]
        peers = {
            key: PeerFacts(
                None if entry.handshake_at is None else float(self.now - entry.handshake_at),
                entry.rx_bytes,
            )
            for key, entry in device.entries.items()
        }
        return DeviceFacts(device.key, peers)


@dataclass(eq=False)
class Agent:
    """What dies with the process."""

    lanes: Lanes
    published: WireGuardNode | None
    objects: dict[str, WireGuardNode]
    psks: dict[tuple[bytes, bytes], object]
    plan: Plan | None = None


class Node:
    """One node; its devices and routes outlive its agent."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self.cluster, self.name = cluster, name
        self.agent: Agent | None = None
        self.running = True
        self.api = True
        self.routes: dict[str, int] = {}
        # Events on their way to us: when, whose, what; in their order.
        self.events: list[tuple[int, str, WireGuardNode]] = []
        self.next_step = 0
        self.work: Iterator[None] | None = None
        self.made = 0
        for lane in LANES:
            cluster.wire.devices[name, lane] = Device()

    def new_keys(self, lane: int, epoch: int) -> LaneKeys:
        self.made += 1
        key = f"{self.name}/{lane}/{epoch}/{self.made}".encode().ljust(32, b".")
        return LaneKeys(key, key, 51871 + lane, epoch)

    def start(self) -> None:
        cluster, wire = self.cluster, self.cluster.wire
        published = cluster.objects.get(self.name)
        devices = [wire.devices[self.name, lane] for lane in LANES]
        first, second = (
            keys if keys is not None and keys.public_key == device.key else None
            for keys, device in zip(
                published.lanes if published else (None, None), devices, strict=True
            )
        )
        self.agent = Agent(
            Lanes(self.new_keys, (first, second), published, TIMING),
            published,
            dict(cluster.objects),
            {
                (device.key or b"", key): entry.psk
                for device in devices
                for key, entry in device.entries.items()
                if entry.handshake_at is not None
            },
        )
        self.events.clear()

    def crash(self) -> None:
        self.agent = self.work = None
        self.running = False

    def step(self, now: int) -> None:
        while self.running and now >= self.next_step:
            self._turn(now)

    def _turn(self, now: int) -> None:
        if self.agent is None:
            if not self.api:
                self.next_step = now + 1
                return
            self.start()
        agent = self.agent
        assert agent is not None
        if self.api:
            while self.events and self.events[0][0] <= now:
                _, name, value = self.events.pop(0)
                agent.objects[name] = value
        if self.work is None:
            self.work = self._work(agent, now)
        try:
            next(self.work)
            self.next_step = now + self.cluster.random.choice((0, 0, 0, 1, 3))
        except (Crash, StopIteration) as end:
            self.work = None
            if isinstance(end, Crash):
                self.agent = None
            busy = agent.plan is None or agent.plan.busy
            self.next_step = now + self.cluster.random.randint(1, 3 if busy else 15)

    def _work(self, agent: Agent, now: int) -> Iterator[None]:
        """One pass of an agent; at each yield the world may go on without it."""
        wire = self.cluster.wire
        first, second = (wire.facts(self.name, lane) for lane in LANES)
        peers = {name: peer for name, peer in agent.objects.items() if name != self.name}
        facts = Facts((first, second), dict(self.routes), agent.published, peers)
        plan = agent.plan = agent.lanes.step(float(now), facts)
        for lane in LANES:
            yield
            self.cluster.maybe_crash()
            self._set_device(agent, plan, lane)
        yield
        self.cluster.maybe_crash()
        self.routes = {n: p.route for n, p in plan.peers.items() if p.route is not None}
        yield
        self.cluster.maybe_crash()
        if self.api:
            self._publish(agent, plan)

    def _set_device(self, agent: Agent, plan: Plan, lane: int) -> None:
        own = plan.lanes[lane]
        wanted: dict[bytes, tuple[str, object, bool]] = {}
        for name, peer in plan.peers.items():
            keys = peer.keys[lane]
            if keys is None:
                continue
            pair = own.public_key, keys.public_key
            psk = agent.psks.setdefault(pair, frozenset({(self.name, own), (name, keys)}))
            wanted[keys.public_key] = name, psk, peer.keepalive[lane]
        device = self.cluster.wire.devices[self.name, lane]
        if device.key is not None and device.key != own.public_key:
            self.cluster.check_rekey(self.name, lane)
        device.set(own.public_key, wanted)

    def _publish(self, agent: Agent, plan: Plan) -> None:
        published = WireGuardNode(self.name, plan.lanes, plan.active_lane)
        if published != self.cluster.objects.get(self.name):
            self.cluster.objects[self.name] = published
            self.cluster.announce(self.name, published)
        self.cluster.maybe_crash()
        agent.published = published


@dataclass(frozen=True)
class Loss:
    at: int
    source: str
    target: str
    lane: int | None


class Cluster:
    """Nodes with traffic between all of them, each flow at its own pace."""

    def __init__(self, count: int, seed: int, crash_rate: float = 0.0, delay: int = 5) -> None:
        self.random = Random(seed)
        self.crash_rate = 0.0
        self.delay = delay
        self.wire = Wire()
        self.objects: dict[str, WireGuardNode] = {}
        self.nodes: dict[str, Node] = {}
        self.losses: list[Loss] = []
        self.sent = 0
        self.crashes = 0
        self.violations: list[str] = []
        self.up: set[tuple[str, str]] = set()
        self.pace: dict[tuple[str, str], int] = {}
        for _ in range(count):
            self.add_node()
        self.run(300)
        assert len(self.up) == count * (count - 1), "the cluster has not come up"
        self.crash_rate = crash_rate

    @property
    def now(self) -> int:
        return self.wire.now

    def add_node(self) -> Node:
        name = f"node-{len(self.nodes)}"
        node = self.nodes[name] = Node(self, name)
        for other in self.nodes:
            self.pace[name, other] = self.random.choice((1, 1, 7, 37, 110, 400))
            self.pace[other, name] = self.random.choice((1, 1, 7, 37, 110, 400))
        return node

    def announce(self, name: str, value: WireGuardNode) -> None:
        """News for everybody else, each late by its own time but in order."""
        for node in self.nodes.values():
            if node.name == name:
                continue
            before = max((e[0] for e in node.events), default=0)
            at = max(before, self.now + self.random.randint(0, self.delay))
            node.events.append((at, name, value))

    def maybe_crash(self) -> None:
        if self.random.random() < self.crash_rate:
            self.crashes += 1
            raise Crash

    def check_rekey(self, name: str, lane: int) -> None:
        """Never re-key a lane that a peer may be sending on."""
        for other in self.nodes.values():
            if other.routes.get(name) == lane and (other.name, name) in self.up:
                self.violations.append(
                    f"{self.now}: {name} re-keys {lane}, {other.name} sends there"
                )

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.wire.turn(TIMING.keepalive)
            for node in self.random.sample(list(self.nodes.values()), len(self.nodes)):
                node.step(self.now)
            self._traffic()

    def _traffic(self) -> None:
        for (source, target), pace in self.pace.items():
            pair = source, target
            if source == target or self.now % pace:
                if pair not in self.up and source != target:
                    self._probe(source, target)
                continue
            lane = self.nodes[source].routes.get(target)
            arrived = lane is not None and self.wire.send(source, lane, target, 128)
            self.sent += 1
            if arrived:
                self.up.add(pair)
            elif pair in self.up:
                self.losses.append(Loss(self.now, source, target, lane))

    def _probe(self, source: str, target: str) -> None:
        lane = self.nodes[source].routes.get(target)
        if lane is not None and self.wire.send(source, lane, target, 128):
            self.up.add((source, target))

    def keys(self) -> set[bytes]:
        return {device.key for device in self.wire.devices.values() if device.key}

    def steady(self) -> bool:
        """All agents run, none rotates, all traffic is at home."""
        return all(
            node.agent is not None
            and node.agent.plan is not None
            and node.agent.plan.rotation.stage == "steady"
            and not node.agent.plan.problems
            and set(node.routes.values()) == {0}
            and len(node.routes) == len(self.nodes) - 1
            for node in self.nodes.values()
        )

    def run_until_steady(self, limit: int) -> int:
        """Seconds that it took."""
        start = self.now
        while not self.steady():
            assert self.now - start < limit, "\n".join(self.describe())
            self.run(1)
        return self.now - start

    def describe(self) -> Iterator[str]:
        for node in self.nodes.values():
            plan = node.agent.plan if node.agent else None
            yield f"{node.name} routes={node.routes} {plan and (plan.rotation, plan.problems)}"
            own = self.objects.get(node.name)
            yield f"   published {own and ([k.epoch for k in own.lanes], own.active_lane)}"
