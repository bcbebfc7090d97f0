"""Whether bytes hold a secret, in any of the forms that programs write bytes in.

A form of a secret is what an encoder makes of it, without what its neighbours have a share in: so
base64 is found at each of its three alignments, also in the middle of something longer.
"""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST = 8
"""Bytes of the shortest form: below, chance would find it."""
# Of a form's beginning, by which positions are sorted out.
_HEAD = 3
# Bytes looked at in one go.
_CHUNK = 1 << 24


@dataclass(frozen=True, order=True)
class Hit:
    """A secret by its name, the form and the place it was found in."""

    secret: str
    form: str
    place: str


class Scanner:
    """Knows secrets, and finds them."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        """`secrets` by name.

        :raises ValueError: one is too short to be told from chance.
        """
        self._forms: dict[bytes, dict[bytes, tuple[str, str]]] = {}
        self._heads = np.zeros(1 << 8 * _HEAD, dtype=bool)
        for name, secret in secrets.items():
            for form, pattern in forms(secret):
                if len(pattern) < _LEAST:
                    raise ValueError(f"{name}: {len(secret)} bytes are too few to look for")
                # Of forms that look alike, it is the first.
                alike = self._forms.setdefault(pattern[:_LEAST], {})
                alike.setdefault(pattern, (name, form))
                self._heads[_head(pattern)] = True
        self._longest = max((len(p) for group in self._forms.values() for p in group), default=0)

    def scan(self, place: str, data: bytes) -> set[Hit]:
        """Where, in what form: each once. Nothing of the secrets' bytes is in it."""
        found = set()
        for start in range(0, len(data), _CHUNK):
            piece = data[start : start + _CHUNK + self._longest]
            for position in self._candidates(piece):
                group = self._forms.get(piece[position : position + _LEAST], {})
                for pattern, (name, form) in group.items():
                    if piece.startswith(pattern, position):
                        found.add(Hit(name, form, place))
        return found

    def _candidates(self, data: bytes) -> Iterator[int]:
        if len(data) < _LEAST:
            return
        octets: NDArray[np.uint32] = np.frombuffer(data, dtype=np.uint8).astype(np.uint32)
        heads = octets[:-2] | octets[1:-1] << 8 | octets[2:] << 16
        yield from map(int, np.flatnonzero(self._heads[heads]))


def forms(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """All that a secret may look like, by name of the form."""
    texts = [
        ("hex", secret.hex().encode()),
        ("HEX", secret.hex().upper().encode()),
        *_base64(secret),
    ]
    yield "raw", secret
    yield "repr", repr(secret)[2:-1].encode()
    yield "escapes", "".join(f"\\x{octet:02x}" for octet in secret).encode()
    yield "numbers", ", ".join(map(str, secret)).encode()
    yield "numbers of Go", " ".join(map(str, secret)).encode()
    yield "spaced hex", secret.hex(" ").encode()
    yield from texts
    # As a Kubernetes Secret has a text.
    for form, text in texts:
        for outer, pattern in _base64(text):
            yield f"{form} in {outer}", pattern


def _base64(data: bytes) -> Iterator[tuple[str, bytes]]:
    for alignment in range(3):
        padded = bytes(alignment) + data
        # Whole characters that are of `data` alone: six bits each.
        span = slice(-(-8 * alignment // 6), 8 * len(padded) // 6)
        yield f"base64+{alignment}", b64encode(padded)[span]
        yield f"base64url+{alignment}", urlsafe_b64encode(padded)[span]


def clamped(private_key: bytes) -> bytes:
    """What a private key has in common with the random bytes that it was made of."""
    return private_key[1:-1]


def signature(token: str) -> bytes:
    """What of a bearer token is not to be guessed: a JWT's header and claims tell nothing."""
    return token.rpartition(".")[2].encode()


def scan_all(scanner: Scanner, places: Iterable[tuple[str, bytes]]) -> list[Hit]:
    """Of many places, sorted."""
    return sorted({hit for place, data in places for hit in scanner.scan(place, data)})


def _head(pattern: bytes) -> int:
    return int.from_bytes(pattern[:_HEAD], "little")
