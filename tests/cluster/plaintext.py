"""Whether anything of the overlay was on the underlay in the clear.

tcpdump keeps every frame that a node sends; afterwards each is looked at. A frame tells something
when an address in its headers (IP, ARP, neighbour discovery, what an ICMP error quotes, what a
tunnel without encryption carries) is of the overlay, or when it holds the marker of a payload.
"""

from __future__ import annotations

import itertools
import re
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import TypeAlias

from interop.netns import Namespace, stop
from interop.shell import wait_until

Overlay: TypeAlias = list[IPv4Network | IPv6Network]
MARKER = b"wgpy-in-the-clear"
"""Put it into what pods send."""
API_PORT = 6443
_BLOCK = 1.5
_SLL2 = 276
_SLL2_HEADER = 20
IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
_TCP, _UDP = 6, 17
_ICMPV6 = 58
_NEIGHBOUR = (b"\x87", b"\x88")
_numbers = itertools.count(1)


class Detector:
    """Watches all ports of a switch until it is closed.

    :param overlay: networks whose addresses must not show.
    """

    def __init__(self, switch: Namespace, directory: Path, overlay: Overlay) -> None:
        self._overlay = overlay
        # There may be several at once.
        name = f"{switch.name}-{next(_numbers)}"
        self._path = directory / f"{name}.pcap"
        self._log = directory / f"{name}-tcpdump.log"
        # What comes in at the switch is what nodes have sent: every frame once.
        # Neither woken nor writing for each: that would cost as much as carrying them.
        argv = f"tcpdump -i any -Q in -s 0 -B 131072 -w {self._path}"
        with self._log.open("wb") as log:
            self._child = switch.start(*argv.split(), "-Z", "root", output=log)
        wait_until("tcpdump listens", lambda: "listening on" in self._log.read_text(), 10)

    def close(self) -> None:
        """End the capture.

        :raises AssertionError: it missed frames, so that it can tell nothing.
        """
        if self._child.poll() is None:
            # The kernel hands over what it has once a second.
            time.sleep(_BLOCK)
            stop(self._child)
        said = self._log.read_text()
        missed = re.search(r"(\d+) packets? dropped by kernel", said)
        assert missed and missed[1] == "0", f"the capture is not complete: {said}"

    def frames(self) -> Iterator[tuple[float, int, bytes]]:
        """Unix time in seconds, ethertype, and what follows the link's header."""
        data = self._path.read_bytes()
        link = struct.unpack_from("<I", data, 20)[0]
        assert link == _SLL2, f"an unknown link type in {self._path}: {link}"
        at = 24
        while at + 16 <= len(data):
            seconds, micro, length, _ = struct.unpack_from("<IIII", data, at)
            at += 16
            frame = data[at : at + length]
            at += length
            yield seconds + micro / 1e6, int.from_bytes(frame[:2], "big"), frame[_SLL2_HEADER:]

    def findings(self) -> list[str]:
        """A sentence for each frame that tells something, oldest first; empty: nothing leaked."""
        return [
            f"{at:.6f}: {what}: {frame[:64].hex()}"
            for at, kind, frame in self.frames()
            if (what := told_untrusted(kind, frame, self._overlay))
        ]


def told_untrusted(kind: int, frame: bytes, overlay: Overlay) -> str:
    """What a frame says about the overlay to whoever sees it; empty: nothing.

    :param kind: ethertype.
    :param frame: what follows the Ethernet header.
    """
    if MARKER in frame:
        return "a payload in the clear"
    if kind == IPV4 and len(frame) >= 20:
        addresses, protocol = [frame[12:16], frame[16:20]], frame[9]
        rest = frame[4 * (frame[0] & 15) :]
    elif kind == IPV6 and len(frame) >= 40:
        addresses, protocol, rest = [frame[8:24], frame[24:40]], frame[6], frame[40:]
    elif kind == ARP and len(frame) >= 28:
        found = _inner([frame[14:18], frame[24:28]], overlay)
        return f"ARP with {found}" if found else ""
    else:
        return ""
    if found := _inner(addresses, overlay):
        return f"an inner address in the clear, {found}"
    return "" if _encrypted(protocol, rest) else _carried(protocol, rest, overlay)


def _carried(protocol: int, rest: bytes, overlay: Overlay) -> str:
    """An inner packet's header anywhere in what an outer packet carries."""
    if protocol == _ICMPV6 and rest[:1] in _NEIGHBOUR and len(rest) >= 24:
        found = _inner([rest[8:24]], overlay)
        return f"neighbour discovery of {found}" if found else ""
    for at in range(len(rest) - 19):
        header = rest[at : at + 40]
        if header[0] >> 4 == 4:
            pair = [header[12:16], header[16:20]]
        elif header[0] >> 4 == 6 and len(header) == 40:
            pair = [header[8:24], header[24:40]]
        else:
            continue
        inner = [_inner([address], overlay) for address in pair]
        if all(inner):
            return f"a packet carried in the clear, {' > '.join(inner)}"
    return ""


def _inner(addresses: list[bytes], overlay: Overlay) -> str:
    """The first of the addresses that is of the overlay, or nothing."""
    for raw in addresses:
        address = ip_address(raw)
        if any(address in network for network in overlay):
            return str(address)
    return ""


def _encrypted(protocol: int, rest: bytes) -> bool:
    """A message of WireGuard, or TLS with the API server: nothing in it can be read."""
    if protocol == _UDP:
        return len(rest) >= 40 and rest[8] in (1, 2, 3, 4) and not any(rest[9:12])
    return protocol == _TCP and API_PORT in struct.unpack_from(">HH", rest.ljust(4, b"\0"))
