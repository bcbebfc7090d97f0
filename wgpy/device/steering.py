"""Which queue of the TUN a flow waits in: no lone packet stands in line behind a stream.

A queue is first in, first out, and refuses what comes when it is full. So streams have one for
themselves, the last of the queues; everything else waits in the others, which are read first.

It is the kernel that chooses: a flow waits where we last wrote a packet of it, in either direction
(drivers/net/tun.c, tun_flow_update; it forgets that after three seconds), and a flow that it does
not know in any queue, by hash. So we remember the flows that super-packets come from, and write
their acknowledgements to the queue for streams; everything else goes to the one before it. Streams
are where they belong within a round trip. A flow that is never answered stays where its hash says.

Order: a flow moves from an early queue to a later one, and before the last one is read those before
it are, so what came first is read first unless an early queue holds more than its share of a turn.
A flow moves back when it has sent no super-packet for a second or two: nothing of it waits by then,
or a packet or two, once. For the same reason nothing is forgotten to make room.

With `--workers` each process has queues of its own; a flow is the process's that wrote last.
"""

import contextlib
import select
from collections.abc import Sequence

from tun import Tun
from wgpy.device import clock
from wgpy.device.options import DeviceOptions
from wgpy.device.sizes import MOST_QUEUES, QUEUES
from wgpy.protocol.batch import Buffer

# Seconds after which a flow that has sent no super-packet is none to remember; twice that at most.
_AGE = 1.0
# As many as anyone may make us remember in that time.
_MOST = 1024


def open_queues(name: str, options: DeviceOptions) -> list[Tun]:
    """Make an interface, with as many queues for each worker. OSError."""
    offloads, uso = options.tun_offloads, options.uso
    count = options.workers * min(QUEUES, MOST_QUEUES // options.workers)
    try:
        return Tun.open_queues(name, count, offloads=offloads, uso=uso)
    except OSError as error:
        # An interface that is there already has one.
        if options.workers == 1:
            with contextlib.suppress(OSError):
                return [Tun.open(name, offloads=offloads, uso=uso)]
        raise error


class Steering:
    """The `queues` of one TUN in the order in which they are read, and its streams."""

    def __init__(self, queues: Sequence[Tun]) -> None:
        """With one queue there is nothing to choose."""
        self.queues = tuple(queues)
        self._lone, self.bulk = self.queues[-2:][0], self.queues[-1]
        # One call looks into all of them.
        self._early = select.epoll()
        for queue in self.queues[:-1]:
            self._early.register(queue.fd, select.EPOLLIN)
        # Whether there are streams: who has none needs no clock.
        self.remembers = False
        # As packets to the host have them, of this second and the one before.
        self._streams: set[bytes] = set()
        self._former: set[bytes] = set()
        self._since = clock.now()

    def close(self) -> None:
        """Give up the TUN; may be called again."""
        self._early.close()
        for queue in self.queues:
            queue.close()

    def early(self) -> list[Tun]:
        """The queues before that of the streams in which something waits, in their order."""
        if self._lone is self.bulk or not (ready := dict(self._early.poll(0))):
            return []
        return [queue for queue in self.queues if queue.fd in ready]

    def sent(self, packet: memoryview) -> None:
        """The host sent this super-packet."""
        if self._lone is not self.bulk and len(self._streams) < _MOST:
            self._streams.add(_reverse(packet))
            if not self.remembers:
                self.remembers = True
                self._since = clock.now()

    def queue_for(self, packet: Buffer) -> Tun:
        """Where a packet to the host is written."""
        if not self.remembers:
            return self._lone
        flow = _flow(packet)
        return self.bulk if flow in self._streams or flow in self._former else self._lone

    def age(self, now: float) -> None:
        """Forget what is old."""
        age = now - self._since
        if age >= _AGE:
            self._former = self._streams if age < 2 * _AGE else set()
            self._streams = set()
            self._since = now
            self.remembers = bool(self._former)


def _flow(packet: Buffer) -> bytes:
    """Addresses and ports. Whatever else stands there belongs to no stream."""
    return bytes(packet[12:24] if packet[0] >> 4 == 4 else packet[8:44])


def _reverse(packet: Buffer) -> bytes:
    """The flow of the answers to it."""
    flow = _flow(packet)
    size = len(flow) // 2 - 2
    return flow[size : 2 * size] + flow[:size] + flow[-2:] + flow[-4:-2]
