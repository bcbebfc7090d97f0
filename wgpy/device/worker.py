"""A process that carries packets of a device which another process leads: `worker.py FD`."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvloop

from tun import Tun
from wgpy.device import clock
from wgpy.device.bind import Bind
from wgpy.device.channel import Channel
from wgpy.device.counters import CounterTable, SharedCounter
from wgpy.device.datapath import DataPath
from wgpy.device.messages import Begin, Configure, Link, News, Reports, Sockets, Strays
from wgpy.device.options import DeviceOptions
from wgpy.device.sizes import RECEIVE_SIZE
from wgpy.harden import harden
from wgpy.protocol.batch import DatagramBatch, Slab
from wgpy.protocol.follower import Follower
from wgpy.protocol.shared import Stray

_log = logging.getLogger("wgpy.device")

# What is not urgent is reported this often. Seconds.
_REPORT_INTERVAL = 0.05


class Worker(DataPath):
    """Reads some queues of the TUN and one pair of sockets."""

    def __init__(self, begin: Begin, queues: Sequence[Tun], table: CounterTable) -> None:
        self._follower = Follower(
            os.urandom,
            clock.wall_ns,
            begin.number,
            begin.owners,
            lambda ticket: SharedCounter(table, ticket),
        )
        super().__init__(queues, self._follower, begin.options)
        self._options: DeviceOptions = begin.options
        self._lone = Slab(RECEIVE_SIZE).layout(RECEIVE_SIZE)
        self._next_report: asyncio.TimerHandle | None = None
        self.channel: Channel | None = None
        self._read_tun()

    def hear(self, message: Any, fds: list[int]) -> None:
        """One message of the leader."""
        now = clock.now()
        match message:
            case Link():
                self._set_link(message, now)
            case Sockets():
                sockets = [socket.socket(fileno=fd) for fd in fds]
                self._network.adopt(Bind(sockets, self._options))
            case Configure():
                self._follower.configure(message.change, now)
            case News():
                for state in message.states:
                    self._follower.set_peer_state(state, now)
            case Strays():
                for stray in message.strays:
                    self._receive(stray, now)
                # What is still nobody's will not be anybody's.
                self._follower.poll_strays()
        self._settle()

    def _set_link(self, link: Link, now: float) -> None:
        self._follower.mtu = self._from_host.mtu = link.mtu
        self._follower.set_own_addresses(link.v4, link.v6)
        if link.up and not self._up:
            self._follower.up(now)
        elif self._up and not link.up:
            self._follower.down()
            self._network.close_sockets()
        self._up = link.up

    def _receive(self, stray: Stray, now: float) -> None:
        size = len(stray.datagram)
        self._lone.slab.view[:size] = stray.datagram
        batch = DatagramBatch(self._lone, 1, size, stray.path, stray.ecn)
        self._follower.receive_datagrams(batch, now)
        self._flush()

    def _settle(self) -> None:
        self._flush()
        self._follower.poll_events()
        strays = self._follower.poll_strays()
        if strays and self.channel is not None:
            for stray in strays:
                self.channel.send(Strays([stray]))
        if self._follower.is_urgent:
            self._report()
        elif self._next_report is None:
            self._next_report = self._loop.call_later(_REPORT_INTERVAL, self._report)

    def _report(self) -> None:
        if self._next_report is not None:
            self._next_report.cancel()
            self._next_report = None
        reports, drops = self._follower.poll_reports(), self._follower.poll_drops()
        if self.channel is not None and (reports or drops):
            self.channel.send(Reports(reports, drops))

    def _tun_gone(self) -> None:
        # The leader knows it too, and will end us.
        self._leave_tun()


async def _serve(fd: int) -> None:
    ended = asyncio.Event()
    worker: Worker | None = None

    def received(message: Any, fds: list[int]) -> None:
        nonlocal worker
        if worker is not None:
            worker.hear(message, fds)
        else:
            table, *queues = fds
            tuns = [Tun(queue, message.offloads) for queue in queues]
            worker = Worker(message, tuns, CounterTable(table))
            worker.channel = channel

    channel = Channel(socket.socket(fileno=fd), received, ended.set)
    await ended.wait()


def main() -> None:
    harden()
    # A terminal's interrupt is meant for the leader, who ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
