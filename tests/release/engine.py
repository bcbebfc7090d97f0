"""Podman, with all that it keeps in one directory; the base image comes from no registry."""

from __future__ import annotations

from pathlib import Path

from interop import cache
from interop.shell import run

_PATIENCE = 1800.0
# Limits that nobody has to raise, which root of a container may not do; and a runtime that takes
# cgroups however they are mounted.
_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
tmp_dir = "{directory}/tmp"
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{directory}/graph"
runroot = "{directory}/run"
"""


class Engine:
    """One whose images and containers are gone with the directory."""

    def __init__(self, directory: Path) -> None:
        cache.need({"podman": "podman", "runc": "runc"})
        files = {
            "CONTAINERS_CONF": _CONTAINERS.format(directory=directory),
            "CONTAINERS_STORAGE_CONF": _STORAGE.format(directory=directory),
        }
        # Steps of a build have this machine's network.
        self.environment = {"BUILDAH_ISOLATION": "chroot"}
        self._graph = directory / "graph"
        for variable, text in files.items():
            path = directory / f"{variable.lower()}.toml"
            path.write_text(text)
            self.environment[variable] = str(path)

    def take(self, root: Path, name: str) -> None:
        """Make an image of this name of a root directory."""
        self.run(f"tar -C {root} -c . | podman import - {name}")

    def run(self, script: str) -> str:
        """What a script says in which podman is this one.

        :raises CommandFailed: it failed.
        """
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return run("env", *variables, "sh", "-euc", script, timeout=_PATIENCE)

    def close(self) -> None:
        self.run("podman rm --all --force && podman rmi --all --force")
        # Podman mounts it on itself, and may have left it so.
        self.run(f"! mountpoint -q {self._graph}/overlay || umount {self._graph}/overlay")
