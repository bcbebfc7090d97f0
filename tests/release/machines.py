"""A Debian system that systemd has booted, in a container of systemd-nspawn.

The container has a network and a cgroup hierarchy of its own, this machine's kernel, and
/dev/net/tun.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from interop import cache
from interop.shell import wait_until
from tests.release.roots import Root

# What `root` must have besides, to be booted.
PACKAGES = ("systemd-sysv", "dbus")
_PATIENCE = 120.0
# No manager of containers here need know of it. Controls for devices are BPF programs.
_NSPAWN = (
    "systemd-nspawn --quiet --boot --register=no --keep-unit --private-network"
    " --bind=/dev/net/tun --capability=CAP_BPF --system-call-filter=bpf"
)


class Machine:
    """Such a system, as long as it runs."""

    def __init__(self, nspawn: subprocess.Popen[bytes], console: Path) -> None:
        self._nspawn = nspawn
        self._console = console
        self._leader = 0

    def wait_booted(self) -> None:
        """:raises AssertionError: it does not come up."""
        wait_until("a first process", self._find_leader, _PATIENCE)
        wait_until("systemd has started all units", self._is_booted, _PATIENCE, every=0.5)

    def _find_leader(self) -> bool:
        assert self._nspawn.poll() is None, self._console.read_text(errors="replace")
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._leader = int(children[0]) if children else 0
        return bool(children)

    def _is_booted(self) -> bool:
        return self.run("systemctl is-system-running").stdout.strip() in ("running", "degraded")

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script inside, as its root; how that ended."""
        enter = f"nsenter -t {self._leader} -m -u -i -n -p -C -r -w env -i".split()
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return subprocess.run(
            [*enter, path, "sh", "-euc", script],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_PATIENCE,
            check=False,
        )

    def say(self, script: str) -> str:
        """What a script says.

        :raises AssertionError: it failed.
        """
        done = self.run(script)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@contextlib.contextmanager
def booted(root: Root, console: Path) -> Iterator[Machine]:
    """Boot the system, and shut it down in the end; the file has what its console says."""
    cache.need({"systemd-nspawn": "systemd-container"})
    command = [*_NSPAWN.split(), f"--directory={root.path}"]
    environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    with console.open("wb") as log:
        nspawn = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    try:
        machine = Machine(nspawn, console)
        machine.wait_booted()
        yield machine
    finally:
        # An orderly shutdown; a second one would be a kill.
        nspawn.send_signal(signal.SIGTERM)
        try:
            nspawn.wait(_PATIENCE)
        finally:
            nspawn.kill()
