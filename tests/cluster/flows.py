"""Numbered UDP flows between all pairs of pods, and what each pair lost."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType

from interop.netns import stop
from interop.shell import wait_until
from tests.cluster.pod import Pod

_PORT = 4600
_ROOT = Path(__file__).parents[2]
_LATE = 5.0
"""Seconds that the last datagrams have to arrive."""
_MISSING = 5
_NOTHING = {"count": 0, "again": 0, "missing": ()}


@dataclass(frozen=True)
class Flow:
    """What one pod sent to one address of another."""

    sender: str
    receiver: str
    sent: int
    received: int
    again: int
    """Datagrams that came more than once."""
    missing: tuple[str, ...] = ()
    """When the first of those were sent that did not come though a later one did: UTC."""
    refused: dict[str, int] = field(default_factory=dict)
    """Datagrams that the sender's own kernel did not take, of all that it sent, by reason."""

    @property
    def lost(self) -> int:
        return self.sent - self.received


class Flows:
    """Begin when entered: `rate` datagrams a second from each pod to each other, of one version.

    After the block, `flows` says how each went.
    """

    def __init__(self, pods: list[Pod], rate: float, version: int = 4) -> None:
        self.flows: list[Flow] = []
        self._pods = pods
        self._version = version
        self._rate = rate
        self._talkers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Flows:
        for own, pod in enumerate(self._pods):
            others = [p.addresses[self._version] for p in self._pods if p is not pod]
            words = [str(own), str(self._rate), str(_PORT), *others]
            argv = [sys.executable, "-m", "tests.cluster.talker", *words]
            self._talkers.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", pod.namespace.name, *argv],
                    cwd=_ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
        for pod in self._pods:
            wait_until("a talker listens", partial(_listening, pod), 60)
        for talker in self._talkers:
            _say(talker)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.flows = self._end()
        finally:
            for talker in self._talkers:
                stop(talker)

    @property
    def lost(self) -> int:
        return sum(flow.lost for flow in self.flows)

    def _end(self) -> list[Flow]:
        for talker in self._talkers:
            _say(talker)
        time.sleep(_LATE)
        reports = [json.loads(talker.communicate(timeout=60)[0]) for talker in self._talkers]
        found = []
        for own, (sender, report) in enumerate(zip(self._pods, reports, strict=True)):
            for other, receiver in enumerate(self._pods):
                if own == other:
                    continue
                got = reports[other]["received"].get(str(own), _NOTHING)
                sent = report["sent"][receiver.addresses[self._version]]
                times = [report["begun"] + number / self._rate for number in got["missing"]]
                found.append(
                    Flow(
                        sender.namespace.name,
                        receiver.namespace.name,
                        sent,
                        got["count"],
                        got["again"],
                        tuple(map(_clock, times[:_MISSING])),
                        report["refused"],
                    )
                )
        return found


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


def _listening(pod: Pod) -> bool:
    return f":{_PORT} " in pod.run("ss", "-Huln")


def _say(talker: subprocess.Popen[bytes]) -> None:
    """A line: begin, and the next time: send no more."""
    assert talker.stdin is not None
    talker.stdin.write(b"\n")
    talker.stdin.flush()
