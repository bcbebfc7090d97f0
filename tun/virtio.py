"""The virtio-net header before each packet (linux/virtio_net.h), and its constants."""

from struct import Struct
from typing import Final, NamedTuple

HEADER_LEN: Final = 10
# flags
NEEDS_CSUM: Final = 1
# gso_type: one of these, perhaps with GSO_ECN.
GSO_NONE: Final = 0
GSO_TCPV4: Final = 1
GSO_UDP: Final = 3
GSO_TCPV6: Final = 4
GSO_UDP_L4: Final = 5
GSO_ECN: Final = 0x80

# Native byte order: the TUN was never told otherwise (TUNSETVNETLE).
_HEADER = Struct("=BBHHHH")
HEADER_NONE: Final = bytes(HEADER_LEN)


class Header(NamedTuple):
    """`csum_start` counts from the start of the packet, `csum_offset` from there."""

    flags: int
    gso_type: int
    hdr_len: int
    gso_size: int
    csum_start: int
    csum_offset: int

    def pack(self) -> bytes:
        return _HEADER.pack(*self)


def unpack(header: bytes | bytearray | memoryview) -> Header:
    """Read the first HEADER_LEN bytes."""
    return Header(*_HEADER.unpack_from(header))
