"""Run a Python implementation whose data passes unencrypted: `nullcipher.py MODULE ARGUMENTS`.

Only to measure what is left of the cost without the cipher. Handshakes stay as they are; the
AEAD in place, which carries the data, leaves it alone. Never use it for anything else.
"""

import runpy
import sys

from cryptography.hazmat.primitives.ciphers import aead

_Real = aead.ChaCha20Poly1305


class _NullCipher:
    def __init__(self, key: bytes) -> None:
        real = _Real(key)
        self.encrypt, self.decrypt = real.encrypt, real.decrypt

    def encrypt_into(self, nonce: object, data: object, aad: object, out: memoryview) -> int:
        return len(out)

    def decrypt_into(self, nonce: object, data: object, aad: object, out: memoryview) -> int:
        return len(out)


if __name__ == "__main__":
    aead.ChaCha20Poly1305 = _NullCipher  # type: ignore[assignment]
    sys.argv[:2] = [sys.argv[1]]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
