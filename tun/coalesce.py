"""Packets for the host become super-packets: neighbours that continue each other are joined.

    coalesce        the usual batch is one run, or a few
    _is_one_run     the usual batch, as cheap as can be
    _coalesce_any   any other is sorted by flow, if flows alternate
    _join_runs      by column, who continues whom
    _join           one header, and the payloads copied together

The rules are those of the kernel's GRO (tcp_gro_receive, inet_gro_receive): all header fields
agree but those that must differ (length, IPv4 id, sequence number, checksums); no flag but ACK,
and PSH on the last one; no fragments, no IPv4 options, no IPv6 extension headers; all of one size
but the last. The host does not look at the checksums of super-packets, so a packet with a wrong
one is not joined. Whatever is not joined is written alone and unchanged.
"""

from functools import lru_cache
from itertools import groupby
from struct import Struct
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tun import virtio
from tun.checksum import checksum, pseudo_header_sum, row_sums, swapped
from tun.linux import Offloads

Buffer: TypeAlias = bytes | bytearray | memoryview

_TCP, _UDP = 6, 17
_ACK, _PSH = 0x10, 0x08
# Fewer packets than this cost more to look at than to write one by one.
_WORTH_IT = 4
_LARGEST = 65535
# What tells the kind of a packet, v4 or v6.
_HEADERS = 60
# IPv4 and UDP.
_LEAST = 28
_U16, _U32 = Struct(">H"), Struct(">I")
_ACK_PSH = bytes([_ACK, _ACK | _PSH])
_BE16, _BE32, _LE16, _LE32 = (np.dtype(name) for name in (">u2", ">u4", "<u2", "<u4"))


class Group(NamedTuple):
    """One write: a virtio-net header, and one packet in pieces that holds `packets`."""

    buffers: list[Buffer]
    packets: int


class _Kind(NamedTuple):
    """Where things are in packets that may be joined."""

    version: int
    protocol: int
    l4: int  # start of the transport header
    data: int  # start of the payload


def coalesce(
    rows: NDArray[np.uint8], lengths: NDArray[np.int64], offloads: Offloads
) -> list[Group]:
    """Join what can be joined of n packets: `rows` (n, stride), `lengths` (n,) in bytes.

    Packets of one flow keep their order. The groups point into `rows`, where bytes behind a
    packet may be overwritten.
    """
    sizes: list[int] = lengths.tolist()
    groups: list[Group] = []
    while len(sizes) >= _WORTH_IT:
        kind = _kind(rows[0, :_HEADERS].tobytes(), offloads)
        if kind is None:
            return groups + _coalesce_any(rows, lengths, sizes, offloads)
        if sizes.count(kind.data) == len(sizes):
            # Acknowledgements: they have nothing that could be joined.
            return groups + [_alone(rows, k, size) for k, size in enumerate(sizes)]
        count = _count_alike(rows, kind) if kind.data < min(sizes) else 0
        if count < _WORTH_IT or not _is_one_run(rows[:count], sizes[:count], kind):
            return groups + _coalesce_any(rows, lengths, sizes, offloads)
        groups += _cut(rows[:count], sizes[:count], kind)
        rows, lengths, sizes = rows[count:], lengths[count:], sizes[count:]
    return groups + [_alone(rows, k, size) for k, size in enumerate(sizes)]


def _coalesce_any(
    rows: NDArray[np.uint8], lengths: NDArray[np.int64], sizes: list[int], offloads: Offloads
) -> list[Group]:
    order = _order_by_flow(rows)
    if order is not None:
        rows, lengths = rows[order], lengths[order]
        sizes = lengths.tolist()
    groups: list[Group] = []
    start = 0
    for kind, alike in groupby(_kinds(rows, offloads)):
        end = start + sum(1 for _ in alike)
        if kind is None or end - start < _WORTH_IT:
            groups += [_alone(rows, k, sizes[k]) for k in range(start, end)]
        else:
            groups += _join_runs(rows[start:end], lengths[start:end], sizes[start:end], kind)
        start = end
    return groups


