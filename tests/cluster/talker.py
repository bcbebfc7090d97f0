"""One pod's end of numbered UDP flows: a program, run inside the pod.

usage: python -m tests.cluster.talker OWN RATE PORT ADDRESS...

OWN (below 65536) says who sends. After the first line on standard input RATE datagrams a second go
to each ADDRESS, until the second line. The end of standard input ends the listening, and a report
goes to standard output: {"sent": {address: n}, "begun": time, "refused": {reason: n}, "received":
{own: {"count": n, "again": n, "missing": [the first numbers that did not come, before the last that
did]}}}.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from collections import Counter, defaultdict

from tests.cluster.plaintext import MARKER

_FORM = struct.Struct(">HQ")
_TURN = 0.005
_MOST_MISSING = 1000
_SO_RCVBUFFORCE = 33


class Talker:
    """Sends by the clock, so that a turn that came late is made up for by the next."""

    def __init__(self, own: int, rate: float, port: int, addresses: list[str]) -> None:
        self._own = own
        self._rate = rate
        self._port = port
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        self._socket.bind(("::", port))
        self._socket.setblocking(False)
        self._addresses = [a if ":" in a else f"::ffff:{a}" for a in addresses]
        self._sent = 0
        self._begun = 0.0
        self._seen: defaultdict[int, set[int]] = defaultdict(set)
        self._again: Counter[int] = Counter()
        self._refused: Counter[str] = Counter()

    def run(self) -> None:
        begin: float | None = None
        lines = 0
        while True:
            ready, _, _ = select.select([self._socket, sys.stdin], [], [], _TURN)
            if self._socket in ready:
                self._receive_untrusted()
            if sys.stdin in ready:
                if not os.read(0, 1):
                    break
                lines += 1
                begin = time.monotonic() if lines == 1 else None
                self._begun = self._begun or time.time()
            if begin is not None:
                self._send(int((time.monotonic() - begin) * self._rate))
        self._receive_untrusted()

    def report(self) -> str:
        sent = {a.removeprefix("::ffff:"): self._sent for a in self._addresses}
        received = {
            own: {
                "count": len(numbers),
                "again": self._again[own],
                "missing": sorted(set(range(max(numbers))) - numbers)[:_MOST_MISSING],
            }
            for own, numbers in self._seen.items()
        }
        return json.dumps(
            {"sent": sent, "begun": self._begun, "refused": self._refused, "received": received}
        )

    def _send(self, due: int) -> None:
        while self._sent < due:
            datagram = MARKER + _FORM.pack(self._own, self._sent)
            for address in self._addresses:
                try:
                    self._socket.sendto(datagram, (address, self._port))
                except OSError as error:  # refused on the way: as lost as any other
                    self._refused[str(error.strerror)] += 1
            self._sent += 1

    def _receive_untrusted(self) -> None:
        while True:
            try:
                datagram = self._socket.recv(2048)
            except BlockingIOError:
                return
            if len(datagram) != len(MARKER) + _FORM.size or not datagram.startswith(MARKER):
                continue
            own, number = _FORM.unpack_from(datagram, len(MARKER))
            if number in self._seen[own]:
                self._again[own] += 1
            self._seen[own].add(number)


if __name__ == "__main__":
    talker = Talker(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
    talker.run()
    print(talker.report())
