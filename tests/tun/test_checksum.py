"""The internet checksum: RFC 1071's own example, and the columns against a word at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tun.packets import internet_sum
from tests.tun.test_split import payload_of
from tun.checksum import checksum, fold, ones_complement_sum, pseudo_header_sum, row_sums, swapped


def test_the_example_of_rfc_1071_sums_to_ddf2() -> None:
    assert ones_complement_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


def test_a_checksum_in_its_field_makes_the_sum_all_ones() -> None:
    data = bytes(range(1, 20)) + b"\0"
    value = checksum(data + b"\0\0")
    assert internet_sum(data + value.to_bytes(2, "big")) == 0xFFFF


def test_only_zeros_sum_to_zero() -> None:
    assert ones_complement_sum(bytes(10)) == 0
    assert ones_complement_sum(b"\xff\xff") == 0xFFFF


@given(st.binary(max_size=300), st.integers(0, 0xFFFF))
def test_a_sum_is_that_of_a_word_at_a_time(data: bytes, start: int) -> None:
    assert ones_complement_sum(data, start) == internet_sum(start.to_bytes(2, "big") + data)


@pytest.mark.parametrize("size", [2998, 2999, 3000, 3001, 3002, 3003, 65_535])
@pytest.mark.parametrize("start", [0, 1, 0xFFFF])
def test_a_long_sum_is_that_of_a_word_at_a_time(size: int, start: int) -> None:
    for data in (payload_of(size), bytes(size), b"\xff" * size):
        expected = internet_sum(start.to_bytes(2, "big") + data)
        assert ones_complement_sum(data, start) == expected


@given(st.binary(min_size=8, max_size=8), st.integers(0, 255), st.integers(0, 0xFFFFFFFF))
def test_a_pseudo_header_is_summed_as_its_bytes(
    addresses: bytes, protocol: int, length: int
) -> None:
    data = addresses + length.to_bytes(4, "big") + protocol.to_bytes(4, "big")
    assert pseudo_header_sum(addresses, protocol, length) == internet_sum(data)


@given(
    st.integers(1, 9),
    st.integers(1, 70),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_rows_are_summed_as_one_buffer_after_the_other(
    count: int, width: int, offset: int, random: object, ones: bool
) -> None:
    bits = random.randbytes(count * (width + offset))  # type: ignore[attr-defined]
    table = np.frombuffer(bits, np.uint8).reshape(count, width + offset)
    rows = table | np.uint8(255 if ones else 0)
    rows = rows[:, offset:]
    found = [swapped(value) for value in fold(row_sums(rows)).tolist()]
    assert found == [internet_sum(row.tobytes()) for row in rows]
