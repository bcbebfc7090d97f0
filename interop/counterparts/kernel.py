"""The kernel's own WireGuard, where there is one: `ip link add NAME type wireguard`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from interop.counterparts.base import Implementation, Running, Unavailable
from interop.netns import Namespace
from interop.shell import CommandFailed, run


class KernelInterface(Running):
    def __init__(self, interface: str, namespace: Namespace) -> None:
        self.interface = interface
        self.namespace = namespace

    def stop(self) -> None:
        with contextlib.suppress(CommandFailed):
            self.namespace.ip(f"link delete {self.interface}")

    crash = stop


class Kernel(Implementation):
    """The WireGuard of the running kernel."""

    name = "kernel"

    def version(self) -> str:
        try:
            run("modprobe", "wireguard")
        except CommandFailed as error:
            raise Unavailable(f"this kernel has no WireGuard ({error})") from None
        return os.uname().release

    def start(self, interface: str, namespace: Namespace, log: Path) -> Running:
        namespace.ip(f"link add {interface} type wireguard")
        return KernelInterface(interface, namespace)
