"""Two network namespaces joined by a wire, a daemon in each: what `wgpy demo` plays with.

Lab ── Node alice ── eth0 ══ veth ══ eth0 ── Node bob
          └ wgpy -f IFACE                      └ wgpy -f IFACE
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Self

from pyroute2 import IPRoute, netns

from wgpy.protocol.config import InterfaceChange, InterfaceStats, Secret
from wgpy.tools.errors import ToolError
from wgpy.tools.keys import generate_private_key, public_key
from wgpy.uapi import client
from wgpy.uapi.paths import is_live, socket_path

_WIRE = "eth0"
_PATIENCE = 10.0
_ETH_P_ALL = 3


class Node:
    """One namespace with a daemon, seen from inside the demo."""

    def __init__(self, name: str, number: int) -> None:
        # Unique on the machine: UAPI sockets are named after interfaces.
        self.namespace = f"wgpy-demo-{os.getpid()}-{name}"
        self.interface = f"demo{os.getpid()}{name[0]}"
        self.name = name
        self.outer = f"192.0.2.{number}"
        self.inner = f"10.66.0.{number}"
        self.private_key = Secret(generate_private_key())
        self.public_key = public_key(self.private_key)
        self.log: IO[bytes] | None = None
        self.daemon: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets made and processes started in this context live in the namespace."""
        netns.pushns(self.namespace)
        try:
            yield
        finally:
            netns.popns()

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.inside():
            return socket.socket(family, kind, protocol)

    def start_daemon(self, log: IO[bytes]) -> None:
        """`wgpy -f IFACE`. Raises ToolError if it does not come up."""
        self.log = log
        with self.inside():
            self.daemon = subprocess.Popen(
                [sys.executable, "-m", "wgpy", "-f", self.interface],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C is for the demo, which ends its daemons itself.
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Until the daemon answers. Raises ToolError with what it said."""

        def ready() -> bool:
            if self.daemon is not None and self.daemon.poll() is not None:
                raise ToolError(f"the daemon of {self.name} ended: {self._said()}")
            return is_live(socket_path(self.interface))

        wait_until(f"the daemon of {self.name} answers", ready)

    def _said(self) -> str:
        assert self.log is not None
        self.log.flush()
        return Path(self.log.name).read_text(errors="replace").strip() or "without a word"

    def configure(self, change: InterfaceChange) -> None:
        client.set(self.interface, change)

    def stats(self) -> InterfaceStats:
        return client.get(self.interface)

    def bring_up(self) -> None:
        """Give the tunnel its address."""
        with self.inside(), IPRoute() as ip:
            index = ip.link_lookup(ifname=self.interface)[0]
            ip.addr("add", index=index, address=self.inner, prefixlen=24)
            ip.link("set", index=index, state="up")

    def capture(self) -> socket.socket:
        """All frames of the wire, from now on."""
        sock = self.open_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        sock.bind((_WIRE, _ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.setblocking(False)
        return sock

    def stop(self) -> None:
        if self.daemon is None:
            return
        self.daemon.terminate()
        try:
            self.daemon.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()


class Lab:
    """Makes everything, and takes everything away again, whatever happens."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self.alice = Node("alice", 1)
        self.bob = Node("bob", 2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Nothing may interrupt this, or it would leave half of it behind.
        previous = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._stack.close()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def lay_wire(self) -> None:
        """Two namespaces, a veth pair, an address at each end."""
        nodes = (self.alice, self.bob)
        for node in nodes:
            netns.create(node.namespace)
            self._stack.callback(netns.remove, node.namespace)
        with self.alice.inside(), IPRoute() as ip:
            peer = {"ifname": _WIRE, "net_ns_fd": self.bob.namespace}
            ip.link("add", ifname=_WIRE, kind="veth", peer=peer)
        for node in nodes:
            with node.inside(), IPRoute() as ip:
                index = ip.link_lookup(ifname=_WIRE)[0]
                ip.addr("add", index=index, address=node.outer, prefixlen=24)
                ip.link("set", index=index, state="up")

    def start_daemons(self) -> None:
        """One in each namespace, both ready."""
        nodes = (self.alice, self.bob)
        for node in nodes:
            log = self._stack.enter_context((self._directory / f"{node.name}.log").open("wb"))
            self._stack.callback(node.stop)
            node.start_daemon(log)
        for node in nodes:
            node.wait_ready()


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    """Raises ToolError when it takes longer than ten seconds."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise ToolError(f"not within {_PATIENCE:.0f} s: {what}")
        time.sleep(0.01)
