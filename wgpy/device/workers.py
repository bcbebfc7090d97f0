"""The followers of a device: started, kept told, listened to, and replaced when they die."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path as FilePath
from typing import Any, TypeVar

from tun import Tun
from wgpy.device import clock
from wgpy.device.channel import Channel
from wgpy.device.counters import CounterTable
from wgpy.device.messages import Begin, Configure, Link, News, Sockets, Strays
from wgpy.device.options import DeviceOptions
from wgpy.device.sockets import set_mark
from wgpy.protocol.config import InterfaceChange, PeerChange
from wgpy.protocol.leader import Leader, for_follower
from wgpy.protocol.shared import Stray, owner_of

_log = logging.getLogger("wgpy.device")

T = TypeVar("T")

# A follower that dies at once is not started more often than this. Seconds.
_RESTART_AFTER = 1.0
# So many fit one message, with room to spare.
_STATES = 100
_ALLOWED_IPS = 500


class Workers:
    """One process for each group of queues; `settle` is called after what they had to say."""

    def __init__(
        self,
        leader: Leader,
        table: CounterTable,
        groups: Sequence[Sequence[Tun]],
        options: DeviceOptions,
        settle: Callable[[], None],
        receive: Callable[[Stray], None],
    ) -> None:
        self._leader = leader
        self._settle = settle
        self._receive = receive
        self._link: Link | None = None
        self._sockets: list[list[socket.socket]] = []
        self._workers = [
            _Worker(self, number, queues, table, options, len(groups) + 1)
            for number, queues in enumerate(groups, 1)
        ]

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self.close_sockets()

    # What the device tells.

    def set_link(self, up: bool, mtu: int, v4: bytes | None, v6: bytes | None) -> None:
        self._link = Link(up, mtu, v4, v6)
        self._send(self._link)

    def adopt(self, groups: list[list[socket.socket]]) -> None:
        """Give each its sockets."""
        self.close_sockets()
        self._sockets = groups
        for worker in self._workers:
            self.hand_sockets(worker)

    def close_sockets(self) -> None:
        """Without sockets there is nothing to do but to wait."""
        groups, self._sockets = self._sockets, []
        for group in groups:
            for sock in group:
                sock.close()

    def set_fwmark(self, mark: int) -> None:
        """Raises OSError."""
        for group in self._sockets:
            for sock in group:
                set_mark(sock, mark)

    def configure(self, change: InterfaceChange) -> None:
        for piece in _pieces(for_follower(change)):
            self._send(Configure(piece))

    def push(self) -> None:
        """Tell what has changed, and hand over what came to the wrong process."""
        for states in _chunks(self._leader.poll_states(), _STATES):
            self._send(News(states))
        for stray in self._leader.poll_strays():
            owner = owner_of(int.from_bytes(stray.datagram[4:8], "little"), len(self._workers) + 1)
            self._workers[owner - 1].send(Strays([stray]))

    def _send(self, message: object) -> None:
        for worker in self._workers:
            worker.send(message)

    # What a worker needs, and says.

    def introduce(self, worker: "_Worker") -> None:
        """Tell a new one everything."""
        if self._link is not None:
            worker.send(self._link)
        for piece in _pieces(self._leader.configuration()):
            worker.send(Configure(piece))
        for states in _chunks(self._leader.states(), _STATES):
            worker.send(News(states))
        self.hand_sockets(worker)

    def hand_sockets(self, worker: "_Worker") -> None:
        if self._sockets:
            sockets = self._sockets[worker.number - 1]
            worker.send(Sockets(), [sock.fileno() for sock in sockets])

    def hear(self, message: Any) -> None:
        now = clock.now()
        if isinstance(message, Strays):
            for stray in message.strays:
                self._receive(stray)
        else:
            self._leader.receive_reports(message.reports, now)
            self._leader.count_drops(message.drops)
        self._settle()

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, call)

    def bury(self, worker: "_Worker") -> None:
        self._leader.bury(worker.number, clock.now())
        self._settle()


class _Worker:
    """One follower and its life."""

    def __init__(
        self,
        workers: Workers,
        number: int,
        queues: Sequence[Tun],
        table: CounterTable,
        options: DeviceOptions,
        owners: int,
    ) -> None:
        self.number = number
        self._workers = workers
        self._queues = queues
        self._table = table
        self._begin = Begin(number, owners, queues[0].offloads, options)
        self._closed = False
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def send(self, message: object, fds: Sequence[int] = ()) -> None:
        if self._channel is not None:
            self._channel.send(message, fds)

    def close(self) -> None:
        self._closed = True
        self._stop()
        for queue in self._queues:
            queue.close()

    def _start(self) -> None:
        if self._closed:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # The very code that runs here, and nothing from the working directory.
            code = os.fspath(FilePath(__file__).parents[2])
            path = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "wgpy.device.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
        self._channel = Channel(ours, self._received, self._ended)
        self.send(self._begin, [self._table.fd, *(queue.fd for queue in self._queues)])
        self._workers.introduce(self)

    def _stop(self) -> None:
        channel, self._channel = self._channel, None
        process, self._process = self._process, None
        if channel is not None:
            channel.close()
        if process is not None:
            process.kill()
            process.wait()

    def _received(self, message: Any, fds: list[int]) -> None:
        self._workers.hear(message)

    def _ended(self) -> None:
        _log.warning("worker %d has ended: its sessions begin anew", self.number)
        self._stop()
        self._workers.bury(self)
        self._workers.later(_RESTART_AFTER, self._start)


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _pieces(change: InterfaceChange) -> Iterator[InterfaceChange]:
    """The same change in parts that fit one message each."""
    room, peers = _ALLOWED_IPS, list[PeerChange]()
    whole = replace(change, peers=())
    for peer in change.peers:
        first = peer
        for part in _chunks(peer.allowed_ips, _ALLOWED_IPS) if peer.allowed_ips else [[]]:
            peers.append(replace(first, allowed_ips=tuple(part)))
            first = replace(first, replace_allowed_ips=False)
            room -= len(part) + 1
            if room <= 0:
                yield replace(whole, peers=tuple(peers))
                whole, room, peers = InterfaceChange(), _ALLOWED_IPS, []
    yield replace(whole, peers=tuple(peers))
