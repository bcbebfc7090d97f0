"""WireGuard interfaces of this machine, whichever data plane runs them.

Two planes: the kernel's module and a userspace daemon spoken to over its UAPI socket. Every
function raises DataPlaneError only.
"""

from typing import Literal

from wgpy.dataplane.base import Availability, DataPlane, DataPlaneError, Plane
from wgpy.protocol.config import InterfaceChange, InterfaceStats

__all__ = [
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


def list_interfaces() -> list[str]:
    """Names of all live WireGuard interfaces, kernel's and userspace, sorted."""
    raise NotImplementedError


def get_interface(name: str) -> InterfaceStats:
    """What interface `name` tells. ENODEV: no such WireGuard interface."""
    raise NotImplementedError


def set_interface(name: str, change: InterfaceChange) -> None:
    """Apply `change` to interface `name`. ENODEV: no such WireGuard interface."""
    raise NotImplementedError


def create_interface(name: str, plane: Literal["auto", "kernel", "userspace"] = "auto") -> Plane:
    """Make interface `name` and return the plane it runs on.

    `auto` takes the kernel's plane when there is one. EEXIST: the name is taken; EOPNOTSUPP:
    the plane is not available here.
    """
    raise NotImplementedError


def delete_interface(name: str) -> None:
    """Remove interface `name` and its daemon, if it has one. ENODEV: no such interface."""
    raise NotImplementedError


def probe() -> Availability:
    """Which planes this machine can run. EPERM: not allowed to ask (needs CAP_NET_ADMIN)."""
    raise NotImplementedError
