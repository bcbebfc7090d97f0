"""Leave the terminal, but tell it first whether the start went well."""

import os
import sys

_READY = b"ready"
_REPORT_LIMIT = 64 * 1024


class Parent:
    """The waiting process, seen from its child."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def ready(self) -> None:
        """Let the parent exit with status 0."""
        os.write(self._pipe, _READY)
        os.close(self._pipe)


def fork() -> Parent:
    """Go on in a child of its own session; returns only there.

    The parent stays until the child is ready, or has ended, and exits with 0 or 1. What the child
    wrote to its standard error until then was seen by the user.
    """
    receiving, sending = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(sending)
        # End of file without a word: the child ended, and it has said why.
        ready = os.read(receiving, _REPORT_LIMIT) == _READY
        os._exit(0 if ready else 1)
    os.close(receiving)
    os.setsid()
    return Parent(sending)


def leave_terminal(keep_output: bool) -> None:
    """Standard input, and unless kept output and errors too, become /dev/null."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0,) if keep_output else (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
