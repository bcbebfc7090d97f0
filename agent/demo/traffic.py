"""Every pod talks to every pod, and what became of it."""

import json
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from agent.demo.lab import Namespace
from agent.demo.shell import Child

# Reports of a sender after which what it had sent by then must have come: a second's worth.
_LATE = 4


@dataclass(frozen=True, slots=True)
class Flow:
    """What one pod sent to another in a round."""

    sent: int = 0
    received: int = 0
    # Of what was sent a while ago.
    lost: int = 0


class End:
    """One pod's talker and its last reports."""

    def __init__(self, number: int, rate: float, pod: Namespace) -> None:
        self.child: Child = pod.python("agent.demo.talker", str(number), str(rate))
        self.reports: deque[dict[str, Any]] = deque(maxlen=_LATE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.reports.append(json.loads(line))

    def tell(self, round_: int, to: dict[int, str]) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps({"round": round_, "to": to}).encode() + b"\n")
        self.child.stdin.flush()

    def sent(self, round_: int, other: int, back: int) -> int:
        """How much to another pod, as of `back` reports ago."""
        if len(self.reports) < back:
            return 0
        report = self.reports[-back]
        return int(report["sent"].get(str(other), 0)) if report["round"] == round_ else 0

    def received(self, round_: int, other: int) -> int:
        if not self.reports or self.reports[-1]["round"] != round_:
            return 0
        return int(self.reports[-1]["received"].get(str(other), 0))


class Traffic:
    """In rounds: the counts begin anew with each."""

    def __init__(self, rate: float) -> None:
        """`rate`: datagrams a second, from each pod to each other."""
        self._rate = rate
        self._round = 0
        self._ends: dict[int, End] = {}
        self._addresses: dict[int, str] = {}

    def join(self, number: int, pod: Namespace, address: str) -> None:
        """A pod, or one that takes the place of another; it listens from now on."""
        self._ends[number] = End(number, self._rate, pod)
        self._addresses[number] = address

    def leave(self, number: int) -> None:
        """A pod that is gone; the others do not know, and go on."""
        del self._ends[number]

    @property
    def listening(self) -> bool:
        """All of them."""
        return all(end.reports for end in self._ends.values())

    def begin(self) -> None:
        """A new round."""
        self._round += 1
        self.talk()

    def talk(self) -> None:
        """All go on with the round; one that has just joined begins."""
        for number, end in self._ends.items():
            end.tell(self._round, {n: a for n, a in self._addresses.items() if n != number})

    def hush(self) -> None:
        """No more is sent; what is on its way arrives and counts."""
        for end in self._ends.values():
            end.tell(self._round, {})

    def flows(self) -> dict[tuple[int, int], Flow]:
        """By sender and receiver."""
        return {
            (one, other): self._flow(one, other)
            for one in tuple(self._addresses)
            for other in tuple(self._addresses)
            if one != other
        }

    def _flow(self, one: int, other: int) -> Flow:
        sender, receiver = self._ends.get(one), self._ends.get(other)
        received = receiver.received(self._round, one) if receiver else 0
        if sender is None:
            return Flow(0, received, 0)
        due = sender.sent(self._round, other, _LATE)
        return Flow(sender.sent(self._round, other, 1), received, max(0, due - received))
