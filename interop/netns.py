"""Network namespaces that are always cleaned up.

        Lab ── owns ──> Namespace "left" ── veth ── Namespace "right"
         │                     │                          │
         └ closes all, newest first: processes, then namespaces (links go with them)

Names start with `io` and the process id of the suite, so that `sweep()` can remove what
a suite that was killed left behind, and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import itertools
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from interop.shell import CommandFailed, run

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_setns_lock = threading.Lock()


class Namespace:
    """One network namespace, with processes that end no later than it does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._children: list[subprocess.Popen[bytes]] = []

    def run(self, *argv: str, stdin: str | None = None, timeout: float = 60) -> str:
        """As `shell.run`, inside."""
        return run("ip", "netns", "exec", self.name, *argv, stdin=stdin, timeout=timeout)

    def ip(self, words: str) -> str:
        """`ip -n NAME WORDS`."""
        return run("ip", "-n", self.name, *words.split())

    def sysctl(self, *settings: str) -> None:
        """Set kernel parameters, each `NAME=VALUE`."""
        self.run("sysctl", "-qw", *settings)

    def forward(self) -> None:
        """Become a router."""
        self.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    def start(
        self,
        *argv: str,
        output: IO[bytes],
        stdin: str = "",
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process inside; `ip netns exec` becomes it, so its pid is the command's own."""
        child = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *argv],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self._children.append(child)
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(stdin.encode())
        return child

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives inside; the calling thread stays where it is."""
        with _inside(self.name):
            return socket.socket(family, kind, protocol)

    def delete(self) -> None:
        """Take its name away: it lives on as long as a process or a socket is in it."""
        run("ip", "netns", "delete", self.name)

    def close(self) -> None:
        for child in self._children:
            stop(child)
        if Path("/run/netns", self.name).exists():
            self.delete()


def stop(child: subprocess.Popen[bytes], patience: float = 5) -> int:
    """End a process we started: SIGTERM, then SIGKILL. Returns its status."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait(patience)


@contextlib.contextmanager
def _inside(name: str) -> Iterator[None]:
    with _setns_lock, open("/proc/self/ns/net") as home, open(f"/run/netns/{name}") as there:
        _setns(there.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


class Lab(contextlib.ExitStack):
    """The namespaces and links of one run of one scenario; closing it removes them."""

    _numbers = itertools.count(1)

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        """Where logs and captures of this run go."""
        self._number = next(Lab._numbers)

    def namespace(self, name: str) -> Namespace:
        """A new namespace with its loopback up."""
        full = f"io{os.getpid()}-{self._number}-{name}"
        run("ip", "netns", "add", full)
        namespace = Namespace(full)
        self.callback(namespace.close)
        namespace.ip("link set lo up")
        # Else IPv6 stays silent for its first second.
        namespace.sysctl(*(f"net.ipv6.conf.{which}.accept_dad=0" for which in ("all", "default")))
        return namespace

    def interface_name(self, letter: str) -> str:
        """Unique on the machine, as UAPI sockets are named after interfaces."""
        return f"io{os.getpid()}{letter}{self._number}"

    def link(
        self, left: Namespace, right: Namespace, mtu: int = 1500, right_device: str = "eth0"
    ) -> None:
        """Join two namespaces by a veth pair, `eth0` on the left."""
        run(
            *f"ip link add eth0 mtu {mtu} netns {left.name} type veth".split(),
            *f"peer name {right_device} mtu {mtu} netns {right.name}".split(),
        )
        left.ip("link set eth0 up")
        right.ip(f"link set {right_device} up")

    def switch(self, *members: Namespace, mtu: int = 1500) -> Namespace:
        """Join any number of namespaces (`eth0` in each) by a bridge in one of its own."""
        switch = self.namespace("switch")
        switch.ip(f"link add br0 mtu {mtu} type bridge")
        switch.ip("link set br0 up")
        for number, member in enumerate(members):
            run(
                *f"ip link add eth0 mtu {mtu} netns {member.name} type veth".split(),
                *f"peer name port{number} mtu {mtu} netns {switch.name}".split(),
            )
            switch.ip(f"link set port{number} master br0 up")
            member.ip("link set eth0 up")
        return switch


def add_address(namespace: Namespace, device: str, address: str) -> None:
    """Add `address/prefix` so that it can be used at once (no duplicate-address detection)."""
    nodad = " nodad" if ipaddress.ip_interface(address).version == 6 else ""
    namespace.ip(f"address add {address} dev {device}{nodad}")


def sweep() -> None:
    """Remove namespaces of suites that no longer run."""
    for entry in Path("/run/netns").glob("io*-*"):
        owner = re.match(r"io(\d+)-", entry.name)
        if owner and not Path("/proc", owner[1]).exists():
            with contextlib.suppress(CommandFailed):
                run("ip", "netns", "delete", entry.name)
