"""WireGuard interfaces of this machine, whichever data plane runs them.

Two planes: the kernel's module and userspace daemons spoken to over their UAPI sockets. All
functions block, and raise DataPlaneError only.
"""

from errno import EEXIST, ENODEV, EOPNOTSUPP
from typing import Literal

from wgpy.dataplane.base import Availability, DataPlane, DataPlaneError, Plane
from wgpy.dataplane.kernel import KernelPlane
from wgpy.dataplane.probe import probe
from wgpy.dataplane.userspace import UserspacePlane
from wgpy.protocol.config import InterfaceChange, InterfaceStats
from wgpy.uapi import client

__all__ = [
    "PATIENCE",
    "Availability",
    "DataPlane",
    "DataPlaneError",
    "Plane",
    "create_interface",
    "delete_interface",
    "get_interface",
    "list_interfaces",
    "probe",
    "set_interface",
]

# Seconds that a daemon may take to answer. One that configures 10,000 peers computes for some.
PATIENCE = client.TIMEOUT
_KERNEL = KernelPlane()
_USERSPACE = UserspacePlane()


def list_interfaces() -> list[str]:
    """Names of all live WireGuard interfaces, kernel's and userspace, sorted."""
    return sorted({*_KERNEL.names(), *_USERSPACE.names()})


def get_interface(name: str, patience: float = PATIENCE) -> InterfaceStats:
    """What interface `name` tells. ENODEV: no such WireGuard interface.

    ETIMEDOUT: its daemon has not answered within `patience` seconds, or EAGAIN: it has not even
    come to those who asked before.
    """
    plane = _plane_of(name)
    if isinstance(plane, UserspacePlane):
        return plane.get(name, patience)
    return plane.get(name)


def set_interface(name: str, change: InterfaceChange, patience: float = PATIENCE) -> None:
    """Apply `change` to interface `name`. Errors are as for `get_interface`."""
    plane = _plane_of(name)
    if isinstance(plane, UserspacePlane):
        plane.set(name, change, patience)
    else:
        plane.set(name, change)


def create_interface(name: str, plane: Literal["auto", "kernel", "userspace"] = "auto") -> Plane:
    """Make interface `name` and return the plane it runs on.

    `auto` takes the kernel's plane when there is one. EEXIST: the name is taken; EOPNOTSUPP:
    the plane is not available here.
    """
    available = probe()
    chosen = available.best if plane == "auto" else plane
    if chosen is None:
        reasons = f"{available.kernel_reason}; {available.userspace_reason}"
        raise DataPlaneError(EOPNOTSUPP, f"{name}: no data plane is available: {reasons}")
    reason = available.kernel_reason if chosen == "kernel" else available.userspace_reason
    if reason:
        raise DataPlaneError(EOPNOTSUPP, f"{name}: no {chosen} plane: {reason}")
    if _USERSPACE.has(name):
        raise DataPlaneError(EEXIST, f"{name}: an interface of this name exists")
    (_KERNEL if chosen == "kernel" else _USERSPACE).create(name)
    return chosen


def delete_interface(name: str) -> None:
    """Remove interface `name` and its daemon, if it has one. ENODEV: no such interface."""
    _plane_of(name).delete(name)


def _plane_of(name: str) -> DataPlane:
    """A daemon's socket decides; as for wg(8), it comes before the kernel's link."""
    if _USERSPACE.has(name):
        return _USERSPACE
    if name in _KERNEL.names():
        return _KERNEL
    raise DataPlaneError(
        ENODEV,
        f"{name}: no such WireGuard interface",
        "make it with `wgpy up` or `ip link add type wireguard`",
    )
