"""Memory of the data path: a slab holds the rows of one batch of datagrams.

    row k, at k * stride
    0       4       8               16                                size-16        size
    | type  | index | counter       | inner packet, padded with zeros | tag            |
    '---- transport header ---------'---- plain ----------------------'
                                    '---- sealed -------------------------------------'

All rows of a batch are of one size but the last, which may be shorter; so the columns of a
batch are strided arrays, and everything that depends only on sizes is built once per size.
Sealing and opening happen in place.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wgpy.protocol.constants import (
    MESSAGE_PADDING_MULTIPLE,
    TAG_LEN,
    TRANSPORT_HEADER_LEN,
    TRANSPORT_OVERHEAD,
)
from wgpy.protocol.path import Path

Buffer: TypeAlias = bytes | bytearray | memoryview

MAX_BATCH = 128
_LAYOUTS_KEPT = 64


class Layout:
    """Columns and views of a slab cut into rows of `stride` bytes that hold `size` bytes."""

    __slots__ = (
        "_addresses",
        "_tags",
        "capacity",
        "counters",
        "heads",
        "matrix",
        "plain",
        "sealed",
        "size",
        "slab",
        "stride",
    )

    def __init__(self, slab: "Slab", size: int, stride: int) -> None:
        self.slab = slab
        self.size = size
        self.stride = stride
        self.capacity = min(MAX_BATCH, len(slab.view) // stride)
        shape, strides = (self.capacity,), (stride,)
        # uint8 (capacity, stride): whole rows.
        self.matrix: NDArray[np.uint8] = slab.array[: self.capacity * stride].reshape(-1, stride)
        # Columns of the transport header, each (capacity,): type and index as one, counter.
        self.heads: NDArray[np.uint64] = np.ndarray(shape, "<u8", slab.view, 0, strides)
        self.counters: NDArray[np.uint64] = np.ndarray(shape, "<u8", slab.view, 8, strides)
        self._addresses: NDArray[np.uint64] | None = None
        self._tags: NDArray[np.uint64] | None = None
        # A view per row, made as far as rows have been used.
        self.plain: list[memoryview] = []
        self.sealed: list[memoryview] = []

    def prepare(self, count: int) -> None:
        """Have views of the first `count` rows."""
        view = self.slab.view
        for k in range(len(self.sealed), count):
            start = k * self.stride + TRANSPORT_HEADER_LEN
            end = k * self.stride + self.size
            self.plain.append(view[start : end - TAG_LEN])
            self.sealed.append(view[start:end])

    @property
    def addresses(self) -> NDArray[np.uint64]:
        """Where in memory the plaintext of each row begins; uint64 (capacity,)."""
        if self._addresses is None:
            steps = np.arange(self.capacity, dtype=np.uint64) * np.uint64(self.stride)
            self._addresses = steps + np.uint64(self.slab.address + TRANSPORT_HEADER_LEN)
        return self._addresses

    @property
    def tags(self) -> NDArray[np.uint64]:
        """The last 16 bytes of each full row; uint64 (capacity, 2)."""
        if self._tags is None:
            shape, strides, start = (self.capacity, 2), (self.stride, 8), self.size - TAG_LEN
            self._tags = np.ndarray(shape, "<u8", self.slab.view, start, strides)
        return self._tags

    def row(self, k: int) -> memoryview:
        """Row `k`, all of its stride."""
        return self.slab.view[k * self.stride : (k + 1) * self.stride]

    def datagrams(self, count: int, last_size: int) -> list[Buffer]:
        """The buffers that hold rows 0 .. count, one after the other."""
        if self.stride == self.size:
            return [self.slab.view[: (count - 1) * self.stride + last_size]]
        rows: list[Buffer] = [self.row(k)[: self.size] for k in range(count)]
        rows[-1] = rows[-1][:last_size]
        return rows


class Slab:
    """One block of memory for one direction, and the layouts it was recently cut into."""

    __slots__ = ("_layouts", "address", "array", "view")

    def __init__(self, size: int) -> None:
        self.array: NDArray[np.uint8] = np.zeros(size, np.uint8)
        self.view = self.array.data.cast("B")
        self.address: int = self.array.ctypes.data
        self._layouts: OrderedDict[tuple[int, int], Layout] = OrderedDict()

    def layout(self, size: int, stride: int = 0) -> Layout:
        """The layout for datagrams of `size` bytes, `stride` apart (default: contiguous)."""
        key = (size, stride or size)
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = Layout(self, *key)
            if len(self._layouts) > _LAYOUTS_KEPT:
                self._layouts.popitem(last=False)
        return layout


@dataclass(slots=True)
class PacketBatch:
    """`count` inner packets in rows, at offset TRANSPORT_HEADER_LEN of each.

    `layout.size` is the datagram size that `packet_size` pads to, `last_datagram_size` that of
    the last row, whose packet may be shorter. With `single_flow` all packets
    go from one address to another with one traffic class, as the segments of a super-packet do.
    """

    layout: Layout
    count: int
    packet_size: int
    last_packet_size: int
    last_datagram_size: int
    single_flow: bool


@dataclass(slots=True)
class DatagramBatch:
    """`count` datagrams of one sender in contiguous rows; the last is `last_size` bytes long."""

    layout: Layout
    count: int
    last_size: int
    path: Path
    ecn: int


class PacketRows(NamedTuple):
    """Authenticated inner packets on their way to the host: rows first .. first + len(lengths)."""

    layout: Layout
    first: int
    lengths: NDArray[np.int64]


def padded_size(packet_size: int, mtu: int) -> int:
    """Bytes of plaintext for a packet: the next multiple of 16, never beyond the MTU.

    As the kernel (calculate_skb_padding): what is larger than the MTU counts by its last unit.
    """
    unit = packet_size if packet_size <= mtu else packet_size % mtu
    padded = min(mtu, -(-unit // MESSAGE_PADDING_MULTIPLE) * MESSAGE_PADDING_MULTIPLE)
    return packet_size + padded - unit


def datagram_size(packet_size: int, mtu: int) -> int:
    """Bytes on the wire (UDP payload) for a packet."""
    return padded_size(packet_size, mtu) + TRANSPORT_OVERHEAD
