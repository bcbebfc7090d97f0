"""All that a cluster of the tests has left where somebody could read it."""

from __future__ import annotations

import os
import stat
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

from agent.keys import LaneSecrets
from tests.cluster.api import Api
from tests.cluster.node import ACCOUNT, PRIVATE, Node
from tests.cluster.secretscan import clamped
from wgpy.protocol.config import Secret

Found = dict[str, bytes]

# Of a node, besides its own directories: what others may read, or outlives a process.
_SHARED = ("/dev/shm", "/etc", "/root", "/run", "/tmp", "/var/log", "/var/run", "/var/tmp")
_EVERY = 0.05


class Processes:
    """argv and environment of every process that is seen while the block runs."""

    def __init__(self) -> None:
        self.found: Found = {}
        self._seen: set[bytes] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Processes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            for what in ("cmdline", "environ"):
                try:
                    data = (process / what).read_bytes()
                except OSError:
                    continue  # it has ended
                if data and data not in self._seen:
                    self._seen.add(data)
                    self.found[f"{process}/{what} ({len(self._seen)})"] = data

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY):
            self.look()


def live_secrets(nodes: list[Node]) -> Iterator[tuple[bytes, str]]:
    """Private, box and preshared keys of the nodes' devices at this moment, with names.

    A device knows nothing of box keys: agents derive them, and the preshared keys from them.
    """
    for node in nodes:
        for line in node.run("wg", "show", "all", "dump").splitlines():
            words = line.split("\t")
            whose = f"of {node.name}'s {words[0]}"
            # Of a device: name, private key, public key, port, mark.
            is_device = len(words) == 5
            text = words[1] if is_device else words[2]
            if text == "(none)":
                continue
            key = b64decode(text)
            if is_device:
                yield clamped(key), f"a private key {whose}"
                yield bytes(LaneSecrets(Secret(key)).box_key), f"a box key {whose}"
            else:
                yield key, f"a PSK {whose}"


def node_files(node: Node, since: float) -> Iterator[tuple[str, bytes]]:
    """Regular files of a node that are new since then, but for its token, which tests put there."""
    for top in (*PRIVATE, *_SHARED):
        for name, data in files(node.path(top), since, depth=1 if top == "/tmp" else 99):
            if not name.endswith(f"{ACCOUNT}/token"):
                yield f"{node.name}:{name}", data


def open_files(pid: int) -> Iterator[tuple[str, bytes]]:
    """What a process has open and is a regular file, also one without a name any more."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if stat.S_ISREG(link.stat().st_mode):
                yield f"{link} -> {os.readlink(link)}", link.read_bytes()
        except FileNotFoundError:
            continue  # closed meanwhile


def files(top: Path, since: float, depth: int = 99) -> Iterator[tuple[str, bytes]]:
    """Regular files below `top` that were written since then (seconds of the wall clock)."""
    for directory, below, names in os.walk(top):
        # Namespaces, and what other tests have there.
        below[:] = [name for name in below if name not in ("netns", ".git")]
        if directory.count(os.sep) - os.fspath(top).count(os.sep) + 1 >= depth:
            below.clear()
        for name in names:
            path = Path(directory, name)
            try:
                told = path.lstat()
                if stat.S_ISREG(told.st_mode) and told.st_ctime >= since:
                    yield os.fspath(path), path.read_bytes()
            except FileNotFoundError:
                continue  # removed meanwhile


def api_objects(admin: Api) -> Iterator[tuple[str, bytes]]:
    """Every object of every kind that the API server lists, in JSON."""
    versions = [f"/api/{version}" for version in admin.get("/api")["versions"]]
    for group in admin.get("/apis")["groups"]:
        versions += [f"/apis/{version['groupVersion']}" for version in group["versions"]]
    for root in versions:
        for resource in admin.get(root)["resources"]:
            if "list" in resource["verbs"]:
                path = f"{root}/{resource['name']}"
                yield path, admin.text(path).encode()


def modes(node: Node, top: str) -> dict[str, int]:
    """Permissions of all that is in a directory of a node, but for other directories."""
    entries = [path for path in node.path(top).rglob("*") if not path.is_dir()]
    return {str(path): stat.S_IMODE(path.lstat().st_mode) for path in entries}


def core_limit(pid: int) -> str:
    """The soft and the hard limit of a core dump's size."""
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max core file size"):
            return " ".join(line.split()[4:6])
    raise AssertionError(f"process {pid} has no limits")
