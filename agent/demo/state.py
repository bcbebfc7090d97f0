"""What the demo has to show, apart from how. Plain values; the story writes, the screen reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Mood: TypeAlias = Literal["off", "starting", "up"]


@dataclass(slots=True)
class Lane:
    """One of a node's two interfaces."""

    # The first letters of its public key.
    key: str
    epoch: int
    active: bool = False


@dataclass(slots=True)
class Machine:
    """A node."""

    name: str
    address: str
    mood: Mood = "off"
    plane: str = ""
    lanes: tuple[Lane, ...] = ()
    pod: str = ""
    peers: tuple[int, int] = (0, 0)
    stage: str = ""
    # Its agent hears nothing from these.
    silent: tuple[str, ...] = ()


@dataclass(slots=True)
class Step:
    """Something that is to be seen; `seconds` when it was."""

    text: str
    verdict: Literal["running", "seen", "missed"] = "running"
    seconds: float = 0.0
    details: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Count:
    """Of one flow."""

    sent: int
    received: int
    lost: int
    # Its sender or receiver is switched off, or was.
    excused: bool = False


@dataclass(slots=True)
class State:
    """All of it. Numbers of nodes are keys, from 1."""

    machines: dict[int, Machine] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    flows: Mapping[tuple[int, int], Count] = field(default_factory=dict)
    # Frames on the underlay by kind, see agent.demo.capture.
    frames: Mapping[str, int] = field(default_factory=dict)
    # Of those in the clear, how many were said on purpose.
    control: int = 0
    clear: bytes = b""
    cipher: bytes = b""
    seconds: float = 0.0
    # A word on how it ended; empty as long as it has not.
    verdict: str = ""

    @property
    def lost(self) -> int:
        """Datagrams for whose loss there is no excuse."""
        return sum(flow.lost for flow in self.flows.values() if not flow.excused)

    @property
    def leaked(self) -> int:
        """Frames in the clear that nobody has said on purpose."""
        return max(0, self.frames.get("clear", 0) - self.control)
