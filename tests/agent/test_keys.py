from dataclasses import replace
from os import urandom
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.keys import (
    KeyRing,
    LaneSecrets,
    SealError,
    Side,
    derive_psk,
    open_half,
    own_half,
    seal_half,
)
from agent.model import SealedHalf
from wgpy.protocol.config import Secret


def side(name: str, seed: int, epoch: int = 1) -> tuple[LaneSecrets, Side]:
    secrets = LaneSecrets.generate(Random(seed).randbytes)
    return secrets, Side(name, secrets.public(51871, epoch))


A, A_SIDE = side("node-a", 1)
B, B_SIDE = side("node-b", 2)
C, C_SIDE = side("node-c", 3)


def test_both_ends_derive_one_key_from_what_the_other_has_sealed() -> None:
    to_b = seal_half(A, 0, A_SIDE, B_SIDE)
    to_a = seal_half(B, 0, B_SIDE, A_SIDE)
    at_a = derive_psk(
        0,
        A_SIDE,
        own_half(A, 0, A_SIDE, B_SIDE),
        B_SIDE,
        open_half(A, 0, B_SIDE, A_SIDE, to_a),
    )
    at_b = derive_psk(
        0,
        B_SIDE,
        own_half(B, 0, B_SIDE, A_SIDE),
        A_SIDE,
        open_half(B, 0, A_SIDE, B_SIDE, to_b),
    )
    assert at_a == at_b
    assert len(at_a) == 32


def test_nobody_else_opens_a_half() -> None:
    half = seal_half(A, 0, A_SIDE, B_SIDE)
    with pytest.raises(SealError, match="does not open"):
        open_half(C, 0, A_SIDE, B_SIDE, half)


def test_a_half_of_one_peer_is_not_taken_for_that_of_another() -> None:
    half = seal_half(C, 0, C_SIDE, B_SIDE)
    with pytest.raises(SealError, match="node-a for node-b does not open"):
        open_half(B, 0, A_SIDE, B_SIDE, half)


def test_a_half_is_bound_to_its_lane_names_keys_and_epochs() -> None:
    half = seal_half(A, 0, A_SIDE, B_SIDE)
    other_name = replace(A_SIDE, name="node-x")
    other_key = replace(A_SIDE, keys=replace(A_SIDE.keys, public_key=C_SIDE.keys.public_key))
    for lane, writer in ((1, A_SIDE), (0, other_name), (0, other_key)):
        with pytest.raises(SealError, match="does not open"):
            open_half(B, lane, writer, B_SIDE, half)
    other_epoch = replace(A_SIDE, keys=replace(A_SIDE.keys, epoch=2))
    with pytest.raises(SealError, match="other epochs"):
        open_half(B, 0, other_epoch, B_SIDE, half)
    with pytest.raises(SealError, match="does not open"):
        open_half(B, 0, other_epoch, B_SIDE, replace(half, writer_epoch=2))


@given(at=st.integers(0, 47), bit=st.integers(0, 7))
def test_an_altered_half_does_not_open(at: int, bit: int) -> None:
    half = seal_half(A, 0, A_SIDE, B_SIDE)
    altered = bytearray(half.sealed)
    altered[at] ^= 1 << bit
    with pytest.raises(SealError):
        open_half(B, 0, A_SIDE, B_SIDE, replace(half, sealed=bytes(altered)))


@given(sealed=st.binary(max_size=100))
def test_no_bytes_of_others_open(sealed: bytes) -> None:
    with pytest.raises(SealError):
        open_half(B, 0, A_SIDE, B_SIDE, SealedHalf(1, 1, sealed))


def test_a_box_key_of_low_order_is_refused() -> None:
    weak = replace(B_SIDE, keys=replace(B_SIDE.keys, box_key=bytes([1, *bytes(31)])))
    with pytest.raises(SealError, match="node-b is no good"):
        seal_half(A, 0, A_SIDE, weak)


def test_halves_differ_by_lane_reader_and_epoch() -> None:
    newer = replace(A_SIDE, keys=replace(A_SIDE.keys, epoch=2))
    halves = {
        own_half(A, 0, A_SIDE, B_SIDE),
        own_half(A, 1, A_SIDE, B_SIDE),
        own_half(A, 0, A_SIDE, C_SIDE),
        own_half(A, 0, newer, B_SIDE),
        own_half(B, 0, B_SIDE, A_SIDE),
    }
    assert len(halves) == 5


def test_who_adopts_a_device_seals_and_opens_as_who_made_it() -> None:
    first, successor, peer = KeyRing(urandom), KeyRing(urandom), KeyRing(urandom)
    own = Side("node-a", first.generate(51871, 4))
    other = Side("node-b", peer.generate(51871, 7))
    adopted = successor.adopt(first.private_key(own.keys.public_key), 51871, 4)
    assert adopted == own.keys
    half = peer.seal(0, other, own)
    assert first.seal(0, own, other) == successor.seal(0, own, other)
    assert first.psk(0, own, other, half) == successor.psk(0, own, other, half)
    sealed = successor.seal(0, own, other)
    assert first.psk(0, own, other, half) == peer.psk(0, other, own, sealed)


def test_a_key_once_agreed_stays_when_the_half_goes() -> None:
    ring, peer = KeyRing(urandom), KeyRing(urandom)
    own = Side("node-a", ring.generate(51871, 1))
    other = Side("node-b", peer.generate(51871, 1))
    assert ring.psk(0, own, other, None) is None
    agreed = ring.psk(0, own, other, peer.seal(0, other, own))
    assert ring.psk(0, own, other, None) == agreed


def test_what_is_forgotten_is_gone() -> None:
    ring, peer = KeyRing(urandom), KeyRing(urandom)
    old, new = (Side("node-a", ring.generate(51871, epoch)) for epoch in (1, 2))
    other = Side("node-b", peer.generate(51871, 1))
    ring.adopt_psk(new.keys.public_key, other.keys.public_key, Secret(b"p" * 32))
    ring.forget_except({new.keys.public_key}, {other.keys.public_key})
    with pytest.raises(KeyError):
        ring.private_key(old.keys.public_key)
    assert ring.psk(0, new, other, None) == b"p" * 32
    ring.forget_except({new.keys.public_key}, set())
    assert ring.psk(0, new, other, None) is None


def test_secrets_do_not_show_in_what_is_printed() -> None:
    ring = KeyRing(urandom)
    own = ring.generate(51871, 1)
    secret = bytes(ring.private_key(own.public_key))
    assert repr(secret) not in repr(LaneSecrets(Secret(secret)))
    assert secret.hex() not in repr(LaneSecrets(Secret(secret)))
