"""The commands genkey, genpsk and pubkey."""

import os
import stat
import sys

from wgpy.tools.errors import ToolError
from wgpy.tools.keys import (
    generate_preshared_key,
    generate_private_key,
    key_text,
    parse_key_text,
    public_key,
)


def genkey() -> None:
    """Print a new private key."""
    _warn_world_readable()
    print(key_text(generate_private_key()))


def genpsk() -> None:
    """Print a new preshared key."""
    _warn_world_readable()
    print(key_text(generate_preshared_key()))


def pubkey() -> None:
    """Print the public key of the private key on standard input."""
    try:
        private_key = parse_key_text(sys.stdin.buffer.read().decode("ascii"))
    except ValueError as error:
        found = "binary data" if isinstance(error, UnicodeDecodeError) else error
        raise ToolError(f"standard input: {found}; give a private key as of wgpy genkey") from None
    print(key_text(public_key(private_key)))


def _warn_world_readable() -> None:
    status = os.fstat(sys.stdout.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IRWXO:
        print(
            "wgpy: warning: writing to a world accessible file; set the umask to 077 first",
            file=sys.stderr,
        )
