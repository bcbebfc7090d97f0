"""Sealing and opening of transport messages (section 5.4.6): one packet, and a batch in place."""

from struct import Struct
from typing import TypeAlias

import numpy as np
from cryptography.exceptions import InvalidTag

from wgpy.protocol.batch import DatagramBatch, Layout
from wgpy.protocol.constants import MESSAGE_TRANSPORT, TAG_LEN, TRANSPORT_HEADER_LEN
from wgpy.protocol.keypair import Keypair
from wgpy.protocol.rowcipher import RowCipher

Writable: TypeAlias = bytearray | memoryview

_HEADER = Struct("<IIQ")
_NONCE = Struct("<4xQ")


def seal(keypair: Keypair, counter: int, datagram: Writable) -> None:
    """Finish one datagram in place: the padded packet lies at TRANSPORT_HEADER_LEN already."""
    _HEADER.pack_into(datagram, 0, MESSAGE_TRANSPORT, keypair.remote_index, counter)
    sealed = memoryview(datagram)[TRANSPORT_HEADER_LEN:]
    keypair.seal_into(_NONCE.pack(counter), sealed[:-TAG_LEN], None, sealed)


def seal_batch(
    keypair: Keypair, counter: int, layout: Layout, count: int, last_size: int, cipher: RowCipher
) -> None:
    """`seal` for rows 0 .. count of a layout, the last of them `last_size` bytes long."""
    layout.heads[:count] = keypair.remote_index << 32 | MESSAGE_TRANSPORT
    layout.counters[:count] = np.arange(counter, counter + count, dtype=np.uint64)
    cipher.seal(keypair, layout, count, last_size)


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


def open_batch(keypair: Keypair, batch: DatagramBatch, cipher: RowCipher) -> list[int]:
    """`open_one` for all rows of a batch; returns the rows that do not authenticate."""
    return cipher.open(keypair, batch.layout, batch.count, batch.last_size)
