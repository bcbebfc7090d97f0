"""Keys in base64, and key files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.tools.errors import ToolError
from wgpy.tools.keys import (
    generate_preshared_key,
    generate_private_key,
    key_text,
    parse_key,
    parse_key_text,
    public_key,
    read_key_file,
)

KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="


def test_a_public_key_is_that_of_rfc_7748() -> None:
    private = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
    public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert public_key(bytes.fromhex(private)).hex() == public


def test_private_keys_are_clamped_and_differ() -> None:
    keys = [generate_private_key() for _ in range(64)]
    assert len(set(keys)) == 64
    assert all(len(k) == 32 and k[0] % 8 == 0 and 64 <= k[31] < 128 for k in keys)


def test_preshared_keys_are_not_clamped() -> None:
    keys = [generate_preshared_key() for _ in range(64)]
    assert any(k[0] % 8 for k in keys) and any(k[31] >= 128 for k in keys)


@given(st.binary(min_size=32, max_size=32))
def test_a_key_survives_its_text(key: bytes) -> None:
    assert parse_key(key_text(key)) == key


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_text_is_a_key_only_if_it_is_the_text_of_that_key(text: str) -> None:
    try:
        key = parse_key(text)
    except ValueError:
        return
    assert key_text(key) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        KEY[:-1],
        KEY + "A",
        KEY[:-2] + "l=",  # bits set that no key has
        "A" * 44,
        KEY.replace("+", "-"),
        KEY[:20] + "\n" + KEY[21:],
        "=" * 44,
        "é" * 44,
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="expected a key of 44 characters") as caught:
        parse_key(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("after", ["", "\n", " \n\n\t"])
def test_white_space_may_follow_a_key(after: str) -> None:
    assert key_text(parse_key_text(KEY + after)) == KEY


@pytest.mark.parametrize("text", [f"{KEY}x", f"{KEY}\n{KEY}", f" {KEY}", "\n", KEY[:-1] + "\n"])
def test_anything_else_beside_a_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_key_text(text)


def test_an_empty_key_file_takes_the_key_away(tmp_path: Path) -> None:
    assert read_key_file("/dev/null") == bytes(32)
    (tmp_path / "key").write_text(KEY + "\n")
    assert key_text(read_key_file(str(tmp_path / "key"))) == KEY


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "found binary data"),
        (b"\n", "found nothing"),
        (KEY.encode() + b" x", "more text after it"),
    ],
)
def test_a_bad_key_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(ToolError, match=message) as caught:
        read_key_file(str(path))
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_key_file_is_named() -> None:
    with pytest.raises(ToolError, match="^/nowhere/key: No such file or directory; "):
        read_key_file("/nowhere/key")
