"""Keys made by `wg`, as text; they never appear in an argument list."""

from __future__ import annotations

from dataclasses import dataclass, field

from interop.shell import run


@dataclass(frozen=True)
class KeyPair:
    """A key pair in base64."""

    private: str = field(repr=False)
    public: str


def new_key_pair() -> KeyPair:
    private = run("wg", "genkey").strip()
    return KeyPair(private, run("wg", "pubkey", stdin=private).strip())


def new_preshared_key() -> str:
    return run("wg", "genpsk").strip()
