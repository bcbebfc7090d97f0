"""What every data plane can do, and how it says that it cannot."""

import errno
import os
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from wgpy.protocol.config import InterfaceChange, InterfaceStats

Plane: TypeAlias = Literal["kernel", "userspace"]

# IFNAMSIZ - 1: what the kernel keeps of an interface's name.
_NAME_MAX = 15


class DataPlaneError(OSError):
    """An operation that failed: `errno` (positive), `strerror` what and where, `advice` what to do.

    `advice` is one sentence for the person at the terminal, empty when there is none to give.
    """

    def __init__(self, number: int, message: str, advice: str = "") -> None:
        super().__init__(number, message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}; {self.advice}" if self.advice else self.message


@dataclass(frozen=True, slots=True)
class Availability:
    """Which data planes this machine can run, and why not where it cannot."""

    # Why not, a sentence each; empty where the plane is available.
    kernel_reason: str = ""
    userspace_reason: str = ""

    @property
    def kernel(self) -> bool:
        return not self.kernel_reason

    @property
    def userspace(self) -> bool:
        return not self.userspace_reason

    @property
    def best(self) -> Plane | None:
        """The plane that `auto` stands for: the kernel's when it is there."""
        if self.kernel:
            return "kernel"
        return "userspace" if self.userspace else None


class DataPlane(Protocol):
    """A way to run WireGuard interfaces. All methods raise DataPlaneError only."""

    def names(self) -> list[str]:
        """Names of the interfaces that are alive, sorted."""

    def get(self, name: str) -> InterfaceStats:
        """What the interface tells; ENODEV when this plane has none of that name."""

    def set(self, name: str, change: InterfaceChange) -> None:
        """Apply `change`; ENODEV when this plane has no interface of that name."""

    def create(self, name: str) -> None:
        """Make an interface, ready to be configured; EEXIST when the name is taken."""

    def delete(self, name: str) -> None:
        """Remove the interface and whatever serves it; returns when it is gone."""


def check_name(name: str) -> None:
    """Refuse (DataPlaneError EINVAL) what cannot name an interface, before it becomes a path."""
    bad = not 0 < len(os.fsencode(name)) <= _NAME_MAX or name in (".", "..")
    if bad or any(c in "/:\0" or c.isspace() for c in name):
        raise DataPlaneError(
            errno.EINVAL,
            f"{name!r} is not an interface name",
            f"use 1 to {_NAME_MAX} characters without '/', ':' or space",
        )
