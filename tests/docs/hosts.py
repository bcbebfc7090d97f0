"""Two hosts for the commands of a page: what they change is gone when the page has ended.

    alpha ── 192.0.2.1 ── wire ── 192.0.2.2 ── beta

Each is a network, process and mount namespace; /etc, the checkout and what runs are its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from interop.shell import run, wait_until
from tests.docs.pages import HOSTS, ROOT

_PATIENCE = 60.0
# Where wgpy is.
_INSTALLED = Path(sys.executable).parent
# $1: scratch directory, $2: name, $3: the checkout.
_SET_UP = """
set -eu
mount --make-rprivate /
mkdir -p /run/wireguard "$1"
mount -t tmpfs tmpfs "$1"
cd "$1"
own() {
    mkdir "upper-$1" "work-$1"
    mount -t overlay overlay -o "lowerdir=$2,upperdir=$PWD/upper-$1,workdir=$PWD/work-$1" "$3"
}
mkdir -m 700 wgpy home outbox bin
cat > bin/scp <<'END'
#!/bin/sh -eu
# scp FILE HOST:PATH, as far as the pages use it; the test carries the outbox over.
box="${0%/bin/scp}/outbox/${2%%:*}${2#*:}"
mkdir -p "${box%/*}"
cp -p "$1" "$box"
END
chmod +x bin/scp
own etc /etc /etc
own checkout "$3" wgpy
mount -t tmpfs tmpfs /run/wireguard
mkdir -p /etc/wireguard
printf '192.0.2.1 alpha\\n192.0.2.2 beta\\n' >> /etc/hosts
hostname "$2"
ip link set lo up
echo ready
exec sleep infinity
"""


class Host:
    """Ends with all its processes when closed."""

    def __init__(self, name: str, directory: Path) -> None:
        self._place = directory / name
        self.pid = 0
        separate = ["unshare", "-m", "-n", "-p", "-u", "--fork", "--kill-child", "--mount-proc"]
        self._outer = subprocess.Popen(
            [*separate, "sh", "-c", _SET_UP, "sh", str(self._place), name, str(ROOT)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._outer.stdout is not None
        said = self._outer.stdout.readline()
        if said != b"ready\n":
            self.close()
            raise RuntimeError(f"host {name}: {said!r}")
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text()
        self.pid = int(children)

    def bash(self, script: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a script as a user would who has installed wgpy, in the checkout."""
        enter = f"nsenter -t {self.pid} -m -n -p -u env -C {self._place}/wgpy".split()
        # No variables but these: what a page needs it must say.
        environment = {
            "HOME": f"{self._place}/home",
            "PATH": f"{self._place}/bin:{_INSTALLED}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
        }
        return subprocess.run(
            [*enter, "bash", "-euo", "pipefail", "-c", script],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            env=environment,
            check=False,
        )

    def root(self, path: Path) -> Path:
        """A path of this host, seen from outside."""
        return Path(f"/proc/{self.pid}/root{path}")

    def outbox(self, to: str) -> Path:
        """What was copied to another host."""
        return self.root(self._place / "outbox" / to)

    def close(self) -> None:
        if self.pid:
            # The first process of a namespace ends all others.
            os.kill(self.pid, signal.SIGKILL)
        else:
            self._outer.kill()
        self._outer.wait(_PATIENCE)


def deliver(hosts: dict[str, Host]) -> None:
    """Carry over what was copied from host to host."""
    for sender in hosts.values():
        for name, receiver in hosts.items():
            box = sender.outbox(name)
            if box.exists():
                shutil.copytree(box, receiver.root(Path("/")), dirs_exist_ok=True)
                shutil.rmtree(box)


@contextlib.contextmanager
def two_hosts(directory: Path) -> Iterator[dict[str, Host]]:
    """Both, with a wire between them."""
    with contextlib.ExitStack() as stack:
        hosts = {}
        for name in HOSTS:
            hosts[name] = Host(name, directory)
            stack.callback(hosts[name].close)
        first, second = (hosts[name] for name in HOSTS)
        wire = f"ip link add eth0 netns {first.pid} type veth peer name eth0 netns {second.pid}"
        run(*wire.split())
        for number, host in enumerate(hosts.values(), 1):
            enter = f"nsenter -t {host.pid} -n".split()
            run(*enter, *f"ip address add 192.0.2.{number}/24 dev eth0".split())
            run(*enter, "ip", "link", "set", "eth0", "up")
        wait_until("the wire works", lambda: _reaches(first), _PATIENCE)
        yield hosts


def _reaches(host: Host) -> bool:
    return host.bash("ping -n -c 1 -W 1 beta >/dev/null").returncode == 0
