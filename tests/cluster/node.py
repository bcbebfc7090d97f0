"""A node: a network namespace with a mount namespace and a host name of its own.

One holder process keeps them; commands enter with nsenter. What a node keeps on disk is a tmpfs
that no other node sees; mounts of the machine (new namespaces in /run/netns) still show up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from interop.netns import Namespace, stop
from interop.shell import run

ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"
PRIVATE = (
    "/etc/cni/net.d",
    "/run/wgpy",
    "/run/wireguard",
    "/var/lib/cni",
    "/var/lib/wgpy",
    ACCOUNT,
)
"""Directories that each node has for itself, empty at first."""
_HOLD = """
set -e
for directory; do mkdir -p "$directory"; mount -t tmpfs -o mode=0755 tmpfs "$directory"; done
echo "$NODE" > /proc/sys/kernel/hostname
echo ready
exec cat >/dev/null
"""
_TROUBLE = "trouble"
_LOSS = """
table netdev trouble {{
  chain loss {{
    type filter hook ingress device "eth0" priority -500
    {which}counter drop
  }}
}}
"""


class Node:
    """A machine of the cluster, as its processes see it.

    :param name: of the Node object, and the host's.
    :param namespace: its network.
    """

    def __init__(self, name: str, namespace: Namespace) -> None:
        self.name = name
        self.namespace = namespace
        self._children: list[subprocess.Popen[bytes]] = []
        # It ends at the end of its input: with us at the latest.
        self._holder = subprocess.Popen(
            [
                *f"ip netns exec {namespace.name}".split(),
                *("unshare", "--mount", "--uts", "--propagation", "slave"),
                *("sh", "-c", _HOLD, "hold", *PRIVATE),
            ],
            env={**os.environ, "NODE": name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n", f"node {name} does not start"

    @property
    def pid(self) -> int:
        """Of a process that is in all its namespaces."""
        return self._holder.pid

    def run(self, *argv: str, stdin: str | None = None, timeout: float = 60) -> str:
        """What the command wrote; `CommandFailed` as of `interop.shell.run`."""
        return run(*self._enter(), *argv, stdin=stdin, timeout=timeout)

    def start(
        self, *argv: str, output: IO[bytes], environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """A process of the node; nsenter becomes it, so its pid is the command's own."""
        child = subprocess.Popen(
            [*self._enter(), *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self._children.append(child)
        return child

    def path(self, path: str) -> Path:
        """A file of the node, as this machine can open it."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def lose(self, percent: int) -> None:
        """Of what comes to this node from the underlay, at random; 0: a good network again.

        nftables does it, as not every kernel has netem.
        """
        self.run("nft", "add", "table", "netdev", _TROUBLE)
        self.run("nft", "delete", "table", "netdev", _TROUBLE)
        if percent:
            # 100 of 100 is no number below 100.
            which = f"numgen random mod 100 < {percent} " if percent < 100 else ""
            self.run("nft", "-f", "-", stdin=_LOSS.format(which=which))

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[None]:
        """Nothing comes from the underlay while the block runs."""
        self.lose(100)
        try:
            yield
        finally:
            self.lose(0)

    def pids(self) -> list[int]:
        """All its processes, whoever has started them."""
        inside = _mounts(self.pid)
        running = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
        return [pid for pid in running if pid != self.pid and _mounts(pid) == inside]

    def close(self) -> None:
        """End its processes, newest first, then its file system."""
        for child in reversed(self._children):
            stop(child)
        # What a child of ours that was killed has left behind.
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait(5)

    def _enter(self) -> tuple[str, ...]:
        return ("nsenter", "-t", str(self._holder.pid), "--mount", "--root", "--net", "--uts", "--")


def _mounts(pid: int) -> str:
    """The mount namespace of a process, empty if it has gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""
