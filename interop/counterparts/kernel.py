"""The kernel's own WireGuard, in a virtual machine that runs a Debian suite's stock kernel.

The whole scenario is played inside the guest, as it shares this machine's files:

    host ── qemu ── guest (kernel of the suite)
                      ├── namespace: wg interface of the kernel
                      └── namespace: daemon of the implementation under test
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from interop.cache import CannotFetch, debian_kernel
from interop.counterparts.base import Implementation, Running, Unavailable
from interop.netns import Namespace
from interop.shell import CommandFailed


class KernelInterface(Running):
    def __init__(self, interface: str, namespace: Namespace) -> None:
        self.interface = interface
        self.namespace = namespace

    def stop(self) -> None:
        with contextlib.suppress(CommandFailed):
            self.namespace.ip(f"link delete {self.interface}")

    crash = stop


class Kernel(Implementation):
    """The kernel of a Debian suite."""

    def __init__(self, suite: str) -> None:
        self.name = f"kernel-{suite}"
        self.suite = suite

    def files(self) -> tuple[Path, str]:
        """Where image and modules are, and the kernel's release.

        :raises Unavailable: they cannot be had.
        """
        try:
            return debian_kernel(self.suite)
        except CannotFetch as error:
            raise Unavailable(str(error)) from None

    def version(self) -> str:
        return self.files()[1]

    def start(self, interface: str, namespace: Namespace, log: Path) -> Running:
        """As in the guest; on a host without the module it fails."""
        namespace.ip(f"link add {interface} type wireguard")
        return KernelInterface(interface, namespace)
