"""Two ways to seal and open the rows of a slab make the same bytes."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wgpy.protocol import multibuffer
from wgpy.protocol.batch import MAX_BATCH, Layout, Slab
from wgpy.protocol.constants import KEY_LEN, TRANSPORT_HEADER_LEN, TRANSPORT_OVERHEAD
from wgpy.protocol.keypair import Keypair
from wgpy.protocol.multibuffer import LibraryUnfit, MultiBuffer
from wgpy.protocol.noise import SessionKeys
from wgpy.protocol.rowcipher import OneByOne, RowCipher

_COUNTERS = st.integers(0, 2**64 - MAX_BATCH - 1)
_SLAB = 256 * 1024


@pytest.fixture(scope="module")
def many() -> MultiBuffer:
    try:
        return MultiBuffer()
    except LibraryUnfit as error:
        pytest.skip(f"Intel's multi-buffer library, Debian's libipsec-mb1: {error}")


def _ends(chance: random.Random) -> tuple[Keypair, Keypair]:
    one, other = chance.randbytes(KEY_LEN), chance.randbytes(KEY_LEN)
    ours, theirs = SessionKeys(one, other, True, 1, 2), SessionKeys(other, one, False, 2, 1)
    return Keypair(ours, 0.0), Keypair(theirs, 0.0)


def _filled(size: int, stride: int, counter: int, seed: int) -> Layout:
    slab = Slab(_SLAB)
    slab.view[:] = random.Random(seed).randbytes(_SLAB)
    layout = slab.layout(size, stride)
    layout.counters[:] = np.arange(counter, counter + layout.capacity, dtype=np.uint64)
    return layout


def _all(layout: Layout) -> bytes:
    return bytes(layout.slab.view)


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(TRANSPORT_OVERHEAD, 2000),
    shorter=st.integers(0, 2000),
    padding=st.integers(0, 70),
    count=st.integers(1, MAX_BATCH),
    counter=_COUNTERS,
    bad=st.sets(st.integers(0, MAX_BATCH - 1), max_size=5),
    data=st.data(),
)
def test_both_ciphers_write_the_same_bytes_and_no_others(
    many: MultiBuffer,
    size: int,
    shorter: int,
    padding: int,
    count: int,
    counter: int,
    bad: set[int],
    data: st.DataObject,
) -> None:
    ours, theirs = _ends(random.Random(size))
    last_size = max(TRANSPORT_OVERHEAD, size - shorter)
    made: list[tuple[bytes, list[int], bytes]] = []
    flips = {k: data.draw(st.integers(TRANSPORT_HEADER_LEN, 10_000)) for k in bad if k < count}
    ciphers: tuple[RowCipher, ...] = (many, OneByOne())
    for cipher in ciphers:
        layout = _filled(size, size + padding, counter, count)
        number = min(count, layout.capacity)
        cipher.seal(ours, layout, number, last_size)
        sealed = _all(layout)
        for k, where in flips.items():
            length = last_size if k == number - 1 else size
            layout.row(k)[min(where, length - 1)] ^= 1 << (where % 8)
        wrong = cipher.open(theirs, layout, number, last_size)
        assert wrong == sorted(flips)
        made.append((sealed, wrong, _without_tags(layout, number, last_size)))
    assert made[0] == made[1]


def _without_tags(layout: Layout, count: int, last_size: int) -> bytes:
    """Everything but the tags of opened rows, which mean nothing any more."""
    for k in range(count):
        end = last_size if k == count - 1 else layout.size
        layout.row(k)[end - 16 : end] = bytes(16)
    return _all(layout)


def test_what_does_not_authenticate_is_zeroed_and_its_neighbours_are_not(many: MultiBuffer) -> None:
    ours, theirs = _ends(random.Random(1))
    layout = _filled(200, 200, 7, 1)
    plain = [bytes(layout.row(k)[16:184]) for k in range(10)]
    many.seal(ours, layout, 10, 200)
    layout.row(4)[20] ^= 1
    assert many.open(theirs, layout, 10, 200) == [4]
    plain[4] = bytes(168)
    assert [bytes(layout.row(k)[16:184]) for k in range(10)] == plain


def test_a_counter_of_another_row_opens_nothing(many: MultiBuffer) -> None:
    ours, theirs = _ends(random.Random(2))
    layout = _filled(128, 128, 0, 2)
    many.seal(ours, layout, 6, 128)
    layout.counters[2:4] = layout.counters[3], layout.counters[2]
    assert many.open(theirs, layout, 6, 128) == [2, 3]


def test_several_of_them_do_not_disturb_each_other() -> None:
    try:
        first, second = MultiBuffer(), MultiBuffer()
    except LibraryUnfit as error:
        pytest.skip(f"Intel's multi-buffer library, Debian's libipsec-mb1: {error}")
    ours, theirs = _ends(random.Random(3))
    for turn in range(50):
        layout = _filled(300, 300, turn * 1000, turn)
        count = 3 + turn * 2
        first.seal(ours, layout, count, 300)
        assert second.open(theirs, layout, count, 300) == []


def test_a_library_that_makes_other_bytes_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    if multibuffer.load() is None:
        pytest.skip("Intel's multi-buffer library, Debian's libipsec-mb1, is not here")
    # A field that means something else in this version.
    moved = {**multibuffer._JOB, "hash_len": multibuffer._JOB["cipher_start"]}
    monkeypatch.setattr(multibuffer, "_JOB", moved)
    multibuffer.load.cache_clear()
    try:
        assert multibuffer.load() is None
    finally:
        multibuffer.load.cache_clear()


def test_without_the_library_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multibuffer, "_LIBRARIES", ("libwgpy-has-no-such.so",))
    multibuffer.load.cache_clear()
    try:
        assert multibuffer.load() is None
    finally:
        multibuffer.load.cache_clear()
