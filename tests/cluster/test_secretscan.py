"""The scanner finds a secret however it is written, and nothing else."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.secretscan import Scanner, clamped, forms, scan_all, signature

# Of every kind of octet: some that base64 writes as + and /, some printable, none twice alike.
_KEY = bytes.fromhex("fbeffe3ff0" + "41427a" + bytes(range(24)).hex())
_OTHER = bytes(range(100, 132))
_WRITTEN = {
    "raw": _KEY,
    "hex": _KEY.hex().encode(),
    "HEX": _KEY.hex().upper().encode(),
    "spaced hex": _KEY.hex(" ").encode(),
    "base64": b64encode(_KEY),
    "base64 without padding": b64encode(_KEY).rstrip(b"="),
    "base64url": urlsafe_b64encode(_KEY),
    "base64 after one octet": b64encode(b"x" + _KEY + b"more"),
    "base64 after two octets": b64encode(b"xy" + _KEY + b"more"),
    "base64url after one octet": urlsafe_b64encode(b"x" + _KEY),
    "base64url after two octets": urlsafe_b64encode(b"xy" + _KEY),
    "JSON in a Kubernetes Secret": b64encode(json.dumps({"k": b64encode(_KEY).decode()}).encode()),
    "hex in base64": b64encode(b"key=" + _KEY.hex().encode()),
    "repr": repr(_KEY).encode(),
    "repr in a tuple": repr((1, _KEY)).encode(),
    "a list": str(list(_KEY)).encode(),
    "Go's bytes": ("[" + " ".join(map(str, _KEY)) + "]").encode(),
}


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return Scanner({"the key": _KEY})


@pytest.mark.parametrize("how", _WRITTEN)
@pytest.mark.parametrize("around", [(b"", b""), (b"private_key=", b"\n"), (b"\0" * 5, b"\0")])
def test_a_secret_is_found_however_it_is_written(
    scanner: Scanner, how: str, around: tuple[bytes, bytes]
) -> None:
    before, after = around
    hits = scanner.scan("a log", before + _WRITTEN[how] + after)
    assert {(hit.secret, hit.place) for hit in hits} == {("the key", "a log")}


def test_the_form_and_the_place_are_told_and_the_secret_is_not(scanner: Scanner) -> None:
    (hit,) = scanner.scan("argv of 7", b"--key " + _KEY.hex().encode())
    assert (hit.form, hit.place) == ("hex", "argv of 7")
    assert not scanner.scan("what is told", repr(hit).encode())


def test_a_half_of_a_secret_is_not_taken_for_it(scanner: Scanner) -> None:
    assert not scanner.scan("", _KEY[:-1] + b"\xff" + b64encode(_KEY)[:30])


@given(st.binary(max_size=300))
def test_nothing_is_found_where_nothing_is(data: bytes) -> None:
    assert not Scanner({"one": _OTHER}).scan("", data)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=9), st.binary(max_size=9))
def test_every_key_is_found_in_the_middle_of_base64(key: bytes, left: bytes, right: bytes) -> None:
    for encode in (b64encode, urlsafe_b64encode):
        assert Scanner({"key": key}).scan("", encode(left + key + right))


def test_a_secret_across_two_pieces_of_a_large_file_is_found(
    scanner: Scanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.cluster.secretscan._CHUNK", 64)
    for before in range(130):
        assert scanner.scan("", bytes(before) + _KEY + bytes(50)), before


def test_many_secrets_are_told_apart() -> None:
    keys = {str(number): bytes([number]) * 16 + _OTHER for number in range(50)}
    hits = scan_all(Scanner(keys), [("a", b64encode(keys["7"])), ("b", keys["9"])])
    # The longer ends of others are no whole secrets.
    assert {(hit.secret, hit.place) for hit in hits} == {("7", "a"), ("9", "b")}


def test_a_secret_too_short_to_look_for_is_refused() -> None:
    with pytest.raises(ValueError, match="pin: 4 bytes are too few"):
        Scanner({"pin": b"1234"})


def test_a_private_key_is_found_before_and_after_it_is_clamped() -> None:
    drawn = bytes([0xFF]) + bytes(range(30)) + bytes([0xFF])
    used = bytes([0xF8]) + drawn[1:31] + bytes([0x7F])
    scanner = Scanner({"private": clamped(used)})
    for key in (drawn, used):
        for text in (key, b64encode(key), key.hex().encode()):
            assert scanner.scan("", text)


def test_of_a_token_only_the_signature_is_a_secret() -> None:
    assert signature("head.claims.signature") == b"signature"
    assert signature("opaque") == b"opaque"


def test_no_form_is_forgotten_by_a_slip() -> None:
    names = [name for name, _ in forms(_KEY)]
    assert len(names) == len(set(names)) == 6 + 8 + 8 * 6
