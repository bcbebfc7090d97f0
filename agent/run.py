"""`wgpy-agent run`: the agent of a node, from its start to its end."""

import asyncio
import gc
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import ip_network
from typing import Protocol, TypeVar

import uvloop
from kubernetes.aio.client import Configuration

import wgpy
from agent import log
from agent.apierrors import KubeError, OverloadedError, UnreachableError
from agent.apiserver import ApiServer, from_kubeconfig, in_cluster
from agent.backend import Backend
from agent.control import Control
from agent.decisions import Identity
from agent.healer import Healer
from agent.health import served
from agent.isolation import watch_isolation
from agent.kube import Kube
from agent.lanefacts import Timing
from agent.launcher import listen
from agent.launcherclient import LauncherClient
from agent.loop import Loop
from agent.machine import LANE_NAMES, Machine, guard_first
from agent.model import Problem
from agent.network.base import NetworkError
from agent.options import Options
from agent.publisher import Publisher
from agent.reconcile import Reconciler
from agent.watch import Pace
from wgpy.harden import harden
from wgpy.protocol.config import Network

_log = logging.getLogger(__name__)

T = TypeVar("T")
# Seconds between tries while this node has no data plane yet: the first, and the longest.
_FIRST_TRY = 0.5
_LAST_TRY = 10.0
# Objects until the next search for garbage, which looks at all caches now and then. A pass makes
# tens of thousands, and nearly all go by themselves.
_UNSEARCHED = 10_000


def run(options: Options) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. All that was made is left as it is."""
    # Before there are keys.
    harden()
    log.set_up(options.log_level, options.node, sys.stderr)
    gc.set_threshold(_UNSEARCHED)
    try:
        uvloop.run(_run_until_told(options))
    except (KubeError, NetworkError, OSError) as error:
        _log.critical("%s", error)
        return 1
    except Exception:
        _log.critical("the agent has failed", exc_info=True)
        return 1
    return 0


async def _run_until_told(options: Options) -> None:
    agent = asyncio.create_task(_run(options))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, agent.cancel)
    try:
        await agent
    except asyncio.CancelledError:
        _log.info("the agent ends; traffic goes on as it is")


class Ranges(Protocol):
    """What `overlay_ranges` needs of agent.kube.Kube."""

    async def kubeadm_pod_ranges(self) -> list[str]: ...


class Worker:
    """The one thread that does what blocks."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor

    async def do(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, job)


async def _run(options: Options) -> None:
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker") as executor:
        async with AsyncExitStack() as stack:
            await _serve(options, Worker(executor), stack)


async def _serve(options: Options, worker: Worker, stack: AsyncExitStack) -> None:
    if options.overlay:
        await worker.do(partial(guard_first, options.overlay))
    backend = await open_backend(options, worker)
    machine = await worker.do(partial(Machine, backend, options.cni_directory, options.proc_sys))
    stack.callback(machine.close)
    api = ApiServer(await configuration(options))
    stack.push_async_callback(api.close)
    timing = Timing(keepalive=options.keepalive)

    kube = Kube(api, options.node, lambda: loop.wake(), _new_pace, time.time)
    publisher = Publisher(
        kube, _new_pace(), lambda: loop.wake(), lambda changes: loop.drifted(changes)
    )
    overlay, problems = await overlay_ranges(options, kube)
    identity = Identity(options.node, options.ports, overlay, backend.plane, wgpy.__version__)
    reconciler = Reconciler(identity, machine, time.monotonic, time.time_ns, timing)
    loop = Loop(
        identity,
        options,
        kube,
        lambda *asked: worker.do(partial(reconciler.reconcile, *asked)),
        publisher,
        timing.session,
        noted=lambda result: healer.note(result),
    )
    healer = Healer(
        lambda remedies: worker.do(partial(machine.heal, remedies)),
        loop.healed,
        loop.asked,
        timing,
        time.monotonic,
    )
    loop.problems += problems

    def note(found: list[Problem]) -> None:
        loop.problems = [*problems, *found]

    _tell_start(identity, backend, publisher)

    watch = machine.watch
    events = asyncio.get_running_loop()
    events.add_reader(watch.fileno(), lambda: loop.look(watch.changes()))
    stack.callback(events.remove_reader, watch.fileno())
    listening = listen(options.control)
    stack.callback(listening.close)
    host, port = options.listen
    await stack.enter_async_context(served(host, port, loop.healthy, loop.ready, loop.metrics))
    control = Control(loop.status, loop.rotate)
    async with asyncio.TaskGroup() as group:
        group.create_task(kube.run())
        group.create_task(publisher.run())
        group.create_task(control.serve(listening))
        group.create_task(loop.run())
        group.create_task(healer.run())
        group.create_task(watch_isolation(kube, note, asyncio.sleep))


async def open_backend(options: Options, worker: Worker) -> Backend:
    """As soon as this node has a data plane: its launcher may be on its way."""
    starter = LauncherClient(options.launcher) if options.launcher else None
    wait, told = _FIRST_TRY, ""
    while True:
        try:
            return await worker.do(partial(Backend, options.dataplane, LANE_NAMES, starter))
        except NetworkError as error:
            if str(error) != told:
                _log.error("%s", error)
                told = str(error)
        await asyncio.sleep(wait)
        wait = min(_LAST_TRY, wait * 2)


async def configuration(options: Options) -> Configuration:
    """How to reach the API server, and as whom. KubeError."""
    if options.kubeconfig is not None:
        return await from_kubeconfig(options.kubeconfig)
    return in_cluster(os.environ)


async def overlay_ranges(
    options: Options, kube: Ranges
) -> tuple[tuple[Network, ...], list[Problem]]:
    """The cluster's pod ranges as far as they are configured; waits for the API server."""
    if not options.overlay_from_kubeadm:
        return options.overlay, []
    pace = _new_pace()
    while True:
        try:
            ranges = await kube.kubeadm_pod_ranges()
            return (*options.overlay, *map(ip_network, ranges)), []
        except (UnreachableError, OverloadedError) as error:
            _log.warning("%s", error)
            await pace.back_off(error.wait)
        except (KubeError, ValueError) as error:
            advice = getattr(error, "advice", "give --overlay RANGE instead")
            return options.overlay, [Problem("warning", f"pod ranges of kubeadm: {error}", advice)]


def _new_pace() -> Pace:
    return Pace(asyncio.sleep, time.monotonic, random.random)


def _tell_start(identity: Identity, backend: Backend, publisher: Publisher) -> None:
    why = backend.availability.kernel_reason
    told = f"wgpy {identity.agent_version}, {backend.plane} data plane"
    if backend.plane == "userspace" and why:
        told += f": {why}"
    _log.info("%s", told)
    publisher.tell("Normal", "Started", told)
