"""ChaCha20-Poly1305 over the rows of a slab, in place: what a batch of transport messages needs.

Two ways to the same bytes. `OneByOne` calls OpenSSL for each row, is everywhere, and is the
specification of the other, `wgpy.protocol.multibuffer.MultiBuffer`, which needs a library that
not every host has.
"""

from typing import Protocol

import numpy as np
from cryptography.exceptions import InvalidTag
from numpy.typing import NDArray

from wgpy.protocol.batch import MAX_BATCH, Layout
from wgpy.protocol.constants import TAG_LEN, TRANSPORT_HEADER_LEN
from wgpy.protocol.keypair import Keypair


class RowCipher(Protocol):
    """Seals and opens rows; `layout.counters` holds the counter of each."""

    def seal(self, keypair: Keypair, layout: Layout, count: int, last_size: int) -> None:
        """Encrypt rows 0 .. count, the last of them `last_size` bytes long, and add their tags."""

    def open(self, keypair: Keypair, layout: Layout, count: int, last_size: int) -> list[int]:
        """Decrypt these rows; returns those that do not authenticate, whose plaintext is zeroed."""


class OneByOne:
    """A call of OpenSSL for each row."""

    def __init__(self) -> None:
        # 4 zero bytes and a 64-bit counter each (section 5.4.6).
        table = np.zeros((MAX_BATCH, 12), np.uint8)
        self._counters: NDArray[np.uint64] = np.ndarray((MAX_BATCH,), "<u8", table.data, 4, (12,))
        self._nonces = [row.data for row in table]

    def seal(self, keypair: Keypair, layout: Layout, count: int, last_size: int) -> None:
        self._counters[:count] = layout.counters[:count]
        layout.prepare(count)
        full = count if last_size == layout.size else count - 1
        seal_into = keypair.seal_into
        rows = zip(self._nonces[:full], layout.plain, layout.sealed, strict=False)
        for nonce, plain, sealed in rows:
            seal_into(nonce, plain, None, sealed)
        if full < count:
            row = layout.row(full)[TRANSPORT_HEADER_LEN:last_size]
            seal_into(self._nonces[full], row[:-TAG_LEN], None, row)

    def open(self, keypair: Keypair, layout: Layout, count: int, last_size: int) -> list[int]:
        layout.prepare(count)
        self._counters[:count] = layout.counters[:count]
        plain, sealed = layout.plain, layout.sealed
        if last_size != layout.size:
            last = layout.row(count - 1)[TRANSPORT_HEADER_LEN:last_size]
            sealed = [*sealed[: count - 1], last]
            plain = [*plain[: count - 1], last[:-TAG_LEN]]
        bad: list[int] = []
        open_into = keypair.open_into
        rows = enumerate(zip(self._nonces[:count], sealed, plain, strict=False))
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
