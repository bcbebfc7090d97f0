"""`RowCipher` through Intel's multi-buffer library, which takes a whole batch in one call.

A call of OpenSSL for a packet of 1420 bytes takes 1.0 us, of which 0.65 are the call. Here a call
for 45 of them takes 19 us, nearly all of it the cipher itself, with whatever the processor is best
at. The library is Debian's package libipsec-mb1 or 2, for x86-64; nothing needs it.

    a job, 200 or 216 bytes              the manager's ring of jobs, seen as columns
    0    key to seal with                ---- set once ----------------------------------
    8    key to open with                what kind of job, where its nonce is
    16   length of the key               ---- set for each burst, a column at a time ----
    24   source   = 32 destination       addresses of rows, lengths, counters, keys
    48   length to encrypt = 64 to authenticate
    72   where the nonce is, 88 where the tag goes, 104 associated data, 132 .. what kind

The library's header describes it (intel-ipsec-mb.h: IMB_JOB, IMB_MGR, submit_burst). It is not
taken at its word: `load` compares with OpenSSL before anything depends on it.
"""

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from wgpy.protocol.batch import MAX_BATCH, Layout, Slab
from wgpy.protocol.constants import KEY_LEN, TAG_LEN, TRANSPORT_HEADER_LEN, TRANSPORT_OVERHEAD
from wgpy.protocol.keypair import Keypair
from wgpy.protocol.noise import SessionKeys
from wgpy.protocol.rowcipher import OneByOne

# Debian's packages libipsec-mb1 and libipsec-mb2.
_LIBRARIES = ("libIPSec_MB.so.1", "libIPSec_MB.so.2")
# Below this, OpenSSL one by one is quicker.
_WORTH_IT = 3

# Of IMB_MGR: where the addresses of two functions are.
_GET_NEXT_BURST, _SUBMIT_BURST = 952, 960
# Of versions 1.3 and 2.0. One with another size may have moved more than its end.
_JOB_SIZES = (200, 216)
# Of IMB_JOB; what lies between is not used by this cipher.
_JOB = {
    "seal_key": (0, "<u8"),
    "open_key": (8, "<u8"),
    "key_len": (16, "<u8"),
    "source": (24, "<u8"),
    "destination": (32, "<u8"),
    "cipher_start": (40, "<u8"),
    "cipher_len": (48, "<u8"),
    "hash_start": (56, "<u8"),
    "hash_len": (64, "<u8"),
    "nonce": (72, "<u8"),
    "nonce_len": (80, "<u8"),
    "tag": (88, "<u8"),
    "tag_len": (96, "<u8"),
    "associated": (104, "<u8"),
    "associated_len": (112, "<u8"),
    "cipher": (132, "<u4"),
    "direction": (136, "<u4"),
    "hash": (140, "<u4"),
    "order": (144, "<u4"),
    "segmented": (184, "<u4"),
}
_CHACHA20_POLY1305, _AUTH_CHACHA20_POLY1305 = 19, 29
# What is compared with OpenSSL: an empty packet, odd ones, and those around blocks and batches.
_SIZES, _ROWS = (32, 33, 95, 96, 97, 160, 1452, 8952), 9
_SEAL, _OPEN = 1, 2
_CIPHER_FIRST, _HASH_FIRST = 1, 2

_Burst = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)


class LibraryUnfit(Exception):
    """The library is not here, or not the one that this module knows."""


