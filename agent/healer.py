"""Asks the peers through the tunnel, and has done what agent.healing thinks of their answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from agent import paths
from agent.healing import Healing, Patient, PeerLane, Question, Remedy
from agent.lanefacts import Timing
from agent.machine import LANE_NAMES
from agent.model import LANES, Address
from agent.network.base import NetworkError
from agent.prefixes import node_address
from agent.reconcile import Result

_log = logging.getLogger(__name__)

# Seconds between two questions, of whomever.
_EVERY = 1.0


async def ask(question: Question) -> bool:
    """Whether the node of that address inside of the tunnel answers.

    Never around the tunnel, where the question would be told in the clear: the route may have
    gone since a pass has seen the peer.
    """
    device = LANE_NAMES[question.lane]
    answer = await asyncio.to_thread(paths.ask, str(question.address), tries=1, device=device)
    return answer.heard == "reached"


class Healer:
    """Of one agent."""

    def __init__(
        self,
        do: Callable[[list[Remedy]], Awaitable[None]],
        told: Callable[[list[Remedy], list[str]], None],
        asked: Callable[[bool], None],
        timing: Timing,
        clock: Callable[[], float],
        ask: Callable[[Question], Awaitable[bool]] = ask,
    ) -> None:
        """`do` does what is to be done, NetworkError; `told` is called with what was done and who
        is silent, whenever either changes; `asked` with whether a question was answered.
        """
        self._do = do
        self._told = told
        self._asked = asked
        self._clock = clock
        self._ask = ask
        self._healing = Healing(timing)
        self._silent: list[str] = []

    def note(self, result: Result) -> None:
        """What a pass has seen."""
        self._healing.note(self._clock(), patients(result))

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(_EVERY)
            await self._turn()

    async def _turn(self) -> None:
        if (question := self._healing.next(self._clock())) is not None:
            answered = await self._ask(question)
            self._healing.heard(self._clock(), question.peer, answered)
            self._asked(answered)
        remedies = self._healing.remedies(self._clock())
        if remedies:
            try:
                await self._do(remedies)
            except NetworkError as error:
                _log.warning("healing: %s", error)
        silent = self._healing.silent
        if remedies or silent != self._silent:
            self._silent = silent
            self._told(remedies, silent)


def patients(result: Result) -> dict[str, Patient]:
    """The peers as a pass has seen them."""
    addresses: dict[str, Address] = {}
    for route in result.decision.desired.pod_routes:
        if route.lane is not None:
            addresses.setdefault(route.peer, node_address(route.prefix))
    known = [{p.public_key: p for p in stats.peers} if stats else {} for stats in result.devices]
    found = {}
    for name, peer in result.decision.plan.peers.items():
        lanes = {}
        for lane in LANES:
            keys = peer.keys[lane]
            stats = known[lane].get(keys.public_key) if keys else None
            if stats is not None:
                proven = stats.last_handshake_ns > 0
                lanes[lane] = PeerLane(stats.public_key, proven, stats.rx_bytes)
        found[name] = Patient(peer.route, addresses.get(name), lanes)
    return found
