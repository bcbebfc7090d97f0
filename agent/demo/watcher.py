"""Keeps the state up to date with what agents, pods and the capture tell, beside the story."""

import threading
import time
from typing import Any

from agent.control import ControlError, ask
from agent.demo.api import Api
from agent.demo.capture import Capture, Control
from agent.demo.lab import Lab
from agent.demo.state import Count, Lane, Machine, State
from agent.demo.traffic import Traffic
from agent.kube import PUBLISHED

Json = dict[str, Any]

_COUNTERS = 0.2
# An agent has other things to do than to answer.
_AGENTS = 1.0
_SHORT = 6


class Watcher:
    """A thread that looks until it is closed."""

    def __init__(
        self, state: State, api: Api, lab: Lab, traffic: Traffic, capture: Capture, control: Control
    ) -> None:
        self._state = state
        self._api = api
        self._lab = lab
        self._traffic = traffic
        self._capture = capture
        self._control = control
        self._heard: dict[tuple[int, str], tuple[int, float]] = {}
        # By node, what its agent has said last; nothing, as long as there is no agent.
        self.told: dict[int, Json] = {}
        self.excused: frozenset[int] = frozenset()
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(look, every), daemon=True)
            for look, every in ((self._count, _COUNTERS), (self._ask, _AGENTS))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """With a last look at the counters."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._count()

    def silence(self, number: int, peer: str) -> float:
        """For how many seconds a node's agent has heard nothing from a peer."""
        known = self._heard.get((number, peer))
        return time.monotonic() - known[1] if known else 0.0

    def keys(self, number: int) -> frozenset[str]:
        """The public keys that a node has published."""
        return frozenset(lane["publicKey"] for lane in self._lanes(number))

    def is_ready(self, number: int) -> bool:
        """Its agent reaches all peers, and rotates nothing."""
        told, others = self.told.get(number), len(self._state.machines) - 1
        return (
            told is not None
            and len(told["peers"]) == others
            and all(peer["ready"] for peer in told["peers"])
            and told["rotation"]["stage"] == "steady"
        )

    def _repeat(self, look: Any, every: float) -> None:
        while not self._ended.wait(every):
            look()

    def _count(self) -> None:
        state, capture = self._state, self._capture
        state.seconds = time.monotonic() - self._began
        state.frames = {str(kind): count for kind, count in tuple(capture.counts.items())}
        state.control = self._control.said
        state.cipher, state.clear = capture.cipher, capture.clear
        state.flows = {
            pair: Count(f.sent, f.received, f.lost, bool(self.excused & set(pair)))
            for pair, f in self._traffic.flows().items()
        }

    def _ask(self) -> None:
        for number, machine in self._state.machines.items():
            node = self._lab.nodes.get(number)
            try:
                told: Json | None = ask(node.control, "status")["status"] if node else None
            except ControlError:
                told = None
            if told is None:
                self.told.pop(number, None)
            else:
                self.told[number] = told
                self._hear(number, told)
            self._show(number, machine, told)

    def _hear(self, number: int, told: Json) -> None:
        for peer in told["peers"]:
            received = sum(lane["rx_bytes"] for lane in peer["lanes"])
            key = (number, peer["name"])
            if key not in self._heard or self._heard[key][0] != received:
                self._heard[key] = (received, time.monotonic())

    def _show(self, number: int, machine: Machine, told: Json | None) -> None:
        if told is None:
            machine.peers, machine.stage, machine.lanes, machine.plane = (0, 0), "", (), ""
            machine.mood = "starting" if number in self._lab.nodes else "off"
            return
        machine.plane = told["backend"]
        machine.stage = told["rotation"]["stage"]
        machine.peers = (sum(peer["ready"] for peer in told["peers"]), len(told["peers"]))
        keys = [lane["publicKey"][:_SHORT] for lane in self._lanes(number)]
        machine.lanes = tuple(
            Lane(key, lane["epoch"], lane["number"] == told["active_lane"])
            for key, lane in zip(keys, told["lanes"], strict=False)
        )
        machine.mood = "up"

    def _lanes(self, number: int) -> list[Json]:
        name = self._state.machines[number].name
        found = self._api.do(lambda store: store.find(PUBLISHED))
        return [lane for one in found if one["metadata"]["name"] == name
                for lane in one["spec"]["lanes"]]  # fmt: skip