class MultiBuffer:
    """Seals and opens rows, a batch in one call. Not thread safe."""

    def __init__(self) -> None:
        """Raises LibraryUnfit."""
        library = _library()
        self._one_by_one = OneByOne()
        self._seal = _Direction(library, _SEAL, _CIPHER_FIRST)
        self._open = _Direction(library, _OPEN, _HASH_FIRST)
        # Tags as they should be, next to each other; rows have them as they came.
        self._tags = np.zeros((MAX_BATCH, 2), np.uint64)
        self._open.columns["tag"][:] = _address(self._tags) + _steps(TAG_LEN)

    def seal(self, keypair: Keypair, layout: Layout, count: int, last_size: int) -> None:
        """As `RowCipher.seal`."""
        if count < _WORTH_IT:
            self._one_by_one.seal(keypair, layout, count, last_size)
            return
        direction = self._seal
        direction.prepare(keypair.send_key_address, layout, count, last_size)
        tags = direction.columns["tag"]
        tags[:count] = layout.addresses[:count] + np.uint64(layout.size - TRANSPORT_OVERHEAD)
        tags[count - 1] -= np.uint64(layout.size - last_size)
        if direction.submit(count) != count:
            # What was begun must not be sealed again: under the same counter that would open it.
            raise RuntimeError(f"the multi-buffer library has not sealed {count} messages")

    def open(self, keypair: Keypair, layout: Layout, count: int, last_size: int) -> list[int]:
        """As `RowCipher.open`."""
        if count < _WORTH_IT:
            return self._one_by_one.open(keypair, layout, count, last_size)
        direction = self._open
        direction.prepare(keypair.receive_key_address, layout, count, last_size)
        if direction.submit(count) != count:
            raise RuntimeError(f"the multi-buffer library has not opened {count} messages")
        return self._compare_tags(layout, count, last_size)

    def _compare_tags(self, layout: Layout, count: int, last_size: int) -> list[int]:
        """Which rows came with another tag than they should have; the same time for any."""
        wrong = self._tags[:count] ^ layout.tags[:count]
        last = layout.row(count - 1)[:last_size]
        if last_size != layout.size:
            wrong[-1] = self._tags[count - 1] ^ np.frombuffer(last[-TAG_LEN:], "<u8")
        either = wrong[:, 0] | wrong[:, 1]
        if not either.any():
            return []
        bad: list[int] = np.flatnonzero(either).tolist()
        for k in bad:
            # The primitive has written what nobody vouches for.
            row = last if k == count - 1 else layout.row(k)[: layout.size]
            row[TRANSPORT_HEADER_LEN:] = bytes(len(row) - TRANSPORT_HEADER_LEN)
        return bad


class _Direction:
    """A manager of the library whose jobs all seal, or all open."""

    def __init__(self, library: ctypes.CDLL, direction: int, order: int) -> None:
        manager = library.alloc_mb_mgr(0)
        if not manager:
            raise LibraryUnfit("no memory for its jobs")
        library.init_mb_mgr_auto(manager, None)
        self._library = library
        self._manager: int = manager
        self._submit = _Burst(_pointer_at(manager + _SUBMIT_BURST))
        self._jobs = np.zeros(MAX_BATCH, np.uint64)
        self._jobs_address = _address(self._jobs)
        self._nonces = np.zeros((MAX_BATCH, 12), np.uint8)
        self._constants: dict[str, int | NDArray[np.uint64]] = {
            "key_len": KEY_LEN,
            "cipher_start": 0,
            "hash_start": 0,
            "nonce": _address(self._nonces) + _steps(12),
            "nonce_len": 12,
            "tag_len": TAG_LEN,
            "associated": _address(self._nonces),
            "associated_len": 0,
            "cipher": _CHACHA20_POLY1305,
            "direction": direction,
            "hash": _AUTH_CHACHA20_POLY1305,
            "order": order,
            "segmented": 0,
        }
        self._counters: NDArray[np.uint64] = np.ndarray(
            (MAX_BATCH,), "<u8", self._nonces.data, 4, (12,)
        )
        self._rewind()
        self.columns = self._next_jobs(MAX_BATCH)
        self._set_constants(self.columns, MAX_BATCH)

    def _rewind(self) -> None:
        """The ring of a new manager stands somewhere; when it is empty it begins at its start."""
        scratch = np.zeros(64 + KEY_LEN, np.uint8)
        columns = self._next_jobs(2)
        for name in ("seal_key", "open_key", "source", "destination", "tag"):
            columns[name][:] = _address(scratch)
        columns["cipher_len"][:] = columns["hash_len"][:] = 16
        self._set_constants(columns, 2)
        if self.submit(1) != 1:
            raise LibraryUnfit("it does not take a job")

    def _next_jobs(self, count: int) -> dict[str, NDArray[np.unsignedinteger]]:
        """Each field of the next `count` jobs as an array (count,)."""
        get_next_burst = _Burst(_pointer_at(self._manager + _GET_NEXT_BURST))
        if get_next_burst(self._manager, count, self._jobs_address) != count:
            raise LibraryUnfit(f"it has no {count} jobs")
        first, second = self._jobs[:2].tolist()
        size = second - first
        if size not in _JOB_SIZES or (self._jobs[:count] != first + _steps(size)[:count]).any():
            raise LibraryUnfit("its jobs do not lie one behind the other")
        memory = memoryview((ctypes.c_uint8 * (size * count)).from_address(first))
        return {
            name: np.ndarray((count,), kind, memory, offset, (size,))
            for name, (offset, kind) in _JOB.items()
        }

    def _set_constants(self, columns: dict[str, NDArray[np.unsignedinteger]], count: int) -> None:
        for name, value in self._constants.items():
            columns[name][:] = value[:count] if isinstance(value, np.ndarray) else value
        # Since version 1.4 it wants to look at what kind of job each is.
        set_session = getattr(self._library, "imb_set_session", None)
        if set_session is not None:
            set_session.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
            for job in self._jobs[:count].tolist():
                set_session(self._manager, job)

    def prepare(self, key: int, layout: Layout, count: int, last_size: int) -> None:
        """Keys, nonces, addresses and lengths of rows 0 .. count; `key` is an address."""
        columns = self.columns
        # Both are looked at, though only one is used.
        columns["seal_key"][:count] = columns["open_key"][:count] = key
        self._counters[:count] = layout.counters[:count]
        columns["source"][:count] = columns["destination"][:count] = layout.addresses[:count]
        length, last = layout.size - TRANSPORT_OVERHEAD, last_size - TRANSPORT_OVERHEAD
        for name in ("cipher_len", "hash_len"):
            columns[name][:count] = length
            columns[name][count - 1] = last

    def submit(self, count: int) -> int:
        """Returns how many jobs are done."""
        done: int = self._submit(self._manager, count, self._jobs_address)
        return done


