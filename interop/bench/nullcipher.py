"""Run wgpy so that its data passes unencrypted: `nullcipher.py MODULE ARGUMENTS`.

Only to measure what is left of the cost without the cipher. Handshakes stay as they are; the AEAD
of lone packets leaves these alone, and so does what seals and opens a batch. Never use it for
anything else.
"""

import importlib
import runpy
import sys


class _NoCipher:
    """In place of the AEAD of a session."""

    def __init__(self, key: bytes) -> None: ...

    def encrypt_into(self, nonce: object, data: object, aad: object, out: memoryview) -> int:
        return len(out)

    decrypt_into = encrypt_into


class _NoRowCipher:
    """In place of the multi-buffer library: one call for a batch, that does nothing."""

    def seal(self, keypair: object, layout: object, count: int, last_size: int) -> None: ...

    def open(self, keypair: object, layout: object, count: int, last_size: int) -> list[int]:
        return []


def disarm(package: str) -> None:
    """Take the cipher away from a package that is laid out as wgpy is, for sessions to come."""
    # By name, as the suite knows implementations only from outside.
    keypair = importlib.import_module(f"{package}.protocol.keypair")
    multibuffer = importlib.import_module(f"{package}.protocol.multibuffer")
    vars(keypair)["ChaCha20Poly1305"] = _NoCipher
    vars(multibuffer)["load"] = _NoRowCipher


if __name__ == "__main__":
    sys.argv[:2] = [sys.argv[1]]
    disarm(sys.argv[0])
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
