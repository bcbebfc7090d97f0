"""Sealing and opening of transport messages (section 5.4.6): one packet, and a batch in place."""

from struct import Struct
from typing import TypeAlias

import numpy as np
from cryptography.exceptions import InvalidTag

from wgpy.protocol.batch import DatagramBatch, Layout, Nonces
from wgpy.protocol.constants import MESSAGE_TRANSPORT, TAG_LEN, TRANSPORT_HEADER_LEN
from wgpy.protocol.keypair import Keypair

Writable: TypeAlias = bytearray | memoryview

_HEADER = Struct("<IIQ")
_NONCE = Struct("<4xQ")


def seal(keypair: Keypair, counter: int, datagram: Writable) -> None:
    """Finish one datagram in place: the padded packet lies at TRANSPORT_HEADER_LEN already."""
    _HEADER.pack_into(datagram, 0, MESSAGE_TRANSPORT, keypair.remote_index, counter)
    sealed = memoryview(datagram)[TRANSPORT_HEADER_LEN:]
    keypair.seal_into(_NONCE.pack(counter), sealed[:-TAG_LEN], None, sealed)


def seal_batch(
    keypair: Keypair, counter: int, layout: Layout, count: int, last_size: int, nonces: Nonces
) -> None:
    """`seal` for rows 0 .. count of a layout, the last of them `last_size` bytes long."""
    end = counter + count
    layout.heads[:count] = keypair.remote_index << 32 | MESSAGE_TRANSPORT
    layout.counters[:count] = nonces.counters[:count] = np.arange(counter, end, dtype=np.uint64)
    layout.prepare(count)
    plain, sealed = layout.plain, layout.sealed
    full = count if last_size == layout.size else count - 1
    seal_into = keypair.seal_into
    for nonce, opened, closed in zip(nonces.views[:full], plain, sealed, strict=False):
        seal_into(nonce, opened, None, closed)
    if full < count:
        row = layout.row(full)[TRANSPORT_HEADER_LEN:last_size]
        seal_into(nonces.views[full], row[:-TAG_LEN], None, row)


def open_one(keypair: Keypair, counter: int, datagram: Writable) -> memoryview | None:
    """Decrypt one datagram in place; the padded packet, or None if it does not authenticate."""
    sealed = memoryview(datagram)[TRANSPORT_HEADER_LEN:]
    plain = sealed[:-TAG_LEN]
    try:
        keypair.open_into(_NONCE.pack(counter), sealed, None, plain)
    except InvalidTag:
        # The primitive has written what nobody vouches for.
        plain[:] = bytes(len(plain))
        return None
    return plain


def open_batch(keypair: Keypair, batch: DatagramBatch, nonces: Nonces) -> list[int]:
    """`open_one` for all rows of a batch; returns the rows that do not authenticate."""
    layout, count = batch.layout, batch.count
    layout.prepare(count)
    nonces.counters[:count] = layout.counters[:count]
    plain, sealed = layout.plain, layout.sealed
    if batch.last_size != layout.size:
        last = layout.row(count - 1)[TRANSPORT_HEADER_LEN : batch.last_size]
        sealed = [*sealed[: count - 1], last]
        plain = [*plain[: count - 1], last[:-TAG_LEN]]
    bad: list[int] = []
    open_into = keypair.open_into
    rows = enumerate(zip(nonces.views[:count], sealed, plain, strict=False))
    while True:
        # One bad row costs only itself: the loop goes on behind it.
        k = 0
        try:
            for k, (nonce, closed, opened) in rows:  # noqa: B007
                open_into(nonce, closed, None, opened)
            return bad
        except InvalidTag:
            plain[k][:] = bytes(len(plain[k]))
            bad.append(k)