def _library() -> ctypes.CDLL:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
            allocate, initialize = library.alloc_mb_mgr, library.init_mb_mgr_auto
        except (OSError, AttributeError):
            continue
        allocate.restype, allocate.argtypes = ctypes.c_void_p, [ctypes.c_uint64]
        initialize.restype, initialize.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p]
        return library
    raise LibraryUnfit(f"none of {', '.join(_LIBRARIES)} is here")


def _pointer_at(address: int) -> int:
    return ctypes.c_void_p.from_address(address).value or 0


def _address(array: NDArray[np.generic]) -> int:
    return array.ctypes.data


def _steps(size: int) -> NDArray[np.uint64]:
    return np.arange(MAX_BATCH, dtype=np.uint64) * np.uint64(size)


@cache
def load() -> MultiBuffer | None:
    """The library's cipher for this process, once it has shown that it does what OpenSSL does."""
    try:
        cipher = MultiBuffer()
        return cipher if _agrees(cipher) else None
    except (LibraryUnfit, RuntimeError):
        return None


def _agrees(cipher: MultiBuffer) -> bool:
    """Whether it makes and takes the same bytes as OpenSSL, and nothing else."""
    chance = np.random.default_rng(1)
    keys = SessionKeys(chance.bytes(KEY_LEN), chance.bytes(KEY_LEN), True, 1, 2)
    mirrored = SessionKeys(keys.receive_key, keys.send_key, False, 2, 1)
    ours, theirs = Keypair(keys, 0.0), Keypair(mirrored, 0.0)
    one_by_one = OneByOne()
    for size in _SIZES:
        data = np.frombuffer(chance.bytes(_ROWS * size), np.uint8)
        slabs = Slab(_ROWS * size), Slab(_ROWS * size)
        layout, expected = (slab.layout(size) for slab in slabs)
        for slab in slabs:
            slab.array[:] = data
        for count in (_WORTH_IT, _ROWS):
            last_size = max(TRANSPORT_OVERHEAD, size - 7)
            cipher.seal(ours, layout, count, last_size)
            one_by_one.seal(ours, expected, count, last_size)
            if (slabs[0].array != slabs[1].array).any():
                return False
            # The tag's last byte: nobody may get away with less.
            layout.row(1)[size - 1] ^= 1
            if cipher.open(theirs, layout, count, last_size) != [1]:
                return False
            one_by_one.open(theirs, expected, count, last_size)
            layout.row(1)[:] = expected.row(1)
            plain = layout.matrix[:count, TRANSPORT_HEADER_LEN : size - TAG_LEN]
            if (plain != expected.matrix[:count, TRANSPORT_HEADER_LEN : size - TAG_LEN]).any():
                return False
    return True
