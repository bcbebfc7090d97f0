"""Hosts for a TUN: network namespaces to work in."""

import contextlib
import ctypes
import os
import select
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from tun import Tun

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
ADDRESSES = {4: ("10.99.0.1", "10.99.0.2"), 6: ("fd99::1", "fd99::2")}


def ip(*arguments: str) -> str:
    argv = ["ip", *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


class Namespace:
    """A network namespace with a name, to work in."""

    def __init__(self, name: str) -> None:
        self.name = name
        ip("netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> str:
        return ip("-n", self.name, *arguments)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{self.name}") as there:
            assert _libc.setns(there.fileno(), _CLONE_NEWNET) == 0
            try:
                yield
            finally:
                assert _libc.setns(here.fileno(), _CLONE_NEWNET) == 0

    def counter(self, protocol: str, name: str) -> int:
        """One number of /proc/net/snmp."""
        with self.inside():
            lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith(f"{protocol}: "))
        return int(values[names.index(name)])

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


@contextlib.contextmanager
def two_namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    made: list[Namespace] = []
    try:
        for side in "lr":
            made.append(Namespace(f"tt{os.getpid()}{side}"))
        yield made[0], made[1]
    finally:
        for namespace in made:
            namespace.remove()


def open_tun(namespace: Namespace, side: int, *, offloads: bool = True, mtu: int = 1420) -> Tun:
    """An interface that is up and has its addresses."""
    with namespace.inside():
        tun = Tun.open("tt%d", offloads=offloads)
    configure(namespace, tun, side, mtu)
    return tun


def configure(namespace: Namespace, tun: Tun, side: int, mtu: int = 1420) -> None:
    """Bring it up, with its addresses."""
    namespace.ip("link", "set", tun.name, "mtu", str(mtu), "up")
    namespace.ip("address", "add", f"{ADDRESSES[4][side]}/24", "dev", tun.name)
    namespace.ip("address", "add", f"{ADDRESSES[6][side]}/64", "dev", tun.name, "nodad")


class Mover:
    """Moves what comes from TUNs, in a thread, until it is left; then the TUNs are closed."""

    def __init__(self, tuns: Sequence[Tun]) -> None:
        self._tuns = {tun.fd: tun for tun in tuns}
        self._errors: list[BaseException] = []
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._run)

    def move(self, source: Tun) -> None:
        """What has come; the test fails with what it raises."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stopper)
        self._thread.join()
        os.close(self._stop)
        for tun in self._tuns.values():
            tun.close()
        assert not self._errors

    def _run(self) -> None:
        try:
            while True:
                ready, _, _ = select.select([*self._tuns, self._stop], [], [])
                if self._stop in ready:
                    return
                for fd in ready:
                    self.move(self._tuns[fd])
        except BaseException as error:
            self._errors.append(error)