def _alone(rows: NDArray[np.uint8], k: int, size: int) -> Group:
    return Group([virtio.HEADER_NONE, rows[k, :size].data], 1)


def _kind(head: bytes, offloads: Offloads) -> _Kind | None:
    """None for a packet that is never joined. Its length is looked at later."""
    if len(head) < _LEAST:
        return None
    if head[0] == 0x45:
        version, protocol, l4 = 4, head[9], 20
        if head[6] & 0x3F or head[7]:
            return None
    elif head[0] >> 4 == 6:
        version, protocol, l4 = 6, head[6], 40
    else:
        return None
    if len(head) < l4 + (20 if protocol == _TCP else 8):
        return None
    if protocol == _TCP and (offloads.tso4 if version == 4 else offloads.tso6):
        data = l4 + (head[l4 + 12] >> 4) * 4
        return _Kind(version, protocol, l4, data) if data >= l4 + 20 else None
    if protocol == _UDP and offloads.uso:
        return _Kind(version, protocol, l4, l4 + 8)
    return None


def _kinds(rows: NDArray[np.uint8], offloads: Offloads) -> list[_Kind | None]:
    """The kind of each row."""
    count = len(rows)
    # Version, fragment, protocol, size of the TCP header: most often all are the same.
    deciding = (0, 6, 7, 9, 32) if rows[0, 0] >> 4 == 4 else (0, 6, 52)
    width = min(_HEADERS, rows.shape[1])
    columns = (rows[:, k].tobytes() for k in deciding if k < width)
    if all(column.count(column[0]) == count for column in columns):
        return [_kind(rows[0, :width].tobytes(), offloads)] * count
    heads = rows[:, :width].tobytes()
    return [_kind(heads[k : k + width], offloads) for k in range(0, len(heads), width)]


@lru_cache(64)
def _same_words(kind: _Kind) -> NDArray[np.uint32]:
    """Mask of the header bytes that must be the same, (data / 4,)."""
    same = np.full(kind.data, 0xFF, np.uint8)
    # Length, id and checksum; length.
    same[[2, 3, 4, 5, 10, 11] if kind.version == 4 else [4, 5]] = 0
    # Sequence number, flags, checksum; length and checksum.
    same[
        kind.l4 + np.array([4, 5, 6, 7, 13, 16, 17] if kind.protocol == _TCP else [4, 5, 6, 7])
    ] = 0
    return same.view(_LE32)


def _order_by_flow(rows: NDArray[np.uint8]) -> NDArray[np.intp] | None:
    """An order with the packets of each flow together. None if they are, or nobody can tell."""
    first, width = int(rows[0, 0]), rows.shape[1]
    v4 = first == 0x45
    addresses, l4, protocol = (12, 20, 9) if v4 else (8, 40, 6)
    if width < l4 + 4 or not (v4 or first >> 4 == 6):
        return None
    versions = rows[:, 0] if v4 else rows[:, 0] >> 4
    if (versions != versions[0]).any() or (v4 and (rows[:, 6:8].view(_BE16) & 0x3FFF).any()):
        return None
    protocols = rows[:, protocol]
    if ((protocols != _TCP) & (protocols != _UDP)).any():
        return None
    words = rows[:, addresses : l4 + 4].view(_LE32)
    if (words == words[0]).all():
        return None
    # Two flows with one hash only stay as they are.
    hashes = (words * _MULTIPLIERS[: words.shape[1]]).sum(1)
    order = hashes.argsort(kind="stable")
    is_sorted = _count_changes(hashes) == _count_changes(hashes[order])
    return None if is_sorted else order


def _count_changes(values: NDArray[np.uint64]) -> int:
    return int(np.count_nonzero(values[1:] != values[:-1]))


_MULTIPLIERS = np.arange(1, 10, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)


def _count_alike(rows: NDArray[np.uint8], kind: _Kind) -> int:
    """How many rows from the first on have all in common that joined packets must have."""
    heads = rows[:, : kind.data].view(_LE32)
    others = (heads ^ heads[0]) & _same_words(kind)
    if not np.count_nonzero(others):
        return len(rows)
    return int(np.logical_or.reduce(others, 1).argmax())


