"""`python -m tests.cluster.slowpath TAP LEAST MOST SEED`: frames that come late, and out of order.

A packet filter leads what comes from the underlay here; each frame is held for a time of its own
and then comes in by the TAP. Without netem it is what a kernel offers for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from interop.netns import stop
from interop.shell import wait_until
from tests.cluster.node import Node

_TAP = "late0"
_TUNSETIFF = 0x400454CA
_IFF_TAP_NO_PI = 0x0002 | 0x1000
_FRAME = 65600
_ROOT = Path(__file__).parents[2]
_DIVERT = f"""
table netdev late {{
  chain divert {{
    type filter hook ingress device "eth0" priority -400
    udp dport {{ 51871, 51872 }} counter fwd to "{_TAP}"
  }}
}}
"""


@contextlib.contextmanager
def slow_path(node: Node, least: float, most: float, seed: int) -> Iterator[None]:
    """While the block runs, tunnel datagrams that come to the node are `least` to `most` s late.

    None is lost, not even at the beginning and at the end.
    """
    with tempfile.TemporaryFile() as said:
        words = [_TAP, str(least), str(most), str(seed)]
        argv = [sys.executable, "-m", "tests.cluster.slowpath", *words]
        child = node.start(*argv, output=said, environment={"PYTHONPATH": str(_ROOT)})
        try:
            wait_until("the slow path is there", lambda: said.seek(0) or said.read(), 30)
            # Frames are for the address of the interface that they would have come by.
            mac = node.run("cat", "/sys/class/net/eth0/address").strip()
            node.run("ip", "link", "set", _TAP, "address", mac, "up")
            node.run("nft", "-f", "-", stdin=_DIVERT)
            yield
        finally:
            node.run("nft", "add", "table", "netdev", "late")
            node.run("nft", "delete", "table", "netdev", "late")
            time.sleep(most + 0.1)
            stop(child)


def _run(name: str, least: float, most: float, seed: int) -> None:
    chance = random.Random(seed)
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP_NO_PI))
    print("ready", flush=True)
    held: list[tuple[float, int, bytes]] = []
    count = 0
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        if select.select([tap], [], [], wait)[0]:
            with contextlib.suppress(BlockingIOError):
                while frame := os.read(tap, _FRAME):
                    count += 1
                    due = time.monotonic() + chance.uniform(least, most)
                    heapq.heappush(held, (due, count, frame))
        while held and held[0][0] <= time.monotonic():
            with contextlib.suppress(OSError):  # it is not up yet
                os.write(tap, heapq.heappop(held)[2])


if __name__ == "__main__":
    _run(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
