"""What the lanes' state machine is told and what it answers. Pure values; all times in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from agent.model import LaneKeys, Problem, WireGuardNode

Stage: TypeAlias = Literal["steady", "drain", "prove"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    # Of who sends on a lane, or would like to.
    keepalive: int = 25
    # How long the others have to shake hands before they are told to move all the same.
    deadline: float = 60.0
    # How long a peer may keep a lane from getting new keys.
    cap: float = 600.0
    # A session is dead after this (REJECT_AFTER_TIME).
    session: float = 180.0

    @property
    def quiet(self) -> float:
        """Silence that means something: two keepalives, and what they may be late."""
        return 2.0 * self.keepalive + 5.0


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """A peer as a device has it."""

    # None: no handshake since either end has its present key.
    handshake_age: float | None
    rx_bytes: int


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A lane's device, read just before a step. No key: there is none, or it has lost it."""

    public_key: bytes | None = None
    peers: Mapping[bytes, PeerFacts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is, as far as this node can see."""

    devices: tuple[DeviceFacts, DeviceFacts]
    # By peer, the lane that the kernel's routes use now; after a failure, as read back.
    routes: Mapping[str, int]
    # Own object as the API has confirmed it.
    published: WireGuardNode | None
    # Others' objects, of Nodes that exist.
    peers: Mapping[str, WireGuardNode]


@dataclass(frozen=True, slots=True)
class PeerPlan:
    """One peer."""

    # By lane, the keys to have on the device; None for no such peer there.
    keys: tuple[LaneKeys | None, LaneKeys | None]
    keepalive: tuple[bool, bool]
    # None: no lane has ever led there.
    route: int | None


@dataclass(frozen=True, slots=True)
class Rotation:
    """Where this node is in a rotation."""

    stage: Stage
    # What `stage` is about.
    lane: int
    # The epoch that both lanes will have.
    goal: int
    # Names of those it waits for.
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be: first the devices, then the routes, then the own object."""

    lanes: tuple[LaneKeys, LaneKeys]
    active_lane: int
    peers: Mapping[str, PeerPlan]
    rotation: Rotation
    problems: tuple[Problem, ...]
    # Something is moving: look again within a second or so, not at the slow resync.
    busy: bool