def _is_one_run(rows: NDArray[np.uint8], sizes: list[int], kind: _Kind) -> bool:
    """The usual case, as cheap as can be: all rows, alike already, are segments of one stream."""
    version, protocol, l4, data = kind
    count, size, last = len(sizes), sizes[0], sizes[-1]
    payload = size - data
    if sizes.count(size) < count - (last != size) or last > size:
        return False
    less, field = (0, 2) if version == 4 else (l4, 4)
    if not _has(rows, field, _U16.pack(size - less) * (count - 1) + _U16.pack(last - less)):
        return False
    if protocol == _TCP:
        if rows[:, l4 + 13].tobytes().strip(_ACK_PSH):
            return False
        (first,) = _U32.unpack(rows[0, l4 + 4 : l4 + 8].data)
        if not _has(rows, l4 + 4, (_multiples(count, payload) + first).astype(_BE32).tobytes()):
            return False
    elif not _has(rows, l4 + 4, _U16.pack(size - l4) * (count - 1) + _U16.pack(last - l4)):
        return False
    rows[-1, last:size] = 0
    if np.count_nonzero(_remainders(rows, size, kind)):
        return False
    return protocol == _TCP or bool(_column(rows, l4 + 6, _LE16).all())


def _cut(rows: NDArray[np.uint8], sizes: list[int], kind: _Kind) -> list[Group]:
    """Groups of one run: none goes on behind a PSH, and none is longer than a packet can be."""
    count, payload = len(sizes), sizes[0] - kind.data
    most = (_LARGEST - kind.data) // payload
    ends = [count]
    if kind.protocol == _TCP:
        flags = rows[:-1, kind.l4 + 13].tobytes()
        if _ACK | _PSH in flags:
            ends = [k for k, flag in enumerate(flags, 1) if flag & _PSH] + ends
    groups: list[Group] = []
    start = 0
    for end in ends:
        for first in range(start, end, most):
            part = slice(first, min(first + most, end))
            if part.stop - first == 1:
                groups.append(_alone(rows, first, sizes[first]))
            else:
                groups.append(_join(rows[part], sizes[part], kind))
        start = end
    return groups


