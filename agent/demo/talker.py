"""A pod's end of numbered UDP flows: a program, run inside the pod.

usage: python -m agent.demo.talker OWN RATE

OWN is the pod's number. Each line on standard input is a JSON object {"round": n, "to": {number:
address}}: from now on RATE datagrams a second go to each address, numbered anew if it is another
round; to nobody, if `to` is empty. The end of standard input is the end.

Four times a second a report about the round goes to standard output, numbers by pod:
{"round": n, "sent": {number: n}, "received": {number: n}}.
"""

import json
import os
import select
import socket
import struct
import sys
import time
from collections import defaultdict
from contextlib import suppress

PORT = 4600
MARKER = b"wgpy-in-the-clear"
"""Of all that pods say; nobody else says it."""
_FORM = struct.Struct(">HIQ")
_TURN = 0.01
_REPORT = 0.25
_SO_RCVBUFFORCE = 33
_BUFFER = 4 << 20
# Of a datagram's number; above is the process that sent it, as a pod may be followed by another.
_COUNT = (1 << 32) - 1


def message(own: int, round_: int, number: int) -> bytes:
    text = f": pod {own} says hello, number {number & _COUNT}."
    return MARKER + text.encode() + _FORM.pack(own, round_, number)


class Talker:
    """Sends by the clock, so that a turn that came late is made up for by the next."""

    def __init__(self, own: int, rate: float, sock: socket.socket) -> None:
        self._own = own
        self._rate = rate
        self._socket = sock
        self._round = 0
        self._to: dict[str, str] = {}
        self._sent: dict[str, int] = {}
        self._next = 0
        self._due_at = 0.0
        # By round and sender, the numbers seen: what comes twice counts once.
        self._seen: defaultdict[tuple[int, int], set[int]] = defaultdict(set)

    def tell(self, line: str, now: float) -> None:
        told = json.loads(line)
        self._to = told["to"]
        if told["round"] != self._round:
            self._round, self._next, self._sent = told["round"], os.getpid() << 32, {}
        for number in self._to:
            self._sent.setdefault(number, 0)
        self._due_at = now

    def send(self, now: float) -> None:
        """What is due."""
        while self._to and self._due_at <= now:
            datagram = message(self._own, self._round, self._next)
            for number, address in self._to.items():
                # Refused on the way is as lost as any other.
                with suppress(OSError):
                    self._socket.sendto(datagram, (address, PORT))
                self._sent[number] += 1
            self._next += 1
            self._due_at += 1 / self._rate

    def receive_untrusted(self) -> None:
        """All that waits."""
        while True:
            try:
                datagram = self._socket.recv(2048)
            except BlockingIOError:
                return
            if datagram.startswith(MARKER) and len(datagram) > len(MARKER) + _FORM.size:
                own, round_, number = _FORM.unpack(datagram[-_FORM.size :])
                self._seen[round_, own].add(number)

    def report(self) -> str:
        received = {own: len(seen) for (n, own), seen in self._seen.items() if n == self._round}
        return json.dumps({"round": self._round, "sent": self._sent, "received": received})


def main(own: int, rate: float) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    sock.bind(("0.0.0.0", PORT))
    sock.setblocking(False)
    talker = Talker(own, rate, sock)
    report_at, rest = 0.0, b""
    while True:
        ready, _, _ = select.select([sock, sys.stdin], [], [], _TURN)
        now = time.monotonic()
        if sys.stdin in ready:
            if not (data := os.read(0, 4096)):
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                talker.tell(line.decode(), now)
        talker.receive_untrusted()
        talker.send(now)
        if now >= report_at:
            print(talker.report(), flush=True)
            report_at = now + _REPORT


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
