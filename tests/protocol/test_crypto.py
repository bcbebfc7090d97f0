"""HMAC and what is derived with it (section 5.4), against Python's own."""

import hmac

from hypothesis import given
from hypothesis import strategies as st

from wgpy.protocol.crypto import kdf1, kdf2, kdf3


@given(st.binary(max_size=64), st.binary(max_size=200))
def test_keys_are_derived_as_hkdf_does(key: bytes, data: bytes) -> None:
    root = hmac.digest(key, data, "blake2s")
    first = hmac.digest(root, b"\x01", "blake2s")
    second = hmac.digest(root, first + b"\x02", "blake2s")
    third = hmac.digest(root, second + b"\x03", "blake2s")
    assert kdf1(key, data) == first
    assert kdf2(key, bytearray(data)) == (first, second)
    assert kdf3(key, memoryview(data)) == (first, second, third)
