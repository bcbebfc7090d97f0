"""Section 5.4 written down line by line, with none of our code and none of its libraries' paths.

BLAKE2s is that of RFC 7693 in Python, X25519 and ChaCha20 OpenSSL's where ours are libsodium's, and
the other way round for the AEAD. The frozen bytes at the end guard both against drifting together.
"""

import struct
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt

from wgpy.protocol.config import ZERO_KEY, Endpoint, Secret
from wgpy.protocol.cookie import CookieChecker, CookieGenerator, source_bytes
from wgpy.protocol.messages import (
    parse_cookie_reply_untrusted,
    parse_initiation_untrusted,
    parse_response_untrusted,
)
from wgpy.protocol.noise import Handshake, Identity, open_initiation_untrusted

# RFC 7693.

_IV = [
    0x6A09E667,
    0xBB67AE85,
    0x3C6EF372,
    0xA54FF53A,
    0x510E527F,
    0x9B05688C,
    0x1F83D9AB,
    0x5BE0CD19,
]
_SIGMA = """
0123456789abcdef ea489fd61c02b753 b8c052fdae367194 7931dcbe265a40f8 905724afe1bc683d
2c6a0b834d75fe19 c51fed4a0763928b db7ec13950f4862a 6fe9b308c2d714a5 a2847615fb9e3cd0
"""
_COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)


def blake2s(data: bytes, size: int = 32, key: bytes = b"") -> bytes:
    h = [*_IV]
    h[0] ^= 0x01010000 ^ len(key) << 8 ^ size
    if key:
        data = key.ljust(64, b"\0") + data
    blocks = [data[i : i + 64] for i in range(0, len(data), 64)] or [b""]
    done = 0
    for block in blocks:
        done += len(block)
        last = block is blocks[-1]
        m = struct.unpack("<16I", block.ljust(64, b"\0"))
        v = h + _IV
        v[12] ^= done
        v[14] ^= 0xFFFFFFFF * last
        for line in _SIGMA.split():
            s = [int(digit, 16) for digit in line]
            for i, (a, b, c, d) in enumerate(_COLUMNS_AND_DIAGONALS):
                for word, first, second in ((m[s[2 * i]], 16, 12), (m[s[2 * i + 1]], 8, 7)):
                    v[a] = v[a] + v[b] + word & 0xFFFFFFFF
                    v[d] = _rotate(v[d] ^ v[a], first)
                    v[c] = v[c] + v[d] & 0xFFFFFFFF
                    v[b] = _rotate(v[b] ^ v[c], second)
        h = [h[i] ^ v[i] ^ v[i + 8] for i in range(8)]
    return struct.pack("<8I", *h)[:size]


def _rotate(word: int, by: int) -> int:
    return (word >> by | word << 32 - by) & 0xFFFFFFFF


# Section 5.4's names.


def HASH(data: bytes) -> bytes:
    return blake2s(data)


def MAC(key: bytes, data: bytes) -> bytes:
    return blake2s(data, 16, key)


def HMAC(key: bytes, data: bytes) -> bytes:
    inner, outer = (bytes(b ^ pad for b in key.ljust(64, b"\0")) for pad in (0x36, 0x5C))
    return HASH(outer + HASH(inner + data))


def KDF(n: int, key: bytes, data: bytes) -> list[bytes]:
    tau0, outputs = HMAC(key, data), [b""]
    for i in range(1, n + 1):
        outputs.append(HMAC(tau0, outputs[-1] + bytes([i])))
    return outputs[1:]


def DH(private: bytes, public: bytes) -> bytes:
    key = X25519PrivateKey.from_private_bytes(private)
    return key.exchange(X25519PublicKey.from_public_bytes(public))