def _has(rows: NDArray[np.uint8], offset: int, expected: bytes) -> bool:
    return rows[:, offset : offset + len(expected) // len(rows)].tobytes() == expected


@lru_cache(64)
def _multiples(count: int, payload: int) -> NDArray[np.int64]:
    return np.arange(count) * payload


def _join_runs(
    rows: NDArray[np.uint8], lengths: NDArray[np.int64], sizes: list[int], kind: _Kind
) -> list[Group]:
    """Groups of packets of one kind."""
    breaks = _breaks(rows, lengths, sizes, kind)
    groups: list[Group] = []
    start, size, total = 0, sizes[0], sizes[0]
    for end in range(1, len(sizes) + 1):
        if end < len(sizes):
            total += sizes[end] - kind.data
            if not (
                breaks[end - 1] or not sizes[end] <= size == sizes[end - 1] or total > _LARGEST
            ):
                continue
        if end - start == 1:
            groups.append(_alone(rows, start, size))
        else:
            groups.append(_join(rows[start:end], sizes[start:end], kind))
        if end < len(sizes):
            start, size, total = end, sizes[end], sizes[end]
    return groups


def _breaks(
    rows: NDArray[np.uint8], lengths: NDArray[np.int64], sizes: list[int], kind: _Kind
) -> list[bool]:
    """Which rows do not continue the row before them, from row 1 on."""
    l4, data = kind.l4, kind.data
    if sum(size > data for size in sizes) < 2:
        return [True] * (len(sizes) - 1)
    wrong = _wrong(rows, lengths, sizes, kind)
    breaks = wrong[1:] | wrong[:-1]
    heads = rows[:, :data].view(_LE32)
    breaks |= np.logical_or.reduce((heads[1:] ^ heads[:-1]) & _same_words(kind), 1)
    if kind.protocol == _TCP:
        flags = rows[:, l4 + 13]
        breaks |= (flags[1:] & ~np.uint8(_PSH)) != _ACK
        breaks |= flags[:-1] != _ACK
        sequence = _column(rows, l4 + 4, _BE32)
        breaks |= (sequence[1:] - sequence[:-1]) != lengths[:-1] - data
    found: list[bool] = breaks.tolist()
    return found


def _wrong(
    rows: NDArray[np.uint8], lengths: NDArray[np.int64], sizes: list[int], kind: _Kind
) -> NDArray[np.bool_]:
    """Which rows have a wrong length or checksum, (n,)."""
    version, protocol, l4, data = kind
    # Zeros do not count in a sum: with them all are of one size.
    size = max(sizes)
    for k, length in enumerate(sizes):
        if length < size:
            rows[k, length:size] = 0
    wrong: NDArray[np.bool_] = np.logical_or.reduce(_remainders(rows, size, kind), 0)
    wrong |= lengths <= data
    if version == 4:
        wrong |= _column(rows, 2, _BE16) != lengths
    else:
        wrong |= _column(rows, 4, _BE16) != lengths - l4
    if protocol == _UDP:
        wrong |= _column(rows, l4 + 4, _BE16) != lengths - l4
        # No checksum at all.
        wrong |= _column(rows, l4 + 6, _BE16) == 0
    return wrong


def _remainders(rows: NDArray[np.uint8], size: int, kind: _Kind) -> NDArray[np.uint64]:
    """(1 or 2, n): all zero for a packet with right checksums, in `size` bytes of each row."""
    # The addresses lie before the transport header, as the pseudo-header wants them. Its length
    # is that of the IP header, less 20 in IPv4: 0xffff is zero in this arithmetic.
    if kind.version == 6:
        sums = row_sums(rows[:, 8:size])[None]
        sums[0] += _column(rows, 4, _LE16)
        sums[0] += np.uint64(swapped(kind.protocol))
    else:
        sums = np.empty((2, len(rows)), np.uint64)
        sums[0] = row_sums(rows[:, 12:size])
        sums[0] += _column(rows, 2, _LE16)
        sums[0] += np.uint64(swapped(kind.protocol) + 0xFFFF - swapped(20))
        sums[1] = row_sums(rows[:, :20])
    sums %= np.uint64(0xFFFF)
    return sums


def _column(rows: NDArray[np.uint8], offset: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    column: NDArray[Any] = rows[:, offset : offset + dtype.itemsize].view(dtype)[:, 0]
    return column


def _join(rows: NDArray[np.uint8], sizes: list[int], kind: _Kind) -> Group:
    """One super-packet of rows that continue each other, all of one size but the last."""
    version, protocol, l4, data = kind
    count, payload = len(sizes), sizes[0] - kind.data
    total = sizes[0] + (count - 2) * payload + sizes[-1] - data
    header = bytearray(rows[0, :data])
    if version == 4:
        _U16.pack_into(header, 2, total)
        _U16.pack_into(header, 10, 0)
        _U16.pack_into(header, 10, checksum(header[:l4]))
    else:
        _U16.pack_into(header, 4, total - l4)
    if protocol == _TCP:
        header[l4 + 13] |= int(rows[-1, l4 + 13])
        kind_of_gso = virtio.GSO_TCPV4 if version == 4 else virtio.GSO_TCPV6
        field = 16
    else:
        _U16.pack_into(header, l4 + 4, total - l4)
        kind_of_gso, field = virtio.GSO_UDP_L4, 6
    # The checksum is the host's to complete, if anybody ever looks.
    addresses = header[12 if version == 4 else 8 : l4]
    _U16.pack_into(header, l4 + field, pseudo_header_sum(addresses, protocol, total - l4))
    head = virtio.Header(virtio.NEEDS_CSUM, kind_of_gso, data, payload, l4, field)
    # Not reshape, which would leave the gaps between payloads of one byte.
    body = rows[:, data : data + payload].ravel()
    return Group([head.pack(), header, body.data[: total - data]], count)
