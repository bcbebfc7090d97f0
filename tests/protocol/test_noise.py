"""Section 5.4: the handshake, against an implementation of the Noise framework that is not ours.

`noiseprotocol` knows nothing of WireGuard; with WireGuard's prologue, keys and preshared key, its
messages must be the inner parts of ours, byte for byte.
"""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise.connection import Keypair as NoiseKeypair
from noise.connection import NoiseConnection

from wgpy.protocol.config import ZERO_KEY, Secret
from wgpy.protocol.messages import (
    MessageError,
    parse_cookie_reply_untrusted,
    parse_initiation_untrusted,
    parse_response_untrusted,
)
from wgpy.protocol.noise import (
    Handshake,
    Identity,
    NoiseError,
    SessionKeys,
    open_initiation_untrusted,
    tai64n,
)

_STAMP = tai64n(1_800_000_000 * 10**9)
_PSK = Secret(bytes(range(100, 132)))


def _sides(psk: Secret = ZERO_KEY) -> tuple[Handshake, Handshake, Identity, Identity]:
    alice, bob = Identity(Secret(b"a" * 32)), Identity(Secret(b"b" * 32))
    return Handshake(alice, bob.public, psk), Handshake(bob, alice.public, psk), alice, bob


def _shake(initiator: Handshake, responder: Handshake, bob: Identity) -> tuple[SessionKeys, ...]:
    message = initiator.create_initiation(7, b"e" * 32, _STAMP)
    opened = open_initiation_untrusted(bob, parse_initiation_untrusted(bytes(message)))
    accepted = responder.consume_initiation(opened, 1.0)
    answer, theirs = responder.create_response(accepted, 9, b"f" * 32)
    return initiator.consume_response(parse_response_untrusted(bytes(answer))), theirs


