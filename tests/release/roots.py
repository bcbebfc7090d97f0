"""Debian systems with nothing but a Python in them, to install into.

They are made once, beside what the interop suite keeps; each test has a copy that it may spoil.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from interop import cache
from interop.shell import run

# The oldest Python that we take, that of the image, and the newest that Debian has.
SYSTEMS = {"3.11": "bookworm", "3.13": "trixie", "3.15": "sid"}
# A mirror may be a snapshot.
_APT = 'Acquire::Check-Valid-Until "false"'
_TIMEOUT = 900.0


class Root:
    """The root directory of such a system."""

    def __init__(self, path: Path, python: str) -> None:
        self.path = path
        self.python = f"python{python}"

    def run(self, script: str) -> str:
        """Run a shell script inside, in mount and network namespaces of its own; what it says.

        :raises AssertionError: it failed.
        """
        enter = (
            f"mount --rbind /dev {self.path}/dev && mount -t proc proc {self.path}/proc"
            f' && ip link set lo up && exec chroot {self.path} sh -euc "$1"'
        )
        done = subprocess.run(
            ["unshare", "-m", "-n", "-p", "--fork", "--kill-child", "sh", "-c", enter, "-", script],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            # As little of ours as can be.
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@contextlib.contextmanager
def root(python: str, directory: Path, *packages: str) -> Iterator[Root]:
    """A system that can be spoiled, with this Python, its venv module and what else is named."""
    made = _made(python, packages)
    copy = directory / f"root-{python}"
    run("cp", "-a", "--reflink=auto", str(made), str(copy), timeout=_TIMEOUT)
    try:
        yield Root(copy, python)
    finally:
        shutil.rmtree(copy)


def _made(python: str, more: tuple[str, ...]) -> Path:
    target = cache.directory() / "roots" / "+".join((python, *more))
    if not target.exists():
        cache.need({"mmdebstrap": "mmdebstrap"})
        unborn = target.with_name(f"{target.name}.new")
        shutil.rmtree(unborn, ignore_errors=True)
        unborn.parent.mkdir(parents=True, exist_ok=True)
        packages = (f"python{python}", f"python{python}-venv", "iproute2", *more)
        include = f"--include={','.join(packages)}"
        command = ["mmdebstrap", "--quiet", f"--aptopt={_APT}", "--variant=apt", include]
        run(*command, SYSTEMS[python], str(unborn), cache.mirror(), timeout=_TIMEOUT)
        unborn.rename(target)
    return target


def wheels(requirement: str, python: str, directory: Path) -> None:
    """Fetch what a requirement needs on another Python, so that no network is wanted inside."""
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    run(*fetch, "--python-version", python, "-d", str(directory), requirement, timeout=_TIMEOUT)
