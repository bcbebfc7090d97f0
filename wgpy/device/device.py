"""A WireGuard interface that runs: the core between a TUN and UDP sockets, on an event loop.

    host --> TUN --> FromHost --> Interface.send_packets ---------> Network.send --> UDP -->
    host <-- TUN <-- ToHost <---- Interface.receive_datagrams <---- Network <------- UDP <--
                                       ^
                          one timer, link and route events, configuration

Everything runs in callbacks of one loop, each with bounded work, so that nothing starves.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from functools import partial
from math import inf
from os import urandom
from types import TracebackType
from typing import Self

from tun import LinkMonitor, LinkState, Tun
from wgpy.device import clock, keylog
from wgpy.device.bind import Bind
from wgpy.device.counters import CounterTable, Places
from wgpy.device.datapath import DataPath
from wgpy.device.fromhost import Turn
from wgpy.device.options import DeviceOptions
from wgpy.device.sizes import GSO_HEADERS, LARGEST_GSO, LARGEST_SEND
from wgpy.device.sources import Sources
from wgpy.device.steering import open_queues
from wgpy.device.tunqueue import TunQueue
from wgpy.device.workers import Workers
from wgpy.protocol.batch import MAX_BATCH, DatagramBatch, Slab, datagram_size
from wgpy.protocol.config import ConfigError, InterfaceChange, InterfaceStats
from wgpy.protocol.constants import DEFAULT_MTU
from wgpy.protocol.events import Event, EventKind
from wgpy.protocol.interface import Interface
from wgpy.protocol.leader import Leader
from wgpy.protocol.shared import HandshakeSecrets, Stray

_log = logging.getLogger("wgpy.device")

# Between attempts to open the sockets of an interface that is up. Seconds.
_OPEN_RETRY = 5.0


class Device(DataPath):
    """One interface. Make it, and use it, on a running event loop.

    The link of the TUN decides: sockets and timers live while it is up. The TUN may be moved
    into another network namespace; UDP stays in the one where the device was made.
    """

    def __init__(
        self, tun: Tun, options: DeviceOptions | None = None, queues: Sequence[Tun] = ()
    ) -> None:
        """Takes over `tun`, and its other `queues`: of all, each worker has as many.

        OSError if the link cannot be followed or the key log not be opened, ValueError where
        others may read that.
        """
        self._options = options or DeviceOptions()
        self._key_log = keylog.KeyLog(self._options.key_log) if self._options.key_log else None
        self._table: CounterTable | None = None
        self._workers: Workers | None = None
        owners = self._options.workers
        all_queues = (tun, *queues)
        share = len(all_queues) // owners
        own, *others = (all_queues[at : at + share] for at in range(0, len(all_queues), share))
        if owners == 1:
            super().__init__(own, Interface(urandom, clock.wall_ns), self._options)
        else:
            self._table = CounterTable.make()
            counters = Places(self._table)
            leader = Leader(urandom, clock.wall_ns, owners, counters.new_counter)
            super().__init__(own, leader, self._options)
            self._workers = Workers(
                leader, self._table, others, self._options, self._settle, self._receive_stray
            )
        self._key_readers: list[Callable[[HandshakeSecrets], None]] = []
        if self._key_log is not None:
            self._add_key_reader(self._key_log.write)
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.Handle | None = None
        self._timer_deadline = inf
        self._open_retry: asyncio.TimerHandle | None = None
        self._own_addresses: tuple[bytes | None, bytes | None] = (None, None)
        self._link = LinkMonitor(tun)
        self._queue = TunQueue(self._loop, self._link.set_queue_length)
        self._sources = Sources(self._loop, self._interface)
        self._loop.add_reader(self._link.fileno(), self._link_changed)
        self._read_tun()
        self._apply_link(self._link.state())

    @classmethod
    def open(cls, name: str, options: DeviceOptions | None = None) -> Self:
        """Make the interface `name`. OSError says why it cannot be made."""
        options = options or DeviceOptions()
        tun, *queues = open_queues(name, options)
        try:
            device = cls(tun, options, queues)
            device._link.set_mtu(DEFAULT_MTU)
            device._queue.begin()
            # As the kernel's. The host would give several queues 256 disciplines, of 6 MB, and keep
            # from a sender what was refused. Without CONFIG_NET_SCHED there is none.
            with contextlib.suppress(OSError):
                device._link.set_no_queue_discipline()
            # A host without IPv6 has no such addresses anyway.
            with contextlib.suppress(OSError):
                device._link.set_no_link_local()
            return device
        except BaseException:
            for queue in (tun, *queues):
                queue.close()
            raise

    @property
    def name(self) -> str:
        """The name of the interface, which may be changed by anyone."""
        return self._tun.name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the interface; may be called again."""
        if self._closed.done():
            return
        self._closed.set_result(None)
        self._queue.close()
        self._bring_down()
        self._leave_tun()
        self._loop.remove_reader(self._link.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._network.close_sockets()
        if self._workers is not None:
            self._workers.close()
        if self._table is not None:
            self._table.close()
        if self._key_log is not None:
            self._key_log.close()
        self._sources.close()
        self._link.close()
        self._steering.close()

    async def wait_closed(self) -> None:
        """Return when the device was closed, by us or because its interface was deleted."""
        await asyncio.shield(self._closed)

    # Configuration.

    def snapshot(self) -> InterfaceStats:
        """All that `wg show` shows."""
        return self._interface.snapshot()

    def configure(self, change: InterfaceChange) -> None:
        """Apply a change wholly or not at all. Raises ConfigError."""
        bind, others = self._bind_for(change)
        mark = self._sources.fwmark if change.fwmark is None else change.fwmark
        try:
            if bind is not None:
                change = replace(change, listen_port=bind.port)
            elif mark != self._sources.fwmark:
                self._set_fwmark(mark)
            self._interface.configure(change, clock.now())
        except ConfigError:
            if bind is not None:
                _close(bind, others)
            else:
                self._set_fwmark(self._sources.fwmark)
            raise
        if self._workers is not None:
            self._workers.configure(change)
        if bind is not None:
            self._adopt(bind, others)
        if bind is not None or mark != self._sources.fwmark:
            self._sources.fwmark = mark
            self._interface.forget_sources(lambda path: False)
        self._settle()

    def follow_keys(self, write: Callable[[bytes], None]) -> Callable[[], None]:
        """Call `write` with the keys of every handshake, each before its message leaves, as in a
        key log; all sessions begin anew, so that they can be read. Returns what ends it.

        Who gets them can read all traffic, and pose as this interface.
        """

        def tell(secrets: HandshakeSecrets) -> None:
            write(keylog.lines(secrets))

        _log.warning("ALL KEYS of this interface are told from now on: traffic is not secret")
        self._add_key_reader(tell)
        if (key := self.snapshot().private_key) is not None:
            write(keylog.static_line(key))
        self._interface.renew_sessions(clock.now())
        self._settle()
        return partial(self._remove_key_reader, tell)

    def _add_key_reader(self, tell: Callable[[HandshakeSecrets], None]) -> None:
        self._key_readers.append(tell)
        self._interface.tell_secrets(self._tell_secrets)

    def _remove_key_reader(self, tell: Callable[[HandshakeSecrets], None]) -> None:
        self._key_readers.remove(tell)
        if not self._key_readers:
            self._interface.tell_secrets(None)
        _log.warning("keys of this interface are no longer told to one who asked for them")

    def _tell_secrets(self, secrets: HandshakeSecrets) -> None:
        for tell in self._key_readers:
            tell(secrets)

    def _bind_for(self, change: InterfaceChange) -> tuple[Bind | None, list[list[socket.socket]]]:
        """New sockets if the change asks for another port while sockets are open."""
        port = change.listen_port
        if port is None or port == self._interface.listen_port or not self._network.is_open:
            return None, []
        mark = self._sources.fwmark if change.fwmark is None else change.fwmark
        try:
            return self._open_sockets(port, mark)
        except OSError as error:
            number = error.errno or errno.EIO
            raise ConfigError(f"cannot listen on UDP port {port}: {error}", number) from error

    def _open_sockets(self, port: int, mark: int) -> tuple[Bind, list[list[socket.socket]]]:
        if self._workers is None:
            return Bind.open(port, mark, self._options), []
        return Bind.open_shared(port, mark, self._options)

    def _adopt(self, bind: Bind, others: list[list[socket.socket]]) -> None:
        self._network.adopt(bind)
        if self._workers is not None:
            self._workers.adopt(others)

    def _set_fwmark(self, mark: int) -> None:
        try:
            self._network.set_fwmark(mark)
            if self._workers is not None:
                self._workers.set_fwmark(mark)
        except OSError as error:
            raise ConfigError(f"cannot set fwmark {mark:#x}: {error}", error.errno or 1) from error

    # The link.

    def _link_changed(self) -> None:
        descriptor = self._link.fileno()
        try:
            changed = self._link.read()
        except OSError as error:
            _log.info("interface is gone: %s", error)
            self.close()
            return
        if self._link.fileno() != descriptor:
            self._loop.remove_reader(descriptor)
            self._loop.add_reader(self._link.fileno(), self._link_changed)
        if changed:
            self._apply_link(self._link.state())

    def _apply_link(self, state: LinkState) -> None:
        self._queue.is_set_to(state.queue_length)
        if state.mtu != self._interface.mtu or self._from_host.mtu == 0:
            self._interface.mtu = self._from_host.mtu = state.mtu
            self._fit_super_packets(state.mtu)
        # Only ICMP errors need them, and do without.
        with contextlib.suppress(OSError):
            self._own_addresses = self._link.addresses()
            self._interface.set_own_addresses(*self._own_addresses)
        self._tell_workers()
        if state.up and not self._up:
            self._up = True
            self._bring_up()
        elif self._up and not state.up:
            self._bring_down()
        self._settle()

    def _tell_workers(self) -> None:
        if self._workers is not None:
            self._workers.set_link(self._up, self._interface.mtu, *self._own_addresses)

    def _fit_super_packets(self, mtu: int) -> None:
        """One super-packet of the host shall be one send: a few rows left over cost a whole one."""
        segments = max(1, min(MAX_BATCH, LARGEST_SEND // datagram_size(mtu, mtu)))
        try:
            self._link.set_gso_limits(min(LARGEST_GSO, segments * mtu + GSO_HEADERS), segments)
        except OSError as error:
            _log.debug("gso limits stay as they are: %s", error)

    def _bring_up(self) -> None:
        self._open_retry = None
        try:
            bind, others = self._open_sockets(self._interface.listen_port, self._sources.fwmark)
        except OSError as error:
            _log.error("cannot open UDP sockets, trying again: %s", error)
            self._open_retry = self._loop.call_later(_OPEN_RETRY, self._bring_up)
            return
        now = clock.now()
        self._interface.configure(InterfaceChange(listen_port=bind.port), now)
        self._interface.up(now)
        self._tell_workers()
        self._adopt(bind, others)
        _log.info("interface is up, UDP port %d", bind.port)
        self._settle()

    def _bring_down(self) -> None:
        self._up = False
        if self._open_retry is not None:
            self._open_retry.cancel()
            self._open_retry = None
        self._interface.down()
        self._network.close_sockets()
        self._tell_workers()
        if self._workers is not None:
            self._workers.close_sockets()
        _log.info("interface is down")

    # Packets.

    def _tun_readable(self, queue: Tun) -> None:
        if not self._up:
            # A packet can overtake the news that the link is up.
            self._link_changed()
            if self._closed.done():
                return
        super()._tun_readable(queue)

    def _tun_gone(self) -> None:
        self.close()

    def _pause(self, pause: bool) -> None:
        if pause or not self._closed.done():
            super()._pause(pause)

    def _receive_stray(self, stray: Stray) -> None:
        """A datagram that a worker has nothing to do with."""
        size = len(stray.datagram)
        layout = Slab(size).layout(size)
        layout.slab.view[:] = stray.datagram
        batch = DatagramBatch(layout, 1, size, stray.path, stray.ecn)
        self._interface.receive_datagrams(batch, clock.now())
        self._flush()

    # Time.

    def _settle(self) -> None:
        """The end of every turn: outputs moved, events told, timer set."""
        self._flush()
        for event in self._interface.poll_events():
            _tell(event)
        if self._workers is not None:
            self._workers.push()
        deadline = self._interface.next_deadline()
        if deadline < self._timer_deadline and not self._closed.done():
            if self._timer is not None:
                self._timer.cancel()
            self._timer_deadline = deadline
            delay = max(0.0, deadline - clock.now())
            self._timer = self._loop.call_later(delay, self._timeout)

    def _turned(self, turn: Turn, reached: Set[int]) -> None:
        self._queue.turned(turn, reached)

    def _timeout(self) -> None:
        self._timer = None
        self._timer_deadline = inf
        self._interface.handle_timeout(clock.now())
        self._settle()


def _close(bind: Bind, others: list[list[socket.socket]]) -> None:
    bind.close()
    for group in others:
        for sock in group:
            sock.close()


def _tell(event: Event) -> None:
    level = logging.WARNING if event.kind is EventKind.HANDSHAKE_GIVEN_UP else logging.DEBUG
    if _log.isEnabledFor(level):
        peer = event.public_key.hex()[:8] if event.public_key else "unknown peer"
        _log.log(level, "%s: %s%s", peer, event.kind, f" ({event.detail})" if event.detail else "")
