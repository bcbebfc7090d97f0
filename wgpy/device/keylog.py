"""The keys of every handshake in a file, for a dissector that is to read a capture of it.

The format is that of Wireshark's preference `wg.keylog_file`. Whoever has the file can read all
traffic of the sessions in it, and speak in the name of this interface.
"""

import logging
import os
import stat
from base64 import b64encode

from wgpy.protocol.config import ZERO_KEY, Secret
from wgpy.protocol.shared import HandshakeSecrets

_log = logging.getLogger("wgpy.device")


class KeyLog:
    """An open key log, that only its owner can read; what is in it already stays."""

    def __init__(self, path: str) -> None:
        """Raises OSError, and ValueError where others may read the file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077 or found.st_uid != os.geteuid():
            os.close(self._fd)
            raise ValueError(f"key log {path}: must be a file of ours that nobody else can open")
        _log.warning("ALL KEYS of this interface are written to %s: traffic is not secret", path)

    def write(self, secrets: HandshakeSecrets) -> None:
        """Add one handshake. A full disk ends the log, not the interface."""
        if self._fd < 0:
            return
        try:
            os.write(self._fd, lines(secrets))
        except OSError as error:
            _log.warning("the key log ends here: %s", error)
            self.close()

    def close(self) -> None:
        """May be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def lines(secrets: HandshakeSecrets) -> bytes:
    """A handshake in that format: a preshared key belongs to the ephemeral key before it."""
    text = static_line(secrets.local_static)
    text += _line("REMOTE_STATIC_PUBLIC_KEY", secrets.remote_static)
    text += _line("LOCAL_EPHEMERAL_PRIVATE_KEY", secrets.ephemeral)
    if secrets.preshared_key != ZERO_KEY:
        text += _line("PRESHARED_KEY", secrets.preshared_key)
    return text


def static_line(key: Secret) -> bytes:
    """The private key of an interface, with which the initiations of others can be read."""
    return _line("LOCAL_STATIC_PRIVATE_KEY", key)


def _line(name: str, key: bytes) -> bytes:
    return f"{name} = {b64encode(key).decode()}\n".encode()
