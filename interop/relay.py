"""A middlebox between two ends: forwards datagrams, and may drop, hold, repeat or re-source them.

    left ── eth0 10.80.0.1 ──┐
                             ├── bridge ── relay 10.80.0.9:51820, for right: 10.80.0.9:PORT
    right ─ eth0 10.80.0.2 ──┘

Both ends only ever see the relay, as behind a NAT.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Self

from interop.netns import Namespace
from interop.tunnel import PORT, End

Policy = Callable[[bool, bytes], Iterable[bytes]]
"""From (does it go to right?, datagram) to what is forwarded in its place."""

ADDRESS, ADDRESS_V6 = "10.80.0.9", "fd80::9"
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_ADDRESS = {4: ADDRESS, 6: ADDRESS_V6}
_CLASS = {4: (socket.IPPROTO_IP, socket.IP_TOS), 6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}
_SO_RCVBUFFORCE = 33
_BURST = 32
_PAUSE = 0.002
"""Seconds after each burst, so that a receiver's buffer is not what loses datagrams."""


def forward(to_right: bool, datagram: bytes) -> Iterable[bytes]:
    """The policy that changes nothing."""
    return (datagram,)


class Relay:
    """Forwards while the block runs; `policy` may be replaced at any time.

    Left and right are reached over IP `version`; what goes to right has the `traffic_class`.
    """

    def __init__(
        self, namespace: Namespace, right: End, version: int = 4, traffic_class: int = 0
    ) -> None:
        self.policy: Policy = forward
        self._version = version
        self._class = traffic_class
        self.namespace = namespace
        self._right = (right.outer(version), PORT)
        self._left: tuple[str, int] | None = None
        self._outside = namespace.socket(_FAMILY[version], socket.SOCK_DGRAM)
        self._outside.bind((_ADDRESS[version], PORT))
        self._outside.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        self._inside = self._connected()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _connected(self) -> socket.socket:
        made = self.namespace.socket(_FAMILY[self._version], socket.SOCK_DGRAM)
        made.setsockopt(*_CLASS[self._version], self._class)
        made.connect(self._right)
        return made

    def rebind(self) -> None:
        """From now on right sees another port, as after a NAT forgot its mapping."""
        old, self._inside = self._inside, self._connected()
        old.close()

    def _run(self) -> None:
        while not self._ending.is_set():
            inside = self._inside
            try:
                ready, _, _ = select.select([self._outside, inside], [], [], 0.05)
                if self._outside in ready:
                    datagram, self._left = self._outside.recvfrom(65535)
                    for number, out in enumerate(self.policy(True, datagram), 1):
                        self._inside.send(out)
                        if number % _BURST == 0:
                            time.sleep(_PAUSE)
                if inside in ready and self._left is not None:
                    for out in self.policy(False, inside.recv(65535)):
                        self._outside.sendto(out, self._left)
            except (OSError, ValueError):
                continue  # rebound meanwhile, or the end is not listening now

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join()
        self._outside.close()
        self._inside.close()
