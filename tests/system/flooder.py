"""Datagrams to one address, about 10,000 a second: a program, run inside a namespace.

usage: python -m tests.system.flooder ADDRESS PORT

Until the end of standard input; then standard output has how many the kernel took.
"""

from __future__ import annotations

import select
import socket
import sys
from contextlib import suppress

_BURST = 10
_PAUSE = 0.001


def flood(address: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sent = 0
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        while not select.select([sys.stdin], [], [], _PAUSE)[0]:
            for _ in range(_BURST):
                with suppress(OSError):
                    sent += bool(sock.sendto(b"flood", (address, port)))
    return sent


if __name__ == "__main__":
    print(flood(sys.argv[1], int(sys.argv[2])))
