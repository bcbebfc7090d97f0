"""The network side of a device: UDP sockets that are open while the interface is up."""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable

from wgpy.device import clock
from wgpy.device.bind import Bind, Received
from wgpy.device.sizes import MAX_WAITING, RECEIVE_SIZE, RECEIVE_SLAB, TURN_BYTES, TURN_RECEIVES
from wgpy.protocol.batch import MAX_BATCH, DatagramBatch, Slab
from wgpy.protocol.drops import DropReason
from wgpy.protocol.interface import Interface
from wgpy.protocol.shared import Transmit

_log = logging.getLogger("wgpy.device")


class Network:
    """Moves datagrams between the sockets and the core.

    `flush` is called when the core was given a batch, `settle` at the end of a turn; `pause` with
    True when a socket is full and the host should wait, with False when it may go on.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interface: Interface,
        flush: Callable[[], None],
        settle: Callable[[], None],
        pause: Callable[[bool], None],
    ) -> None:
        self._loop = loop
        self._interface = interface
        self._flush = flush
        self._settle = settle
        self._pause = pause
        self._slab = Slab(RECEIVE_SLAB)
        # Lone datagrams of any size share this one.
        self._lone = self._slab.layout(RECEIVE_SIZE)
        self._bind: Bind | None = None
        # Sockets that are read again without being readable.
        self._again: set[socket.socket] = set()
        self._waiting: deque[Transmit] = deque()

    # Life.

    @property
    def is_open(self) -> bool:
        return self._bind is not None

    def adopt(self, bind: Bind) -> None:
        """Speak through `bind` from now on, instead of what was open before."""
        self.close_sockets()
        self._bind = bind
        for sock in bind.sockets:
            self._loop.add_reader(sock.fileno(), self._readable, bind, sock)

    def set_fwmark(self, fwmark: int) -> None:
        """Mark outgoing datagrams. Raises OSError, and the mark stays what it was."""
        if self._bind is not None:
            self._bind.set_fwmark(fwmark)

    def close_sockets(self) -> None:
        """Silence: the interface is down."""
        bind, self._bind = self._bind, None
        if bind is None:
            return
        for sock in bind.sockets:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())
        bind.close()
        if self._waiting:
            self._waiting.clear()
            self._pause(False)

    # Receiving.

    def _readable(self, bind: Bind, sock: socket.socket) -> None:
        ahead: Received | None = None
        budget = TURN_BYTES
        for left in reversed(range(TURN_RECEIVES)):
            if bind is not self._bind:
                # What was received last closed the sockets.
                return
            first = ahead or bind.receive(sock, self._slab.view)
            if first is None:
                break
            last = left == 0 or budget <= first.size
            run, ahead = self._extend(bind, sock, first, last)
            self._interface.receive_datagrams(self._batch(run), clock.now())
            # The rows are used again by the next receive.
            self._flush()
            if last:
                if bind.may_hold(sock) and sock not in self._again:
                    self._again.add(sock)
                    self._loop.call_soon(self._read_again, bind, sock)
                break
            budget -= run.size
            if ahead is not None:
                start = run.size
                self._slab.view[: ahead.size] = self._slab.view[start : start + ahead.size]
        self._settle()

    def _extend(
        self, bind: Bind, sock: socket.socket, run: Received, last: bool
    ) -> tuple[Received, Received | None]:
        """Receive more behind a run, as long as it continues it.

        What does not continue it, and was received all the same, lies behind the run and is
        returned as the second; after the `last` batch of a turn there must be none.
        """
        size, segment, path, ecn = run
        while (
            not last
            and size > segment
            and size % segment == 0
            and size + RECEIVE_SIZE <= RECEIVE_SLAB
            and size + size <= MAX_BATCH * segment
        ):
            more = bind.receive(sock, self._slab.view[size:])
            if more is None:
                break
            fits = size + more.size <= MAX_BATCH * segment
            if not fits or more.path is not path or (more.segment, more.ecn) != (segment, ecn):
                return Received(size, segment, path, ecn), more
            size += more.size
        return Received(size, segment, path, ecn), None

    def _batch(self, run: Received) -> DatagramBatch:
        size, segment, path, ecn = run
        if size <= segment or segment == 0:
            return DatagramBatch(self._lone, 1, size, path, ecn)
        layout = self._slab.layout(segment)
        count = -(-size // segment)
        if count > layout.capacity:
            # No kernel sends so many today (UDP_MAX_SEGMENTS).
            self._interface.drop(DropReason.TRUNCATED, count - layout.capacity)
            count, size = layout.capacity, layout.capacity * segment
        return DatagramBatch(layout, count, size - (count - 1) * segment, path, ecn)

    def _read_again(self, bind: Bind, sock: socket.socket) -> None:
        self._again.discard(sock)
        self._readable(bind, sock)

    # Sending.

    def send(self, transmits: list[Transmit]) -> None:
        """Send in order; what a full socket does not take now is kept and sent later."""
        for transmit in transmits:
            rest = transmit if self._waiting else self._send(transmit)
            if rest is not None:
                self._wait(rest)

    def _send(self, transmit: Transmit) -> Transmit | None:
        """Hand one transmit to the kernel; what its socket has no room for is returned."""
        path, buffers, segment, tos, size, _ = transmit
        if self._bind is None:
            self._interface.send_failed(transmit)
            return None
        result = self._bind.send(buffers, segment, size, path, tos)
        if result.source_lost:
            self._interface.source_lost(transmit)
        if result.error:
            self._interface.send_failed(transmit._replace(size=size - result.sent))
        if not result.would_block:
            return None
        # The buffers are valid only now.
        rest = b"".join(buffers)[result.sent :]
        return transmit._replace(buffers=[rest], size=len(rest))

    def _wait(self, transmit: Transmit) -> None:
        if self._bind is None or len(self._waiting) >= MAX_WAITING:
            self._interface.send_failed(transmit)
            return
        if not self._waiting:
            self._pause(True)
            self._when_writable(self._bind.socket_for(transmit.path))
        self._waiting.append(transmit._replace(buffers=[b"".join(transmit.buffers)]))

    def _when_writable(self, sock: socket.socket) -> None:
        self._loop.add_writer(sock.fileno(), self._writable, sock)

    def _writable(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock.fileno())
        while self._waiting:
            rest = self._send(self._waiting.popleft())
            if rest is not None and self._bind is not None:
                self._waiting.appendleft(rest)
                self._when_writable(self._bind.socket_for(rest.path))
                return
        self._pause(False)
        self._settle()