def DH_PUBLIC(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def AEAD(key: bytes, plain: bytes, data: bytes) -> bytes:
    return crypto_aead_chacha20poly1305_ietf_encrypt(plain, data, bytes(12), key)


def XAEAD(key: bytes, nonce: bytes, plain: bytes, data: bytes) -> bytes:
    """HChaCha20 is a block of ChaCha20 before its input is added: rows one and four of it."""
    block = Cipher(ChaCha20(key, nonce[:16]), None).encryptor().update(bytes(64))
    state = b"expand 32-byte k" + key + nonce[:16]
    words = [
        x - y & 0xFFFFFFFF
        for x, y in zip(struct.unpack("<16I", block), struct.unpack("<16I", state), strict=True)
    ]
    subkey = struct.pack("<8I", *words[:4], *words[12:])
    return ChaCha20Poly1305(subkey).encrypt(bytes(4) + nonce[16:], plain, data)


class Transcript(NamedTuple):
    """All that a handshake puts on the wire, and the keys that it ends with."""

    initiation: bytes
    response: bytes
    initiator_sends: bytes
    initiator_receives: bytes


def handshake(psk: bytes) -> Transcript:
    """Sections 5.4.2 to 5.4.5 with the keys of the tests below, mac2 zero."""
    Si, Sr = DH_PUBLIC(_ALICE), DH_PUBLIC(_BOB)
    Ei, Er = DH_PUBLIC(_EPHEMERAL_I), DH_PUBLIC(_EPHEMERAL_R)

    C = HASH(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
    H = HASH(C + b"WireGuard v1 zx2c4 Jason@zx2c4.com")
    H = HASH(H + Sr)
    (C,) = KDF(1, C, Ei)
    H = HASH(H + Ei)
    C, k = KDF(2, C, DH(_EPHEMERAL_I, Sr))
    static = AEAD(k, Si, H)
    H = HASH(H + static)
    C, k = KDF(2, C, DH(_ALICE, Sr))
    timestamp = AEAD(k, _TIMESTAMP, H)
    H = HASH(H + timestamp)
    initiation = b"\1\0\0\0" + struct.pack("<I", _INDEX_I) + Ei + static + timestamp
    initiation += MAC(HASH(b"mac1----" + Sr), initiation) + bytes(16)

    (C,) = KDF(1, C, Er)
    H = HASH(H + Er)
    (C,) = KDF(1, C, DH(_EPHEMERAL_R, Ei))
    (C,) = KDF(1, C, DH(_EPHEMERAL_R, Si))
    C, tau, k = KDF(3, C, psk)
    H = HASH(H + tau)
    response = b"\2\0\0\0" + struct.pack("<II", _INDEX_R, _INDEX_I) + Er + AEAD(k, b"", H)
    response += MAC(HASH(b"mac1----" + Si), response) + bytes(16)

    first, second = KDF(2, C, b"")
    return Transcript(initiation, response, first, second)


_ALICE, _BOB = bytes(range(32)), bytes(range(32, 64))
_EPHEMERAL_I, _EPHEMERAL_R = bytes(range(64, 96)), bytes(range(96, 128))
_TIMESTAMP = bytes.fromhex("400000006553f10a1d000000")
_INDEX_I, _INDEX_R = 0x01020304, 0xFFFEFDFC
_PSK = bytes(range(128, 160))
psks = pytest.mark.parametrize("psk", [bytes(32), _PSK], ids=["no-psk", "psk"])


def _ours(psk: bytes) -> Transcript:
    alice, bob = Identity(Secret(_ALICE)), Identity(Secret(_BOB))
    initiator = Handshake(alice, bob.public, Secret(psk))
    responder = Handshake(bob, alice.public, Secret(psk))
    initiation = initiator.create_initiation(_INDEX_I, _EPHEMERAL_I, _TIMESTAMP)
    CookieGenerator(bob.public).add_macs(initiation, 0.0)
    opened = open_initiation_untrusted(bob, parse_initiation_untrusted(bytes(initiation)))
    accepted = responder.consume_initiation(opened, 0.0)
    response, theirs = responder.create_response(accepted, _INDEX_R, _EPHEMERAL_R)
    CookieGenerator(alice.public).add_macs(response, 0.0)
    mine = initiator.consume_response(parse_response_untrusted(bytes(response)))
    assert (mine.send_key, mine.receive_key) == (theirs.receive_key, theirs.send_key)
    return Transcript(bytes(initiation), bytes(response), mine.send_key, mine.receive_key)


# The second implementation itself.


def test_blake2s_is_that_of_the_rfc() -> None:
    # RFC 7693, appendix B; and the empty keyed input of the official test vectors.
    expected = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    assert blake2s(b"abc").hex() == expected
    expected = "48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49"
    assert blake2s(b"", key=bytes(range(32))).hex() == expected


def test_xaead_is_that_of_the_draft() -> None:
    """draft-irtf-cfrg-xchacha-03, section A.3.1."""
    sealed = XAEAD(
        bytes(range(0x80, 0xA0)),
        bytes(range(0x40, 0x58)),
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
        b"future, sunscreen would be it.",
        bytes.fromhex("50515253c0c1c2c3c4c5c6c7"),
    )
    assert sealed[:16].hex() == "bd6d179d3e83d43b9576579493c0e939"
    assert sealed[-16:].hex() == "c0875924c1c7987947deafd8780acf49"


# Ours against it.


@psks
def test_a_whole_handshake_is_the_papers_byte_for_byte(psk: bytes) -> None:
    assert _ours(psk) == handshake(psk)


def test_a_cookie_reply_and_the_mac2_it_allows_are_the_papers() -> None:
    public, nonce = DH_PUBLIC(_BOB), bytes(range(24))
    secret = bytes(range(200, 232))
    randoms = iter([secret, nonce])
    checker = CookieChecker(public, lambda size: next(randoms))
    generator = CookieGenerator(public)
    initiation = bytearray(handshake(bytes(32)).initiation)
    generator.add_macs(initiation, 0.0)
    source = source_bytes(Endpoint("2001:db8::7", 51820))
    assert source == bytes.fromhex("20010db8000000000000000000000007ca6c")

    reply = checker.create_reply(bytes(initiation), source, 0.0)
    cookie = MAC(secret, source)
    sealed = XAEAD(HASH(b"cookie--" + public), nonce, cookie, bytes(initiation[116:132]))
    assert reply == b"\3\0\0\0" + struct.pack("<I", _INDEX_I) + nonce + sealed

    assert generator.consume_reply_untrusted(parse_cookie_reply_untrusted(reply), 0.0)
    generator.add_macs(initiation, 1.0)
    assert bytes(initiation[132:]) == MAC(cookie, bytes(initiation[:132]))
    assert checker.check_mac1(bytes(initiation))
    assert checker.check_mac2(bytes(initiation), source, 1.0)


@pytest.mark.parametrize("number", range(20))
def test_private_keys_are_clamped(number: int) -> None:
    """All the bits that X25519 ignores, set and not: the same key."""
    private = bytearray(blake2s(bytes([number])))
    plain = Identity(Secret(bytes(private)))
    private[0] ^= number & 7
    private[31] ^= 0x80
    assert Identity(Secret(bytes(private))).public == plain.public == DH_PUBLIC(bytes(private))


# Every point whose product with any clamped private key is zero, as RFC 7748 section 7 warns: the
# five of order 1, 2, 4 and 8 and the forms of them that are not reduced; and with the top bit set.
_P = 2**255 - 19
_ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
_LOW_ORDER = [0, 1, *_ORDER_8, _P - 1, _P, _P + 1]


@pytest.mark.parametrize("top_bit", [0, 1 << 255])
@pytest.mark.parametrize("point", _LOW_ORDER)
def test_every_low_order_point_is_refused(point: int, top_bit: int) -> None:
    public = (point | top_bit).to_bytes(32, "little")
    assert not Handshake(Identity(Secret(_ALICE)), public, ZERO_KEY).possible


# Frozen, computed by the lines above.

_FROZEN = {
    bytes(32): [
        (
            "010000000403020179a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51af022"
            "5eb421886af8f54fb31289d49dcd82b0f6f3279d40d7cff913fece0c64ad226eef3320755b393b72f168"
            "42c8d7ee78a74e937e3f2a8292f4ecc1fe53bdc01ca5775c5621394b3b1b32fb1b832ba40a89878b068c"
            "94fcaed42d7000000000000000000000000000000000"
        ),
        (
            "02000000fcfdfeff04030201675dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371e"
            "a52f2eb6be09482a0f1f62b18db34b9d528e55e2b1b5f105e49bbaf60ba92aab02160000000000000000"
            "0000000000000000"
        ),
        "8c467a49ee5feffc8b390fba6ff460b5d66abf66f5e4bf9e0a5612b256498238",
        "eb356022624730ae787d7fccc635655d1b1b1fb7d81f299043b0ce85e3a3a4b4",
    ],
    _PSK: [
        (
            "010000000403020179a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51af022"
            "5eb421886af8f54fb31289d49dcd82b0f6f3279d40d7cff913fece0c64ad226eef3320755b393b72f168"
            "42c8d7ee78a74e937e3f2a8292f4ecc1fe53bdc01ca5775c5621394b3b1b32fb1b832ba40a89878b068c"
            "94fcaed42d7000000000000000000000000000000000"
        ),
        (
            "02000000fcfdfeff04030201675dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371e"
            "a52fcd75e33cd4b373ffa6c25306d87c87f070a39865583cdaac9ecc1b8dab4cd9470000000000000000"
            "0000000000000000"
        ),
        "f26d13be8f8fe7fe36805b47503285e73bcb2fc6fe3ef37834e5f6128ad8cf50",
        "083bdab92ffb8da7ab5063bb2d96de2b7e09008d8e07bcf96ac25c340a778665",
    ],
}


@psks
def test_the_handshake_is_what_it_has_always_been(psk: bytes) -> None:
    frozen = _FROZEN[psk]
    assert [part.hex() for part in _ours(psk)] == frozen
    assert [part.hex() for part in handshake(psk)] == frozen
