"""Which peers do not answer through the tunnel, and what may cure them. Pure; times in seconds.

Every agent asks one peer after the other whether it is there, one question a second at most, so
5,000 nodes ask each other 5,000 small questions a second, one for each; who has not answered is
asked again sooner. Who has never answered is not judged: its host may not answer such questions.

What is tried for a peer, one after the other, and later and later when nothing helps:

    handshake   its published endpoint is set again; data that nobody answers make a new handshake
    peer        it is removed from the device and added again, with a handshake at once

and for a lane on which all are silent, though packets come in, or on which nobody ever shook hands
although all could on the other one: it is made anew, with the same keys. Nothing is lost by that.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal, NamedTuple, TypeAlias

from agent.lanefacts import Timing
from agent.model import LANES, Address

Cure: TypeAlias = Literal["handshake", "peer", "lane"]

CURES: tuple[Cure, ...] = ("handshake", "peer", "lane")
# Between two questions to a peer that answers, and to one that has just not.
_ROUND = 10.0
_AGAIN = 2.0
_FAILURES = 3
# A handshake comes 15 seconds after data that nobody answers (KEEPALIVE_TIMEOUT, REKEY_TIMEOUT).
_FIRST = 20.0
_NEXT = 40.0
_LAST = 600.0


@dataclass(frozen=True, slots=True)
class Remedy:
    """What is to be done on a lane: for one peer, or for the lane itself."""

    cure: Cure
    lane: int
    peer: str = ""
    key: bytes = b""

    def __str__(self) -> str:
        match self.cure:
            case "handshake":
                return f"{self.peer} does not answer on lane {self.lane}: a new handshake"
            case "peer":
                return f"{self.peer} does not answer on lane {self.lane}: it is added again"
        return f"nobody answers on lane {self.lane}: it is made anew"


@dataclass(frozen=True, slots=True)
class PeerLane:
    """A peer on a device."""

    key: bytes
    # There has been a handshake.
    proven: bool
    rx_bytes: int


@dataclass(frozen=True, slots=True)
class Patient:
    """A peer as a pass has seen it."""

    # The lane that leads there; the address of its node inside of the tunnel.
    route: int | None
    address: Address | None
    lanes: Mapping[int, PeerLane]


class Question(NamedTuple):
    """Is the peer there, at this address, behind this lane?"""

    peer: str
    lane: int
    address: Address


@dataclass(slots=True)
class _Course:
    """Of an illness: how often something was tried, and when it is due again."""

    tried: int = 0
    due_at: float = -inf

    def next(self, now: float, first: float) -> None:
        self.due_at = now + min(_LAST, first * 2.0 ** max(0, self.tried - 1))
        self.tried += 1


@dataclass(slots=True)
class _File:
    """What is remembered of a peer."""

    asked_at: float = -inf
    answered: bool = False
    failures: int = 0
    ill_since: float = inf
    course: _Course = field(default_factory=_Course)
    # Of the lane that is not in use: its key there, and since when it is known and unproven.
    idle_key: bytes = b""
    idle_since: float = inf
    idle: _Course = field(default_factory=_Course)

    @property
    def ill(self) -> bool:
        return self.answered and self.failures >= _FAILURES

    def recover(self) -> None:
        self.failures, self.ill_since, self.course = 0, inf, _Course()


class Healing:
    """Of one agent."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._patients: Mapping[str, Patient] = {}
        self._files: dict[str, _File] = {}
        # By lane, when anything was heard on it, and what was tried for it.
        self._heard_at = [-inf, -inf]
        self._lanes = [_Course(), _Course()]

    def note(self, now: float, patients: Mapping[str, Patient]) -> None:
        """The peers as they are."""
        before, self._patients = self._patients, patients
        self._files = {name: self._files.get(name) or _File(asked_at=now) for name in patients}
        for name, patient in patients.items():
            known, file = before.get(name), self._files[name]
            if known is None:
                continue
            if known.route != patient.route:
                file.recover()
            for lane, found in patient.lanes.items():
                if lane in known.lanes and known.lanes[lane].rx_bytes != found.rx_bytes:
                    self._heard_at[lane] = now
            self._note_idle(now, file, patient)

    def _note_idle(self, now: float, file: _File, patient: Patient) -> None:
        found = None if patient.route is None else patient.lanes.get(1 - patient.route)
        if found is None or found.proven:
            file.idle_key, file.idle_since = b"", inf
        elif file.idle_key != found.key:
            file.idle_key, file.idle_since, file.idle = found.key, now, _Course()

    def next(self, now: float) -> Question | None:
        """Whom to ask now."""
        questions = (
            Question(name, patient.route, patient.address)
            for name, patient in self._patients.items()
            if patient.route is not None and patient.address is not None
        )
        due = ((self._due(question.peer), question) for question in questions)
        at, question = min(due, default=(inf, None))
        return question if at <= now else None

    def _due(self, name: str) -> float:
        file = self._files[name]
        return file.asked_at + (_AGAIN if 0 < file.failures < _FAILURES else _ROUND)

    def heard(self, now: float, name: str, answered: bool) -> None:
        """What has become of a question."""
        file = self._files.get(name)
        if file is None:
            return
        file.asked_at = now
        if answered:
            file.recover()
            file.answered = True
            return
        file.failures += 1
        if file.ill and file.ill_since == inf:
            file.ill_since = now

    @property
    def silent(self) -> list[str]:
        """Names of those who have answered before, and do not any more."""
        return sorted(name for name, file in self._files.items() if file.ill)

    def remedies(self, now: float) -> list[Remedy]:
        """What is to be done now."""
        found = [*self._for_peers(now), *self._for_idle(now)]
        for lane in LANES:
            course = self._lanes[lane]
            if now >= course.due_at and (self._is_deaf(lane) or self._is_unproven(lane)):
                course.next(now, 2 * _NEXT)
                found.append(Remedy("lane", lane))
        return found

    def _for_peers(self, now: float) -> Iterator[Remedy]:
        for name, file in self._files.items():
            patient = self._patients[name]
            lane = patient.route
            if not file.ill or lane not in patient.lanes or now < file.course.due_at:
                continue
            assert lane is not None
            cure: Cure = "peer" if file.course.tried else "handshake"
            file.course.next(now, _NEXT if file.course.tried else _FIRST)
            yield Remedy(cure, lane, name, patient.lanes[lane].key)

    def _for_idle(self, now: float) -> Iterator[Remedy]:
        """Who is heard on one lane, and has not shaken hands on the other for long."""
        for name, file in self._files.items():
            lane = self._patients[name].route
            waited = now - file.idle_since > self._unheard_of
            if waited and lane is not None and not file.ill and now >= file.idle.due_at:
                file.idle.next(now, max(_NEXT, self._unheard_of))
                yield Remedy("peer", 1 - lane, name, file.idle_key)

    @property
    def _unheard_of(self) -> float:
        """Longer than a lane that is being drained takes no new keys."""
        return 4.0 * self._timing.quiet

    def _is_deaf(self, lane: int) -> bool:
        """Packets come in, and yet none of those who are reached on it answers any more."""
        files = [file for file in self._users(lane) if file.answered]
        if not files or not all(file.ill and file.course.tried > 1 for file in files):
            return False
        since = min(file.ill_since for file in files)
        return max(self._heard_at) > since

    def _is_unproven(self, lane: int) -> bool:
        """Nobody has shaken hands on it, and to add them again has not helped."""
        present = [p for p in self._patients.values() if lane in p.lanes]
        files = list(self._users(1 - lane))
        return (
            bool(present)
            and not any(patient.lanes[lane].proven for patient in present)
            and bool(files)
            and all(file.idle.tried > 1 for file in files if file.idle_key)
            and any(file.idle_key for file in files)
        )

    def _users(self, lane: int) -> Iterable[_File]:
        return (self._files[name] for name, p in self._patients.items() if p.route == lane)
