"""Run a command as on a kernel before 4.18, which knows neither UDP_SEGMENT nor UDP_GRO.

A filter of system calls answers as such a kernel would; children have it as well.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from errno import ENOPROTOOPT
from struct import pack

# By machine: the numbers of setsockopt and getsockopt.
_CALLS = {"x86_64": (54, 55), "aarch64": (208, 209)}
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
    setsockopt, getsockopt = _CALLS[platform.machine()]
    code = [
        pack("=HBBI", _LD, 0, 0, _NUMBER),
        pack("=HBBI", _JEQ, 1, 0, setsockopt),
        pack("=HBBI", _JEQ, 0, 5, getsockopt),
        pack("=HBBI", _LD, 0, 0, _LEVEL),
        pack("=HBBI", _JEQ, 0, 3, _IPPROTO_UDP),
        pack("=HBBI", _LD, 0, 0, _OPTION),
        pack("=HBBI", _JEQ, 2, 0, _UDP_SEGMENT),
        pack("=HBBI", _JEQ, 1, 0, _UDP_GRO),
        pack("=HBBI", _RET, 0, 0, _ALLOW),
        pack("=HBBI", _RET, 0, 0, _ERRNO | ENOPROTOOPT),
    ]
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(code), b"".join(code))
    for words in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*words):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    forget_offloads()
    os.execvp(sys.argv[1], sys.argv[1:])
