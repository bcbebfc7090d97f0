"""What is on the wire: an AF_PACKET socket, and WireGuard's messages in what it saw."""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

from interop.netns import Namespace
from interop.shell import wait_until

_ETH_P_ALL = 0x0003
_SNAPLEN = 65535
# Seconds that what still comes at the end may take.
_REST = 2.0
INITIATION, RESPONSE, COOKIE_REPLY, DATA = 1, 2, 3, 4
_MAC2_AT = {INITIATION: 132, RESPONSE: 76}


@dataclass(frozen=True)
class Message:
    """One UDP datagram that has the form of a WireGuard message."""

    at: float
    """Seconds, the suite's monotonic clock."""
    source: str
    destination: str
    source_port: int
    destination_port: int
    traffic_class: int
    """DSCP and ECN, as in the outer header."""
    hop_limit: int
    dont_fragment: bool
    """IPv4's flag; over IPv6 always set, as routers never fragment there."""
    identification: int
    """IPv4's; 0 over IPv6."""
    flow_label: int
    """IPv6's; 0 over IPv4."""
    checksum: int
    """Of UDP; 0: none."""
    payload: bytes

    @property
    def kind(self) -> int:
        return self.payload[0]

    @property
    def receiver(self) -> int:
        """The receiver index of a response, a cookie reply or data."""
        at = 8 if self.kind == RESPONSE else 4
        return int(struct.unpack_from("<I", self.payload, at)[0])

    @property
    def has_mac2(self) -> bool:
        at = _MAC2_AT.get(self.kind)
        return at is not None and any(self.payload[at : at + 16])


class Capture:
    """All frames that an interface sends or receives, until it is closed."""

    def __init__(self, namespace: Namespace, device: str = "eth0") -> None:
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        self._socket.bind((device, _ETH_P_ALL))
        self.frames: list[tuple[float, bytes]] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        end = inf
        while time.monotonic() < end:
            if end == inf and self._ending.is_set():
                end = time.monotonic() + _REST
            ready, _, _ = select.select([self._socket], [], [], 0.05)
            if ready:
                frame = self._socket.recv(_SNAPLEN)
                self.frames.append((time.monotonic(), frame))
            elif end != inf:
                return

    def close(self) -> None:
        """Read what is left, then end, also where there is no end of it."""
        self._ending.set()
        self._thread.join()
        self._socket.close()

    def messages(self, kind: int | None = None, source: str | None = None) -> list[Message]:
        """The WireGuard messages so far, of one kind or all, from one outer address or all."""
        found = (_message_untrusted(at, frame) for at, frame in list(self.frames))
        return [
            message
            for message in found
            if message is not None
            and (kind is None or message.kind == kind)
            and (source is None or message.source == source)
        ]

    def wait_for(
        self, what: str, kind: int, source: str | None, timeout: float, count: int = 1
    ) -> Message:
        """The `count`th message of that kind and source (None: any), waiting for it.

        :raises ScenarioFailed: not within `timeout` s.
        """

        def found() -> list[Message]:
            messages = self.messages(kind, source)
            return messages if len(messages) >= count else []

        return wait_until(what, found, timeout)[count - 1]

    def holds(self, needle: bytes) -> bool:
        """Whether any frame holds these bytes."""
        return any(needle in frame for _, frame in list(self.frames))

    def write(self, path: Path) -> None:
        """As a pcap file, for Wireshark."""
        with path.open("wb") as out:
            out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, _SNAPLEN, 1))
            for at, frame in self.frames:
                seconds, fraction = divmod(at, 1)
                stamp = struct.pack("<II", int(seconds), int(fraction * 1e6))
                out.write(stamp + struct.pack("<II", len(frame), len(frame)) + frame)


@contextlib.contextmanager
def capture(
    namespace: Namespace, directory: Path, device: str = "eth0", name: str | None = None
) -> Iterator[Capture]:
    """Capture while the block runs; the pcap file is kept in `directory`, as `name` or as the
    namespace and the device are called.
    """
    running = Capture(namespace, device)
    try:
        yield running
    finally:
        running.close()
        running.write(directory / f"{name or f'{namespace.name}-{device}'}.pcap")


def _message_untrusted(at: float, frame: bytes) -> Message | None:
    """The WireGuard message in an Ethernet frame, or None."""
    kind = frame[12:14]
    if kind == b"\x08\x00" and len(frame) >= 34 and frame[23] == 17:
        header = 14 + 4 * (frame[14] & 15)
        source, destination = frame[26:30], frame[30:34]
        traffic_class, hop_limit, dont_fragment = frame[15], frame[22], bool(frame[20] & 0x40)
        identification, flow_label = int.from_bytes(frame[18:20], "big"), 0
    elif kind == b"\x86\xdd" and len(frame) >= 54 and frame[20] == 17:
        header = 54
        source, destination = frame[22:38], frame[38:54]
        traffic_class, hop_limit = (frame[14] & 15) << 4 | frame[15] >> 4, frame[21]
        dont_fragment = True
        identification, flow_label = 0, int.from_bytes(frame[15:18], "big") & 0xFFFFF
    else:
        return None
    payload = frame[header + 8 :]
    if len(payload) < 32 or payload[0] not in (1, 2, 3, 4) or any(payload[1:4]):
        return None
    source_port, destination_port, _, checksum = struct.unpack_from(">4H", frame, header)
    return Message(
        at,
        str(ipaddress.ip_address(source)),
        str(ipaddress.ip_address(destination)),
        source_port,
        destination_port,
        traffic_class,
        hop_limit,
        dont_fragment,
        identification,
        flow_label,
        checksum,
        payload,
    )
