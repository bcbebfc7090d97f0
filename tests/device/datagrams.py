"""Two binds on loopback, and what a receiver makes of what it gets."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from wgpy.device.bind import Bind, Received
from wgpy.device.options import DeviceOptions
from wgpy.protocol.config import Endpoint
from wgpy.protocol.path import Path

LOOPBACKS = ("127.0.0.1", "::1")
both_families = pytest.mark.parametrize("host", LOOPBACKS)


@contextmanager
def binds(
    sender: DeviceOptions | None = None, receiver: DeviceOptions | None = None
) -> Iterator[tuple[Bind, Bind]]:
    """A bind to send with and one to receive with."""
    left = Bind.open(0, 0, sender or DeviceOptions())
    right = Bind.open(0, 0, receiver or DeviceOptions())
    try:
        yield left, right
    finally:
        left.close()
        right.close()


def drain(bind: Bind, host: str) -> list[tuple[Received, list[bytes]]]:
    """All that waits for `bind` in the family of `host`, cut into datagrams."""
    sock = bind.socket_for(Path(Endpoint(host, 1)))
    view = memoryview(bytearray(65536))
    batches = []
    while (received := bind.receive(sock, view)) is not None:
        step = received.segment or 1
        rows = [
            bytes(view[k : min(k + step, received.size)]) for k in range(0, received.size, step)
        ]
        batches.append((received, rows or [b""]))
    return batches


def datagrams(bind: Bind, host: str) -> list[bytes]:
    """The datagrams alone."""
    return [row for _, rows in drain(bind, host) for row in rows]
