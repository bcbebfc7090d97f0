"""Which planes this machine can run. Makes nothing, not even for a moment."""

import os
from pathlib import Path

from wgpy.dataplane import kernel
from wgpy.dataplane.base import Availability

_TUN = "/dev/net/tun"
_CAP_NET_ADMIN = 12


def probe() -> Availability:
    """What is available, with a reason for what is not."""
    if not _may_make_interfaces():
        reason = "making interfaces needs CAP_NET_ADMIN: run as root"
        return Availability(reason, reason)
    return Availability(_kernel_reason(), _userspace_reason())


def _may_make_interfaces() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> _CAP_NET_ADMIN & 1)
    return False


def _kernel_reason() -> str:
    try:
        return "" if kernel.has_module() else "this kernel has no wireguard module"
    except OSError as error:
        return f"the kernel cannot be asked: {error.strerror}"


def _userspace_reason() -> str:
    try:
        os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{_TUN} cannot be opened: {error.strerror}"
    return ""
