"""Run a command as on a kernel before 4.18, which knows neither UDP_SEGMENT nor UDP_GRO.

A filter of system calls answers as such a kernel would, or one that lacks a call; children have
it as well.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from errno import ENOPROTOOPT, ENOSYS
from struct import pack

_CALLS = {
    "x86_64": {"setsockopt": 54, "getsockopt": 55, "recvmmsg": 299, "sendmmsg": 307},
    "aarch64": {"setsockopt": 208, "getsockopt": 209, "recvmmsg": 243, "sendmmsg": 269},
}[platform.machine()]
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER_MODE = 38, 22, 2
_IPPROTO_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104
# linux/bpf_common.h, linux/seccomp.h: load a word, jump if equal, return.
_LD, _JEQ, _RET = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# In struct seccomp_data: the call's number, its second and third argument.
_NUMBER, _LEVEL, _OPTION = 0, 24, 32


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def forget_offloads() -> None:
    """From now on. OSError."""
    _filter(
        (_LD, 0, 0, _NUMBER),
        (_JEQ, 1, 0, _CALLS["setsockopt"]),
        (_JEQ, 0, 5, _CALLS["getsockopt"]),
        (_LD, 0, 0, _LEVEL),
        (_JEQ, 0, 3, _IPPROTO_UDP),
        (_LD, 0, 0, _OPTION),
        (_JEQ, 2, 0, _UDP_SEGMENT),
        (_JEQ, 1, 0, _UDP_GRO),
        (_RET, 0, 0, _ALLOW),
        (_RET, 0, 0, _ERRNO | ENOPROTOOPT),
    )


def forget_call(name: str, error: int = ENOSYS) -> None:
    """From now on it fails with `error`. OSError."""
    _filter(
        (_LD, 0, 0, _NUMBER),
        (_JEQ, 1, 0, _CALLS[name]),
        (_RET, 0, 0, _ALLOW),
        (_RET, 0, 0, _ERRNO | error),
    )


def _filter(*code: tuple[int, int, int, int]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(code), b"".join(pack("=HBBI", *step) for step in code))
    for words in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*words):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    forget_offloads()
    os.execvp(sys.argv[1], sys.argv[1:])
