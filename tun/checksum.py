"""The internet checksum (RFC 1071): of one buffer, and of many rows at once."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Buffer: TypeAlias = bytes | bytearray | memoryview

# All runs of 16-bit numbers that count up, and of what their checksums do meanwhile.
UPWARDS: NDArray[np.uint16] = np.arange(2 * 0x10000).astype(">u2")
DOWNWARDS: NDArray[np.uint16] = (0xFFFE - np.arange(2 * 0xFFFF) % 0xFFFF).astype(">u2")
# From this many bytes on numpy is quicker than one long division.
_LONG = 3000


def ones_complement_sum(data: Buffer, start: int = 0) -> int:
    """Sum of big-endian 16-bit words, folded; `start` is a sum to begin with.

    2^16 = 1 in this arithmetic, so the sum is the remainder of one long number.
    """
    if len(data) < _LONG:
        number = int.from_bytes(data, "big")
        if len(data) % 2:
            number <<= 8
    else:
        number = swapped(int(fold(row_sums(np.frombuffer(data, np.uint8)[None]))[0]))
    total = number + start
    # What is not zero sums to 0xffff rather than to 0.
    return (total % 0xFFFF or 0xFFFF) if total else 0


def checksum(data: Buffer, start: int = 0) -> int:
    """What goes into the checksum field, which counts as zero in `data`."""
    return 0xFFFF - ones_complement_sum(data, start)


def pseudo_header_sum(addresses: Buffer, protocol: int, length: int) -> int:
    """Of source and destination, v4 or v6 (RFC 9293 section 3.1, RFC 8200 section 8.1)."""
    return ones_complement_sum(addresses, protocol + length)


def row_sums(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Sums (n,) of little-endian words, not folded, of n rows that start at even offsets.

    The arithmetic does not care for byte order (RFC 1071, section 2 B): what comes out of a
    little-endian sum and is stored little-endian is right.
    """
    width = rows.shape[1]
    wide = width // 4 * 4
    sums: NDArray[np.uint64] = np.add.reduce(rows[:, :wide].view("<u4"), 1, np.uint64)
    if width & 2:
        sums += rows[:, wide : wide + 2].view("<u2")[:, 0]
    if width & 1:
        sums += rows[:, width - 1]
    return sums


def fold(sums: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """To 16 bits; only zero becomes zero."""
    sums = (sums & 0xFFFFFFFF) + (sums >> 32)
    sums = (sums & 0xFFFF) + (sums >> 16)
    sums = (sums & 0xFFFF) + (sums >> 16)
    return ((sums & 0xFFFF) + (sums >> 16)).astype(np.uint16)


def swapped(word: int) -> int:
    """A 16-bit number as a little-endian sum sees it."""
    return (word & 0xFF) << 8 | word >> 8
