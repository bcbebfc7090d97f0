"""Keys as people handle them: 44 characters of base64, in files and on standard input."""

import binascii
import os

from wgpy.tools.errors import ToolError

KEY_LEN = 32
_TEXT_LEN = 44


def key_text(key: bytes) -> str:
    """The base64 of a 32-byte key."""
    return binascii.b2a_base64(key, newline=False).decode()


def parse_key(text: str) -> bytes:
    """32 bytes from 44 characters of canonical base64.

    ValueError otherwise; what was found is not shown, for it may be a secret.
    """
    try:
        if len(text) == _TEXT_LEN:
            key = binascii.a2b_base64(text, strict_mode=True)
            # Bits beyond the 256th have to be zero: a key has one text only.
            if len(key) == KEY_LEN and key_text(key) == text:
                return key
    except ValueError:
        pass
    found = "nothing" if not text else f"{len(text)} characters"
    raise ValueError(f"expected a key of {_TEXT_LEN} characters of base64, found {found}")


def generate_private_key() -> bytes:
    """A new Curve25519 private key, clamped as wg(8) does."""
    key = bytearray(os.urandom(KEY_LEN))
    key[0] &= 248
    key[31] = key[31] & 127 | 64
    return bytes(key)


def generate_preshared_key() -> bytes:
    """A new preshared key: 32 random bytes."""
    return os.urandom(KEY_LEN)


def public_key(private_key: bytes) -> bytes:
    """The Curve25519 public key that belongs to `private_key`."""
    from nacl.bindings import crypto_scalarmult_base

    # bytes(): a Secret is no exact bytes object, which the binding asks for.
    return crypto_scalarmult_base(bytes(private_key))


def parse_key_text(text: str) -> bytes:
    """A key followed by nothing but white space, as on standard input or in a key file."""
    if text[_TEXT_LEN:].strip():
        raise ValueError("expected a single key, found more text after it")
    return parse_key(text[:_TEXT_LEN].rstrip())


def read_key_file(path: str) -> bytes:
    """The key in file `path`; 32 zero bytes, which take a key away, if the file is empty."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(4096)
        return parse_key_text(text) if text else bytes(KEY_LEN)
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}; give a readable file with the key") from None
    except UnicodeDecodeError:
        raise ToolError(f"{path}: expected a key in base64, found binary data") from None
    except ValueError as error:
        raise ToolError(f"{path}: {error}") from None
