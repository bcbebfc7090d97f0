"""What the tunnel has to know of the packets it carries: length, addresses, congestion marks."""

import numpy as np
from numpy.typing import NDArray

from wgpy.protocol.batch import Buffer

_V4_HEADER = 20
_V6_HEADER = 40
_ECN = 3
_NOT_ECT = 0
_ECT_0 = 2
_CE = 3


def inner_length_untrusted(packet: memoryview) -> int:
    """The length that an IP header claims, if the packet has so much; 0 if it is no IP packet."""
    size = len(packet)
    if size < _V4_HEADER:
        return 0
    version = packet[0] >> 4
    if version == 4:
        length = packet[2] << 8 | packet[3]
        return length if _V4_HEADER <= length <= size else 0
    if version == 6 and size >= _V6_HEADER:
        length = (packet[4] << 8 | packet[5]) + _V6_HEADER
        return length if length <= size else 0
    return 0


def check_batch(
    rows: NDArray[np.uint8], plain_size: int, last_plain_size: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """`inner_length_untrusted` by column: lengths (n,), which are valid, and which are IPv4.

    All rows hold `plain_size` bytes, the last one `last_plain_size`.
    """
    count = len(rows)
    if plain_size < _V4_HEADER:
        nothing = np.zeros(count, bool)
        return np.zeros(count, np.int64), nothing, nothing
    sizes = np.full(count, plain_size)
    sizes[-1] = last_plain_size
    versions = rows[:, 0] >> 4
    v4 = versions == 4
    words = rows[:, 2:6].astype(np.int64)
    lengths_v4 = words[:, 0] << 8 | words[:, 1]
    if bool(v4.all()):
        valid = (lengths_v4 >= _V4_HEADER) & (lengths_v4 <= sizes)
        return lengths_v4, valid & (sizes >= _V4_HEADER), v4
    lengths_v6 = (words[:, 2] << 8 | words[:, 3]) + _V6_HEADER
    lengths = np.where(v4, lengths_v4, lengths_v6)
    least = np.where(v4, _V4_HEADER, _V6_HEADER)
    valid = (v4 | (versions == 6)) & (lengths >= least) & (lengths <= sizes) & (sizes >= least)
    return lengths, valid, v4


def destination(packet: memoryview) -> bytes | None:
    """Destination address of 4 or 16 bytes; None if this is no IP packet."""
    if len(packet) >= _V4_HEADER and packet[0] >> 4 == 4:
        return bytes(packet[16:20])
    if len(packet) >= _V6_HEADER and packet[0] >> 4 == 6:
        return bytes(packet[24:40])
    return None


def source(packet: memoryview) -> bytes:
    """Source address of a packet whose length was checked."""
    return bytes(packet[12:16] if packet[0] >> 4 == 4 else packet[8:24])


def encapsulate_ecn(packet: Buffer) -> int:
    """The outer traffic class: no DSCP, and whether the packet can bear a mark.

    DEVIATION from RFC 6040, section 4.1, with the kernel: a packet that is marked already is
    outside as one that can be (RFC 3168, section 9.1.1), so only the tunnel's marks are seen there.
    """
    mark = _mark(packet)
    return _ECT_0 if mark == _CE else mark


def _mark(packet: Buffer) -> int:
    return packet[1] & _ECN if packet[0] >> 4 == 4 else packet[1] >> 4 & _ECN


def decapsulate_ecn(outer: int, packet: memoryview) -> None:
    """Carry a congestion mark inward, if the packet can bear it.

    DEVIATION from RFC 6040, section 4.2, with the kernel: a packet that cannot is not dropped.
    """
    if outer & _ECN != _CE or _mark(packet) == _NOT_ECT:
        return
    if packet[0] >> 4 == 6:
        packet[1] |= _CE << 4
        return
    # RFC 1624, equation 3: the checksum moves with the word that holds the mark.
    before = packet[0] << 8 | packet[1]
    packet[1] |= _CE
    after = packet[0] << 8 | packet[1]
    total = (~(packet[10] << 8 | packet[11]) & 0xFFFF) + (~before & 0xFFFF) + after
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    packet[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
