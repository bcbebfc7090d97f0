"""What nodes put on the underlay, each frame told by what somebody in between can read of it."""

import re
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Literal, TypeAlias

from agent.demo.lab import Namespace
from agent.demo.shell import DemoError
from agent.demo.talker import MARKER

Kind: TypeAlias = Literal["data", "handshake", "api", "neighbours", "other", "clear"]

OVERLAY = ip_network("10.244.0.0/16")
API_PORT = 6443
_ETH_P_ALL, _IPV4, _ARP = 3, 0x0800, 0x0806
_TCP, _UDP = 6, 17
_ETHERNET = 14
# Handshake: initiation, response, cookie. Then data, which has an empty packet for keepalive.
_HANDSHAKES, _DATA = (1, 2, 3), 4
_LEAST_MESSAGE = 32
# Source and destination of an IPv4 header, wherever it is in a frame.
_INNER_PAIR = re.compile(rb"\x0a\xf4..\x0a\xf4", re.DOTALL)
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_OUTGOING = 263, 6, 4
_SO_RCVBUFFORCE = 33
_BUFFER = 64 << 20
_POLL = 0.2
_ARRIVAL = 5.0


class Capture:
    """Counts frames from when it is made until it is closed."""

    def __init__(self, switch: Namespace, ports: range) -> None:
        """Sees what comes in at the switch, so what nodes send, each frame once.

        `ports`: of UDP, on which nodes speak WireGuard.
        """
        self.counts: Counter[Kind] = Counter()
        self.lengths: Counter[Kind] = Counter()
        # What a datagram of WireGuard, and one that can be read, has carried lately.
        self.cipher = b""
        self.clear = b""
        self._ports = ports
        self._missed = 0
        everything = socket.htons(_ETH_P_ALL)
        self._socket = switch.socket(socket.AF_PACKET, socket.SOCK_RAW, everything)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.settimeout(_POLL)
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    @property
    def missed(self) -> int:
        """Frames that there was no room for: more than none, and the capture proves nothing."""
        told = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        # Reading it sets it back.
        self._missed += struct.unpack("=II", told)[1]
        return self._missed

    def close(self) -> None:
        self._ended = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._ended:
            with suppress(TimeoutError):
                frame, (device, _, direction, *_) = self._socket.recvfrom(1 << 16)
                # The last frames of a port that is gone have no name any more.
                if direction != _PACKET_OUTGOING and device != "br0":
                    self._take(frame)

    def _take(self, frame: bytes) -> None:
        kind = classify_untrusted(frame, self._ports)
        self.counts[kind] += 1
        self.lengths[kind] += len(frame)
        if kind == "data" and len(frame) > _ETHERNET + 20 + 8 + _LEAST_MESSAGE:
            self.cipher = frame[_ETHERNET + 28 :]
        elif kind == "clear":
            self.clear = frame[_ETHERNET + 28 :]


def classify_untrusted(frame: bytes, ports: range) -> Kind:
    """What an Ethernet frame is to whoever sees it; "clear" if it tells of pods.

    `ports`: as of `Capture`.
    """
    if MARKER in frame:
        return "clear"
    kind, rest = int.from_bytes(frame[12:14], "big"), frame[_ETHERNET:]
    if kind == _ARP:
        told = any(_is_inner(address) for address in (rest[14:18], rest[24:28]))
        return "clear" if told else "neighbours"
    if kind == _IPV4 and len(rest) >= 20:
        if any(_is_inner(address) for address in (rest[12:16], rest[16:20])):
            return "clear"
        body = rest[4 * (rest[0] & 15) :]
        ends = struct.unpack_from(">HH", body.ljust(4, b"\0"))
        if rest[9] == _UDP and (message := _wireguard(body, ends, ports)):
            return message
        if rest[9] == _TCP and API_PORT in ends:
            return "api"
    # Quoted by an ICMP error, or carried by a tunnel without encryption.
    return "clear" if _INNER_PAIR.search(rest) else "other"


def _wireguard(
    body: bytes, ends: tuple[int, ...], ports: range
) -> Literal["data", "handshake"] | None:
    message = body[8:]
    if ends[1] not in ports or len(message) < _LEAST_MESSAGE or any(message[1:4]):
        return None
    if message[0] == _DATA:
        return "data"
    return "handshake" if message[0] in _HANDSHAKES else None


def _is_inner(address: bytes) -> bool:
    return len(address) == 4 and ip_address(address) in OVERLAY


class Control:
    """Says something in the clear that the capture must see, so that its silence means something.

    As a pod network without encryption would: from one node's pods to another's, between agents'
    absence and their presence; and between the nodes themselves afterwards.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self.said = 0

    @property
    def seen(self) -> bool:
        """All of it, and nothing more."""
        return self._capture.counts["clear"] == self.said

    @property
    def unexpected(self) -> int:
        """Frames in the clear that were not said here."""
        return max(0, self._capture.counts["clear"] - self.said)

    def speak(
        self, sender: Namespace, source: str, receiver: Namespace, to: str, count: int
    ) -> None:
        """DemoError if it does not arrive."""
        try:
            with (
                sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth,
                receiver.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear,
            ):
                mouth.bind((source, 0))
                ear.bind((to, 0))
                ear.settimeout(_ARRIVAL)
                for number in range(count):
                    said = MARKER + b": can you read this? %d" % number
                    self.said += 1
                    mouth.sendto(said, ear.getsockname())
                    ear.recv(2048)
        except OSError as error:
            raise DemoError(f"what {source} says does not reach {to}: {error}") from None
