"""What an agent tells of itself, to operators, Prometheus and Kubernetes alike. Pure values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from agent.adopt import device_facts
from agent.lanefacts import Plan, Rotation
from agent.model import LANES, Problem, few
from wgpy.protocol.config import InterfaceStats, PeerStats

Json = dict[str, Any]
Devices = tuple[InterfaceStats | None, InterfaceStats | None]

# Names in a status; all of them are in `wgpy-agent status`.
_MAX_WAITING = 5000


@dataclass(frozen=True, slots=True)
class LaneView:
    """One lane of this node."""

    number: int
    port: int
    epoch: int
    # Whether the device has the lane's key.
    up: bool
    # Packets by reason, only of our own data plane.
    drops: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PeerLaneView:
    """A peer on one lane."""

    lane: int
    # Seconds; None for never.
    handshake_age: float | None
    rx_bytes: int
    tx_bytes: int
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class PeerView:
    """A peer: the lane that its routes use, and how it is on those that it is configured on."""

    name: str
    route: int | None
    # It can be reached: there is a live session on that lane.
    ready: bool
    lanes: tuple[PeerLaneView, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An agent after one pass."""

    node: str
    version: str
    backend: str
    # The watches at the API server are open.
    connected: bool
    active_lane: int
    rotation: Rotation
    lanes: tuple[LaneView, ...]
    peers: tuple[PeerView, ...]
    problems: tuple[Problem, ...] = ()
    # What was lately found to be other than it should be: time and sentence, the newest last.
    drift: tuple[str, ...] = ()
    # What was lately done for peers that did not answer: time and sentence, the newest last.
    healing: tuple[str, ...] = ()
    # Peers that have answered questions through the tunnel before, and do not any more.
    silent: tuple[str, ...] = ()
    # Packets that the firewall has dropped, by reason.
    firewall_drops: Mapping[str, int] = field(default_factory=dict)

    def to_object(self) -> Json:
        """As JSON."""
        return asdict(self)

    @property
    def ready_peers(self) -> int:
        return sum(peer.ready for peer in self.peers)


def lane_views(plan: Plan, devices: Devices) -> tuple[LaneView, ...]:
    return tuple(
        LaneView(
            number,
            keys.port,
            keys.epoch,
            up=stats is not None and stats.public_key == keys.public_key,
            drops=dict(stats.drops) if stats else {},
        )
        for number, keys, stats in zip(LANES, plan.lanes, devices, strict=True)
    )


def peer_views(plan: Plan, devices: Devices, now_ns: int, session: float) -> tuple[PeerView, ...]:
    """`now_ns`: wall clock; `session`: seconds until a session is dead."""
    known = [{p.public_key: p for p in stats.peers} if stats else {} for stats in devices]
    ages = [
        {key: facts.handshake_age for key, facts in device_facts(stats, now_ns).peers.items()}
        for stats in devices
    ]
    views = []
    for name, peer in sorted(plan.peers.items()):
        lanes = tuple(
            _peer_lane(lane, known[lane][keys.public_key], ages[lane][keys.public_key])
            for lane, keys in enumerate(peer.keys)
            if keys is not None and keys.public_key in known[lane]
        )
        age = next((one.handshake_age for one in lanes if one.lane == peer.route), None)
        views.append(PeerView(name, peer.route, age is not None and age < session, lanes))
    return tuple(views)


def _peer_lane(lane: int, stats: PeerStats, age: float | None) -> PeerLaneView:
    endpoint = stats.endpoint
    told = ""
    if endpoint is not None:
        host = f"[{endpoint.host}]" if endpoint.is_v6 else endpoint.host
        told = f"{host}:{endpoint.port}"
    return PeerLaneView(lane, age, stats.rx_bytes, stats.tx_bytes, told)


def kubernetes_status(snapshot: Snapshot, before: Mapping[str, Any] | None, now: str) -> Json:
    """The status of the own object.

    `before` is the last one, whose times stay where nothing else has changed; `now`: RFC 3339.
    """
    condition = _ready(snapshot)
    known = {one["type"]: one for one in (before or {}).get("conditions", ())}
    last = known.get(condition["type"])
    same = last is not None and last["status"] == condition["status"]
    condition["lastTransitionTime"] = last["lastTransitionTime"] if last and same else now
    rotation = snapshot.rotation
    return {
        "conditions": [condition],
        "peers": {"ready": snapshot.ready_peers, "total": len(snapshot.peers)},
        "rotation": {
            "stage": rotation.stage,
            "lane": rotation.lane,
            "goal": rotation.goal,
            "waiting": list(rotation.waiting)[:_MAX_WAITING],
        },
    }


def _ready(snapshot: Snapshot) -> Json:
    errors = [problem for problem in snapshot.problems if problem.severity == "error"]
    down = [str(lane.number) for lane in snapshot.lanes if not lane.up]
    missing = [peer.name for peer in snapshot.peers if not peer.ready]
    told = few([p.what for p in snapshot.problems if p.severity != "info"])
    if errors:
        return _condition("False", "Problems", told)
    if down:
        return _condition("False", "LanesDown", f"no device for lane {', '.join(down)}; {told}")
    if missing:
        return _condition("False", "PeersMissing", f"no session with {few(missing)}; {told}")
    # Old API servers refuse an empty text.
    return _condition("True", "AllPeers", told or "every peer has a session")


def _condition(status: str, reason: str, message: str) -> Json:
    message = message.removesuffix("; ")
    return {"type": "Ready", "status": status, "reason": reason, "message": message}
