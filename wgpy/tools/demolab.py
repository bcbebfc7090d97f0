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
from typing import IO

from pyroute2 import IPRoute, netns

from wgpy.protocol.config import InterfaceChange, InterfaceStats, Secret
from wgpy.tools.errors import ToolError
from wgpy.tools.keys import generate_private_key, public_key
from wgpy.uapi import client
from wgpy.uapi.paths import is_live, socket_path

WIRE = "eth0"
_PATIENCE = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
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

    def capture(self, device: str) -> socket.socket:
        """All frames of a device from now on; those of a tunnel begin with the IP header."""
        sock = self.open_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((device, _ETH_P_ALL))
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

    def close(self) -> None:
        """Daemons, then namespaces, and all links with them; may be called again."""
        ignore_signals()
        self._stack.close()

    def lay_wire(self) -> None:
        """Two namespaces, a veth pair, an address at each end."""
        nodes = (self.alice, self.bob)
        for node in nodes:
            with _uninterrupted():
                netns.create(node.namespace)
                self._stack.callback(netns.remove, node.namespace)
        with self.alice.inside(), IPRoute() as ip:
            peer = {"ifname": WIRE, "net_ns_fd": self.bob.namespace}
            ip.link("add", ifname=WIRE, kind="veth", peer=peer)
        for node in nodes:
            with node.inside(), IPRoute() as ip:
                index = ip.link_lookup(ifname=WIRE)[0]
                ip.addr("add", index=index, address=node.outer, prefixlen=24)
                ip.link("set", index=index, state="up")

    def start_daemons(self) -> None:
        """One in each namespace, both ready."""
        nodes = (self.alice, self.bob)
        for node in nodes:
            log = self._stack.enter_context((self._directory / f"{node.name}.log").open("wb"))
            with _uninterrupted():
                self._stack.callback(node.stop)
                node.start_daemon(log)
        for node in nodes:
            node.wait_ready()


def ignore_signals() -> None:
    """From now on; for what must not be left half done."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is made inside has its end arranged; a signal that comes meanwhile acts afterwards.

    Not by a mask and not by SIG_IGN: a daemon that is started inside would inherit those.
    """
    came: list[int] = []
    previous = {n: signal.signal(n, lambda number, _: came.append(number)) for n in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    """Raises ToolError when it takes longer than ten seconds."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise ToolError(f"not within {_PATIENCE:.0f} s: {what}")
        time.sleep(0.01)
