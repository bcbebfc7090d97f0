"""Captures in the format pcapng, with the keys that Wireshark needs to read them.

draft-ietf-opsawg-pcapng; blocks, options and their contents are padded to four bytes.
"""

import struct
from typing import BinaryIO

# Packets of IP without a link's header.
LINKTYPE_RAW = 101
_SECTION = 0x0A0D0D0A
_INTERFACE = 1
_PACKET = 6
_SECRETS = 10
_BYTE_ORDER = 0x1A2B3C4D
# Secrets of the type "WireGuard Key Log".
_WIREGUARD = 0x57474B4C
_IF_NAME, _IF_TSRESOL = 2, 9
_NANOSECONDS = b"\x09"


class Writer:
    """Writes one section to a binary file."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        # How many there are in it.
        self.packets = 0
        self._interfaces: dict[str, int] = {}
        # Version 1.0, and a length that nobody knows yet.
        self._block(_SECTION, struct.pack("=IHHq", _BYTE_ORDER, 1, 0, -1))

    def packet(self, interface: str, at_ns: int, packet: bytes) -> None:
        """Add an IP packet, seen on `interface` that many nanoseconds after 1970."""
        number = self._interfaces.get(interface)
        if number is None:
            number = self._add(interface)
        head = struct.pack(
            "=IIIII", number, at_ns >> 32, at_ns & 0xFFFFFFFF, len(packet), len(packet)
        )
        self._block(_PACKET, head + packet)
        self.packets += 1

    def keys(self, lines: bytes) -> None:
        """Add lines of a key log: before the packets that they are to open."""
        self._block(_SECRETS, struct.pack("=II", _WIREGUARD, len(lines)) + lines)

    def flush(self) -> None:
        """Hand over what is buffered."""
        self._out.flush()

    def _add(self, interface: str) -> int:
        number = self._interfaces[interface] = len(self._interfaces)
        # Without a limit to what is captured of a packet.
        head = struct.pack("=HHI", LINKTYPE_RAW, 0, 0)
        options = _option(_IF_NAME, interface.encode()) + _option(_IF_TSRESOL, _NANOSECONDS)
        self._block(_INTERFACE, head + options + _option(0, b""))
        return number

    def _block(self, kind: int, body: bytes) -> None:
        padded = _padded(body)
        length = struct.pack("=I", len(padded) + 12)
        self._out.write(struct.pack("=I", kind) + length + padded + length)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
