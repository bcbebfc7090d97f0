"""The primitives of section 5.4 under the paper's names, from libraries."""

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
)
from nacl.exceptions import CryptoError

from wgpy.protocol.constants import MAC_LEN

Buffer = bytes | bytearray | memoryview

# Of HMAC: what each byte of a key becomes.
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
_HASH_BLOCK = 64


class AuthenticationError(Exception):
    """A ciphertext does not belong to its key, nonce and associated data."""


def hash_(*parts: Buffer) -> bytes:
    """Hash of the concatenation: BLAKE2s, 32 bytes."""
    state = hashlib.blake2s()
    for part in parts:
        state.update(part)
    return state.digest()


def mac(key: Buffer, *parts: Buffer) -> bytes:
    """Keyed BLAKE2s, 16 bytes."""
    state = hashlib.blake2s(key=key, digest_size=MAC_LEN)
    for part in parts:
        state.update(part)
    return state.digest()


def _hmac(key: bytes, data: Buffer) -> bytes:
    # RFC 2104. An initiation takes 21 of these: hmac.digest has the same in a third more time,
    # from OpenSSL in twice as much.
    block = key.ljust(_HASH_BLOCK, b"\0")
    inner = hashlib.blake2s(block.translate(_INNER) + data).digest()
    return hashlib.blake2s(block.translate(_OUTER) + inner).digest()


def kdf1(key: bytes, data: Buffer) -> bytes:
    """Of a key of at most 64 bytes, as all of the handshake are."""
    return _hmac(_hmac(key, data), b"\x01")


def kdf2(key: bytes, data: Buffer) -> tuple[bytes, bytes]:
    t0 = _hmac(key, data)
    t1 = _hmac(t0, b"\x01")
    return t1, _hmac(t0, t1 + b"\x02")


def kdf3(key: bytes, data: Buffer) -> tuple[bytes, bytes, bytes]:
    t0 = _hmac(key, data)
    t1 = _hmac(t0, b"\x01")
    t2 = _hmac(t0, t1 + b"\x02")
    return t1, t2, _hmac(t0, t2 + b"\x03")


def dh_generate(private: Buffer) -> bytes:
    """The public key of a private key (which X25519 clamps by itself)."""
    return crypto_scalarmult_base(bytes(private))


def dh(private: Buffer, public: Buffer) -> bytes | None:
    """X25519; None when the result is all zeros, which a low-order public key makes it."""
    try:
        return crypto_scalarmult(bytes(private), bytes(public))
    except CryptoError:
        return None


def seal(key: bytes, counter: int, plaintext: Buffer, associated: Buffer) -> bytes:
    """AEAD of the handshake."""
    return ChaCha20Poly1305(key).encrypt(_nonce(counter), plaintext, associated)


def open_(key: bytes, counter: int, ciphertext: Buffer, associated: Buffer) -> bytes:
    """Raises AuthenticationError."""
    try:
        return ChaCha20Poly1305(key).decrypt(_nonce(counter), ciphertext, associated)
    except InvalidTag as error:
        raise AuthenticationError from error


def _nonce(counter: int) -> bytes:
    return counter.to_bytes(12, "little")[8:] + counter.to_bytes(8, "little")


def xseal(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """XAEAD of cookie replies."""
    return crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, associated, nonce, key)


def xopen(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    """Raises AuthenticationError."""
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, associated, nonce, key)
    except CryptoError as error:
        raise AuthenticationError from error
