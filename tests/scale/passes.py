"""`python -m tests.scale.passes N`: what an agent's own work costs among N nodes, as JSON.

Its caches, its decisions, and what it asks of its lanes over their sockets; no API server, and
nothing of the kernel. Needs no root. Seconds are CPU time, memory is what the process grew by.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from nacl.bindings import crypto_scalarmult_base

from agent.apiserver import Json, Query
from agent.backend import difference
from agent.decisions import Decision, Decisions, Devices, Identity, Known
from agent.kube import NODES, PUBLISHED
from agent.machine import wishes
from agent.model import NodeFacts, WireGuardNode
from agent.snapshot import lane_views, peer_views
from agent.watch import Cache, Pace
from tests.scale.crowd import new_keys, node_object, published
from tests.scale.standin import Lively
from wgpy.protocol.config import InterfaceStats, Network
from wgpy.uapi import client
from wgpy.uapi.listener import listen
from wgpy.uapi.paths import socket_path
from wgpy.uapi.server import UapiServer

T = TypeVar("T")
_LANES = ("wgpy0", "wgpy1")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Costs:
    """Seconds of CPU, MiB."""

    nodes: int
    list_nodes: float = 0.0
    list_published: float = 0.0
    first_pass: float = 0.0
    calm_pass: float = 0.0
    look: float = 0.0
    pass_after_a_change: float = 0.0
    pass_with_a_new_node: float = 0.0
    memory: float = 0.0


class Pages:
    """The API server's answers, each made when it is asked for."""

    def __init__(self, objects: Callable[[str, int], Json], count: int) -> None:
        self._objects = objects
        self._count = count

    async def get(self, path: str, query: Query = ()) -> Json:
        asked = dict(query)
        begin, size = int(asked.get("continue", "0")), int(asked["limit"])
        end = min(begin + size, self._count)
        items = [self._objects(path, number) for number in range(begin, end)]
        token = {"continue": str(end)} if end < self._count else {}
        answer: Json = json.loads(json.dumps({"metadata": token, "items": items}))
        return answer

    @asynccontextmanager
    async def watch(
        self, path: str, query: Query, seconds: int
    ) -> AsyncIterator[AsyncIterator[Json]]:
        yield self._silence()

    async def _silence(self) -> AsyncIterator[Json]:
        await asyncio.Event().wait()
        yield {}


class Agent:
    """One node of `count`, without its network."""

    def __init__(self, count: int, directory: Path) -> None:
        self._directory = directory
        self._crowd = [published(number) for number in range(count)]
        self.costs = Costs(count)
        self._took = 0.0
        before = _resident()
        self.nodes = self._read(NODES, NodeFacts.from_object_untrusted)
        self.costs.list_nodes, self._took = self._took, 0.0
        self.published = self._read(PUBLISHED, WireGuardNode.from_object_untrusted)
        self.costs.list_published = self._took
        self._name = self._crowd[0].name
        self._decisions = Decisions(Identity(self._name), os.urandom, (None, None), None)
        self._routes: dict[Network, int] = {}
        self._serve()
        self._measure()
        gc.collect()
        self.costs.memory = (_resident() - before) / 2**20

    def _read(self, path: str, parse: Callable[[Json], T]) -> dict[str, T]:
        pages = Pages(self._object, len(self._crowd))
        pace = Pace(asyncio.sleep, time.monotonic, lambda: 0.0)
        cache: Cache[T] = Cache(pages, "", path, parse, lambda: None, pace)

        async def run() -> None:
            task = asyncio.create_task(cache.run())
            while not cache.synced:
                await asyncio.sleep(0)
            task.cancel()

        began = time.thread_time()
        asyncio.run(run())
        self._took = time.thread_time() - began
        return dict(cache.items)

    def _object(self, path: str, number: int) -> Json:
        node = self._crowd[number]
        if path == PUBLISHED:
            return node.to_object("uid")
        told = node_object(number, node)
        told["metadata"] |= {"uid": f"uid-{number}", "creationTimestamp": "2026-01-01T00:00:00Z"}
        return told

    def _serve(self) -> None:
        """The lanes, from another thread."""
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()

        async def serve() -> None:
            for name in _LANES:
                log = (self._directory / "log").open("a")
                path = socket_path(name, self._directory)
                lane = Lively(name, log)
                await UapiServer(listen(name, self._directory), path, lane, lambda: None).start()

        asyncio.run_coroutine_threadsafe(serve(), loop).result(30)

    def _measure(self) -> None:
        costs = self.costs
        costs.first_pass = _timed(self._turn)
        self._turn()
        costs.look = _timed(self._look)
        costs.calm_pass = _timed(self._turn)
        other = self._crowd[7]
        spare = new_keys(1, 2)
        self.published[other.name] = replace(other, lanes=(other.lanes[0], spare))
        costs.pass_after_a_change = _timed(self._turn)
        new = published(costs.nodes)
        told = node_object(costs.nodes, new)
        told["metadata"] |= {"uid": "new", "creationTimestamp": "2026-02-01T00:00:00Z"}
        self.nodes[new.name] = NodeFacts.from_object_untrusted(told)
        self.published[new.name] = new
        costs.pass_with_a_new_node = _timed(self._turn)

    def _look(self) -> Devices:
        first, second = (self._stats(name) for name in _LANES)
        return first, second

    def _stats(self, name: str) -> InterfaceStats:
        stats = client.get(name, directory=self._directory)
        if stats.private_key is None:
            return stats
        return replace(stats, public_key=crypto_scalarmult_base(bytes(stats.private_key)))

    def _turn(self) -> Decision:
        """A pass, but for what the kernel is asked and told."""
        devices, now_ns = self._look(), time.time_ns()
        known = Known(dict(self.nodes), dict(self.published), devices, self._routes, None, {})
        decision = self._decisions.decide(time.monotonic(), now_ns, known)
        wished = dict(wishes(decision.desired, (4, 6), (4, 6)))
        for name, stats, lane in zip(_LANES, devices, decision.desired.lanes, strict=True):
            assert stats is not None
            # To see whether others have altered it, and to bring it about.
            difference(stats, lane, {}, now_ns)
            change = difference(stats, lane, {}, now_ns)
            if change.peers:
                client.set(name, change, directory=self._directory)
        self._routes = {route.prefix: 0 for route in wished["routes"].pods if route.device}
        lane_views(decision.plan, devices)
        peer_views(decision.plan, devices, now_ns, 180.0)
        return decision


def _timed(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        costs = Agent(int(sys.argv[1]), Path(directory)).costs
    told = {k: round(v, 4) if isinstance(v, float) else v for k, v in vars(costs).items()}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