def _noise(*, initiator: bool, static: bytes, ephemeral: bytes, remote: bytes, psk: bytes):  # type: ignore[no-untyped-def]
    noise = NoiseConnection.from_name(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
    noise.set_prologue(b"WireGuard v1 zx2c4 Jason@zx2c4.com")
    noise.set_psks(psk)
    noise.set_keypair_from_private_bytes(NoiseKeypair.STATIC, static)
    noise.set_keypair_from_private_bytes(NoiseKeypair.EPHEMERAL, ephemeral)
    if initiator:
        noise.set_as_initiator()
        noise.set_keypair_from_public_bytes(NoiseKeypair.REMOTE_STATIC, remote)
    else:
        noise.set_as_responder()
    noise.start_handshake()
    return noise


def _transport_nonce(counter: int) -> bytes:
    return bytes(4) + counter.to_bytes(8, "little")


def _sealed(key: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key).encrypt(_transport_nonce(0), b"hello", b"")


@pytest.mark.parametrize("psk", [ZERO_KEY, _PSK])
def test_our_messages_are_those_of_another_noise_implementation(psk: Secret) -> None:
    initiator, responder, alice, bob = _sides(psk)
    noise_alice = _noise(
        initiator=True, static=b"a" * 32, ephemeral=b"e" * 32, remote=bob.public, psk=bytes(psk)
    )
    noise_bob = _noise(
        initiator=False, static=b"b" * 32, ephemeral=b"f" * 32, remote=alice.public, psk=bytes(psk)
    )
    first = noise_alice.write_message(_STAMP)
    ours = initiator.create_initiation(7, b"e" * 32, _STAMP)
    # Type, reserved, sender; then e, s and the timestamp; then the macs.
    assert bytes(ours[8:116]) == bytes(first)
    assert noise_bob.read_message(bytes(ours[8:116])) == _STAMP

    opened = open_initiation_untrusted(bob, parse_initiation_untrusted(bytes(ours)))
    assert opened.remote_static == alice.public
    answer, theirs = responder.create_response(
        responder.consume_initiation(opened, 1), 9, b"f" * 32
    )
    second = noise_bob.write_message(b"")
    assert bytes(answer[12:60]) == bytes(second)
    assert noise_alice.read_message(bytes(second)) == b""
    mine = initiator.consume_response(parse_response_untrusted(bytes(answer)))

    assert (mine.send_key, mine.receive_key) == (theirs.receive_key, theirs.send_key)
    assert noise_bob.decrypt(_sealed(mine.send_key)) == b"hello"
    assert noise_alice.decrypt(_sealed(theirs.send_key)) == b"hello"


def test_the_first_two_hashes_are_those_of_the_paper() -> None:
    """The chaining key and hash every implementation starts with, computed by hand."""
    from wgpy.protocol import noise

    chaining_key = hashlib.blake2s(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s").digest()
    assert chaining_key == noise._CHAINING_KEY
    assert (
        hashlib.blake2s(chaining_key + b"WireGuard v1 zx2c4 Jason@zx2c4.com").digest()
        == noise._HASH
    )


def test_indices_and_roles_are_carried() -> None:
    initiator, responder, _, bob = _sides()
    mine, theirs = _shake(initiator, responder, bob)
    assert (mine.local_index, mine.remote_index, mine.is_initiator) == (7, 9, True)
    assert (theirs.local_index, theirs.remote_index, theirs.is_initiator) == (9, 7, False)


def test_session_keys_do_not_show_in_a_repr() -> None:
    initiator, responder, _, bob = _sides()
    mine, _ = _shake(initiator, responder, bob)
    assert mine.send_key.hex()[:8] not in repr(mine)
    assert "x" + mine.send_key.hex()[:2] not in repr(mine)


# Every byte counts.


@pytest.mark.parametrize("position", range(8, 116))
def test_an_initiation_with_any_bit_flipped_is_refused(position: int) -> None:
    initiator, responder, _, bob = _sides()
    message = initiator.create_initiation(7, b"e" * 32, _STAMP)
    # The highest bit of a Curve25519 point is ignored by the curve, but not by the hash.
    message[position] ^= 0x80 if position == 39 else 1
    with pytest.raises(NoiseError):
        opened = open_initiation_untrusted(bob, parse_initiation_untrusted(bytes(message)))
        responder.consume_initiation(opened, 1.0)
    assert responder.latest_timestamp == bytes(12)


@pytest.mark.parametrize("position", range(12, 60))
def test_a_response_with_any_bit_flipped_is_refused_and_the_true_one_still_works(
    position: int,
) -> None:
    initiator, responder, _, bob = _sides()
    message = initiator.create_initiation(7, b"e" * 32, _STAMP)
    opened = open_initiation_untrusted(bob, parse_initiation_untrusted(bytes(message)))
    answer, theirs = responder.create_response(
        responder.consume_initiation(opened, 1), 9, b"f" * 32
    )
    bad = bytearray(answer)
    bad[position] ^= 1
    with pytest.raises(NoiseError):
        initiator.consume_response(parse_response_untrusted(bytes(bad)))
    mine = initiator.consume_response(parse_response_untrusted(bytes(answer)))
    assert mine.send_key == theirs.receive_key


def test_a_response_is_consumed_once() -> None:
    initiator, responder, _, bob = _sides()
    message = initiator.create_initiation(7, b"e" * 32, _STAMP)
    opened = open_initiation_untrusted(bob, parse_initiation_untrusted(bytes(message)))
    answer, _ = responder.create_response(responder.consume_initiation(opened, 1), 9, b"f" * 32)
    response = parse_response_untrusted(bytes(answer))
    initiator.consume_response(response)
    with pytest.raises(NoiseError, match="no-initiation"):
        initiator.consume_response(response)


def test_a_response_to_another_initiation_is_refused() -> None:
    initiator, responder, _, bob = _sides()
    message = initiator.create_initiation(7, b"e" * 32, _STAMP)
    opened = open_initiation_untrusted(bob, parse_initiation_untrusted(bytes(message)))
    answer, _ = responder.create_response(responder.consume_initiation(opened, 1), 9, b"f" * 32)
    initiator.create_initiation(8, b"g" * 32, _STAMP)
    with pytest.raises(NoiseError):
        initiator.consume_response(parse_response_untrusted(bytes(answer)))
    forged = replace(parse_response_untrusted(bytes(answer)), receiver_index=8)
    with pytest.raises(NoiseError):
        initiator.consume_response(forged)


def test_a_response_is_for_the_index_that_it_names() -> None:
    """The receiver's index is not under the tag."""
    initiator, responder, _, bob = _sides()
    message = initiator.create_initiation(7, b"e" * 32, _STAMP)
    opened = open_initiation_untrusted(bob, parse_initiation_untrusted(bytes(message)))
    answer, _ = responder.create_response(responder.consume_initiation(opened, 1), 9, b"f" * 32)
    response = parse_response_untrusted(bytes(answer))
    with pytest.raises(NoiseError, match="no-initiation"):
        initiator.consume_response(replace(response, receiver_index=8))
    initiator.consume_response(response)


def test_different_preshared_keys_make_no_session() -> None:
    initiator, responder, _, bob = _sides()
    responder.preshared_key = _PSK
    with pytest.raises(NoiseError, match="bad-tag"):
        _shake(initiator, responder, bob)


# Replay and flood (section 5.1).


def _initiation(initiator: Handshake, bob: Identity, stamp: bytes):  # type: ignore[no-untyped-def]
    message = initiator.create_initiation(7, b"e" * 32, stamp)
    return open_initiation_untrusted(bob, parse_initiation_untrusted(bytes(message)))


def test_timestamps_must_grow() -> None:
    initiator, responder, _, bob = _sides()
    second = 10**9
    stamps = [tai64n(second * n) for n in (100, 101, 102)]
    responder.consume_initiation(_initiation(initiator, bob, stamps[1]), 1.0)
    for stamp in (stamps[1], stamps[0]):
        with pytest.raises(NoiseError, match="replayed-timestamp"):
            responder.consume_initiation(_initiation(initiator, bob, stamp), 2.0)
    responder.consume_initiation(_initiation(initiator, bob, stamps[2]), 3.0)


def test_initiations_of_one_peer_are_no_closer_than_a_fiftieth_of_a_second() -> None:
    initiator, responder, _, bob = _sides()
    stamps = [tai64n(10**9 * n) for n in range(1, 5)]
    responder.consume_initiation(_initiation(initiator, bob, stamps[0]), 1.0)
    with pytest.raises(NoiseError, match="initiation-flood"):
        responder.consume_initiation(_initiation(initiator, bob, stamps[1]), 1.019)
    # What was refused has changed nothing.
    responder.consume_initiation(_initiation(initiator, bob, stamps[1]), 1.021)


@given(st.integers(0, 2**33 * 10**9), st.integers(0, 2**33 * 10**9))
def test_tai64n_keeps_the_order_of_times_and_tells_only_about_17_milliseconds(
    one: int, other: int
) -> None:
    first, second = tai64n(min(one, other)), tai64n(max(one, other))
    assert len(first) == 12
    assert first <= second
    nanoseconds = int.from_bytes(first[8:], "big")
    assert nanoseconds % 2**24 == 0
    assert nanoseconds < 10**9


def test_tai64n_of_a_known_moment() -> None:
    # 2^62 + 10 seconds before 1970 is where TAI64 labels start to count, leap seconds left out.
    assert tai64n(0) == bytes.fromhex("400000000000000a00000000")
    assert tai64n(1_234_567_890 * 10**9 + 500_000_000).hex() == "40000000499602dc1d000000"


# Low-order points.


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)])
def test_low_order_keys_make_no_handshake(point: bytes) -> None:
    _, _, alice, bob = _sides()
    assert not Handshake(alice, point).possible
    initiator = Handshake(alice, bob.public)
    message = initiator.create_initiation(7, b"e" * 32, _STAMP)
    message[8:40] = point
    with pytest.raises(NoiseError, match="low-order"):
        open_initiation_untrusted(bob, parse_initiation_untrusted(bytes(message)))


def test_without_a_private_key_nothing_is_possible() -> None:
    _, _, _, bob = _sides()
    handshake = Handshake(None, bob.public)
    assert not handshake.possible
    with pytest.raises(NoiseError):
        handshake.create_initiation(1, b"e" * 32, _STAMP)


# Parsers.


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_parsers_raise_nothing_but_message_errors(data: bytes) -> None:
    for parse, kind, size in (
        (parse_initiation_untrusted, 1, 148),
        (parse_response_untrusted, 2, 92),
        (parse_cookie_reply_untrusted, 3, 64),
    ):
        good = len(data) == size and data[:4] == bytes([kind, 0, 0, 0])
        if good:
            parse(data)
        else:
            with pytest.raises(MessageError):
                parse(data)
        whole = (bytes([kind, 0, 0, 0]) + data).ljust(size, b"x")[:size]
        parse(whole)
        for position in range(1, 4):
            reserved = bytearray(whole)
            reserved[position] = 1
            with pytest.raises(MessageError):
                parse(bytes(reserved))
