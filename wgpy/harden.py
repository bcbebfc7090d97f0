"""Keep keys out of core dumps and out of reach of other processes' debuggers."""

import ctypes
import os
import resource

_PR_SET_DUMPABLE = 4


def harden() -> None:
    """No core dumps, no ptrace by others of the same user. Raises OSError."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_DUMPABLE): {os.strerror(number)}")
