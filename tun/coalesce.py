"""Packets become super-packets for the host: neighbours that continue each other are joined.

Two neighbours are joined when all header fields agree but those that must differ (length, id,
sequence number, checksums), the second one's bytes follow the first one's, both checksums are
right, and no flag but ACK is set (PSH may be on the last). That is what the kernel's own GRO
asks for. What cannot be joined goes alone and unchanged; the order is never changed.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tun import virtio
from tun.checksum import checksum, fold, pseudo_header_sum, row_sums, swapped
from tun.linux import Offloads

Buffer: TypeAlias = bytes | bytearray | memoryview

_TCP, _UDP = 6, 17
_ACK, _PSH = 0x10, 0x08
# Fewer packets than this cost more to look at than to write one by one.
_WORTH_IT = 4
_LARGEST = 65535


class Group(NamedTuple):
    """One write: a virtio-net header, and one packet in pieces that holds `packets`."""

    buffers: list[Buffer]
    packets: int


class _Kind(NamedTuple):
    """What packets of one batch have in common, if they are to be joined."""

    v4: bool
    protocol: int
    # Where the transport header starts, and the payload.
    l4: int
    header_len: int


def coalesce(
    rows: NDArray[np.uint8], lengths: NDArray[np.int64], offloads: Offloads
) -> list[Group]:
    """Join what can be joined of n packets, row by row (n, stride); `lengths` (n,) in bytes.

    The headers of joined packets are overwritten.
    """
    kind = _kind(rows[0], int(lengths[0]), offloads) if len(rows) >= _WORTH_IT else None
    sizes: list[int] = lengths.tolist()
    if kind is None:
        return [_alone(rows, k, size) for k, size in enumerate(sizes)]
    groups: list[Group] = []
    start = 0
    for end in [*_breaks(rows, lengths, sizes, kind), len(rows)]:
        if end - start == 1:
            groups.append(_alone(rows, start, sizes[start]))
        else:
            groups.append(_join(rows[start:end], sizes[start:end], kind))
        start = end
    return groups


def _alone(rows: NDArray[np.uint8], k: int, size: int) -> Group:
    return Group([virtio.HEADER_NONE, rows[k, :size].data], 1)


def _kind(row: NDArray[np.uint8], size: int, offloads: Offloads) -> _Kind | None:
    """Of the first packet; None if it is none that is ever joined."""
    if size < 48:
        return None
    first = int(row[0])
    if first == 0x45:
        v4, protocol, l4 = True, int(row[9]), 20
    elif first >> 4 == 6:
        v4, protocol, l4 = False, int(row[6]), 40
    else:
        # IPv4 with options.
        return None
    if protocol == _TCP:
        header_len = l4 + (int(row[l4 + 12]) >> 4) * 4 if size >= l4 + 20 else 0
        if l4 + 20 <= header_len < size and (offloads.tso4 if v4 else offloads.tso6):
            return _Kind(v4, protocol, l4, header_len)
    elif protocol == _UDP and offloads.uso and l4 + 8 < size:
        return _Kind(v4, protocol, l4, l4 + 8)
    return None


def _breaks(
    rows: NDArray[np.uint8], lengths: NDArray[np.int64], sizes: list[int], kind: _Kind
) -> list[int]:
    """The rows (not 0) that do not continue the row before them."""
    v4, protocol, l4, header_len = kind
    headers = rows[:, :header_len]
    follows = (headers[1:] == headers[:-1]) | _may_differ(kind)
    joined = follows.all(1) & (lengths[1:] > header_len) & (lengths[1:] <= lengths[:-1])
    usable = _right_checksums(rows, lengths, kind)
    # Only packets with the headers that the first one has were looked at as far as needed.
    usable &= (headers[:, 0] == headers[0, 0]) & (headers[:, 9 if v4 else 6] == protocol)
    if v4:
        # A fragment has no transport header of its own.
        usable &= (headers[:, 6] & 0x3F == 0) & (headers[:, 7] == 0)
        usable &= _words(headers, 2, ">u2") == lengths
    else:
        usable &= _words(headers, 4, ">u2") + 40 == lengths
    if protocol == _TCP:
        usable &= headers[:, l4 + 12] == headers[0, l4 + 12]
        flags = headers[:, l4 + 13]
        sequence = _words(headers, l4 + 4, ">u4").astype(np.int64)
        payload = lengths - header_len
        joined &= (sequence[:-1] + payload[:-1]) & 0xFFFFFFFF == sequence[1:]
        joined &= (flags[:-1] == _ACK) & (flags[1:] & ~np.uint8(_PSH) == _ACK)
    else:
        usable &= _words(headers, l4 + 4, ">u2") + l4 == lengths
    joined &= usable[1:] & usable[:-1]
    breaks: list[int] = (np.flatnonzero(~joined) + 1).tolist()
    return _bounded(breaks, sizes, header_len)


def _bounded(breaks: list[int], sizes: list[int], header_len: int) -> list[int]:
    """More breaks: behind a shorter packet, and where the whole would be too long."""
    result: list[int] = []
    start = 0
    for end in [*breaks, len(sizes)]:
        while True:
            size = sizes[start]
            most = start + max(1, (_LARGEST - header_len) // max(1, size - header_len))
            stop = min(end, most)
            if sizes[stop - 1] != size:
                # The sizes fall: the first one that is smaller is the last of its group.
                stop = next(k for k in range(start, stop) if sizes[k] != size) + 1
            if stop == end:
                break
            result.append(stop)
            start = stop
        if end < len(sizes):
            result.append(end)
        start = end
    return result


def _may_differ(kind: _Kind) -> NDArray[np.bool_]:
    """Which header bytes are not compared, (header_len,)."""
    mask = np.zeros(kind.header_len, bool)
    l4 = kind.l4
    if kind.v4:
        # Total length, id, header checksum.
        mask[[2, 3, 4, 5, 10, 11]] = True
    else:
        mask[[4, 5]] = True
    if kind.protocol == _TCP:
        # Sequence number, flags, checksum.
        mask[[l4 + 4, l4 + 5, l4 + 6, l4 + 7, l4 + 13, l4 + 16, l4 + 17]] = True
    else:
        mask[l4 + 4 : l4 + 8] = True
    return mask


def _words(rows: NDArray[np.uint8], offset: int, dtype: str) -> NDArray[np.int64]:
    width = int(dtype[-1])
    return rows[:, offset : offset + width].view(dtype)[:, 0].astype(np.int64)


def _right_checksums(
    rows: NDArray[np.uint8], lengths: NDArray[np.int64], kind: _Kind
) -> NDArray[np.bool_]:
    """Which rows have the right header (v4) and transport checksums."""
    size = int(lengths[0])
    right = _right(rows, size, kind)
    for k in np.flatnonzero(lengths != size).tolist():
        right[k] = (
            lengths[k] > kind.header_len and _right(rows[k : k + 1], int(lengths[k]), kind)[0]
        )
    return right


def _right(rows: NDArray[np.uint8], size: int, kind: _Kind) -> NDArray[np.bool_]:
    v4, protocol, l4, _ = kind
    # The addresses lie before the transport header, as the pseudo-header wants them.
    sums = row_sums(rows[:, (12 if v4 else 8) : size])
    sums += np.uint64(swapped(protocol) + swapped((size - l4) & 0xFFFF))
    right: NDArray[np.bool_] = fold(sums) == 0xFFFF
    if v4:
        right &= fold(row_sums(rows[:, :20])) == 0xFFFF
    if protocol == _UDP:
        right &= _words(rows, l4 + 6, ">u2") != 0
    return right


def _join(rows: NDArray[np.uint8], sizes: list[int], kind: _Kind) -> Group:
    """One super-packet of rows that continue each other, all of one size but the last."""
    v4, protocol, l4, header_len = kind
    count, last = len(rows), sizes[-1]
    payload = sizes[0] - header_len
    packet = np.empty(header_len + (count - 1) * payload + last - header_len, np.uint8)
    packet[:header_len] = rows[0, :header_len]
    whole = count if last == sizes[0] else count - 1
    body = packet[header_len : header_len + whole * payload].reshape(whole, payload)
    body[:] = rows[:whole, header_len : header_len + payload]
    if whole < count:
        packet[header_len + whole * payload :] = rows[whole, header_len:last]
    view = packet.data
    if v4:
        view[2:4] = len(packet).to_bytes(2, "big")
        view[10:12] = b"\0\0"
        view[10:12] = checksum(view[:20]).to_bytes(2, "big")
    else:
        view[4:6] = (len(packet) - 40).to_bytes(2, "big")
    if protocol == _TCP:
        view[l4 + 13] |= int(rows[-1, l4 + 13]) & _PSH
        offset, gso_type = 16, virtio.GSO_TCPV4 if v4 else virtio.GSO_TCPV6
    else:
        view[l4 + 4 : l4 + 6] = ((len(packet) - l4) & 0xFFFF).to_bytes(2, "big")
        offset, gso_type = 6, virtio.GSO_UDP_L4
    # The host completes it for each segment, if anybody ever looks.
    start = pseudo_header_sum(view[12 if v4 else 8 : l4], protocol, len(packet) - l4)
    view[l4 + offset : l4 + offset + 2] = start.to_bytes(2, "big")
    header = virtio.Header(virtio.NEEDS_CSUM, gso_type, header_len, payload, l4, offset)
    return Group([header.pack(), view], count)
