"""The file that tells the container runtime how pods of this node are attached.

bridge + host-local + portmap, from https://www.cni.dev: no program of ours runs for a pod. What
others have chained after them stays: a service mesh's plugin adds itself to the runtime's file.

In the runtime's directory is only a link to it. That directory survives a reboot, and what keeps
pods' packets from leaving in the clear does not: until the agent has made that again, the link
leads nowhere, and the runtime says that it has no network yet.
"""

import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.network.base import POD_BRIDGE, Report, explained
from agent.network.files import link_whole, write_whole
from wgpy.protocol.config import Network

Json = dict[str, Any]

DIRECTORY = Path("/etc/cni/net.d")
FILE = "10-wgpy.conflist"
# Gone after a reboot.
STATE = Path("/run/wgpy")
# The oldest that has everything we say: any runtime in use reads it.
_VERSION = "0.4.0"
# The runtime is root; nobody else needs to know.
_MODE = 0o600
# What a runtime reads in the directory.
_READ = (".conf", ".conflist", ".json")
_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True, slots=True)
class CniDesired:
    """How pods are attached. No pod CIDR: not at all, and the file is absent."""

    pod_cidrs: tuple[Network, ...] = ()
    # Bytes, of the pods' interfaces and their bridge.
    mtu: int = 1420


def conflist(desired: CniDesired, chained: tuple[Json, ...] = ()) -> str:
    """The file's text; `chained` are plugins of others, which come after ours."""
    bridge = {
        "type": "bridge",
        "bridge": POD_BRIDGE,
        "mtu": desired.mtu,
        "isGateway": True,
        # A pod may reach itself by the address of its service.
        "hairpinMode": True,
        # The agent's firewall does it, and knows better when.
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": str(cidr)}] for cidr in desired.pod_cidrs],
            "routes": [{"dst": _ANYWHERE[cidr.version]} for cidr in desired.pod_cidrs],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    whole = {"cniVersion": _VERSION, "name": "wgpy", "plugins": [bridge, portmap, *chained]}
    return json.dumps(whole, indent=2) + "\n"


def chained_plugins(text: str) -> tuple[Json, ...]:
    """Those of others in a file that was ours; none in what is something else."""
    try:
        first, *others = json.loads(text)["plugins"]
        if first["type"] != "bridge" or first["bridge"] != POD_BRIDGE:
            return ()
        return tuple(plugin for plugin in others if plugin["type"] not in ("bridge", "portmap"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()


class Cni:
    """The file in `state`, and the link to it in `directory`, which the node's runtime watches."""

    name = "cni"

    def __init__(self, directory: Path = DIRECTORY, state: Path = STATE) -> None:
        self._link = directory / FILE
        self._path = state / FILE

    def reconcile(self, desired: CniDesired) -> list[str]:
        report = Report()
        with report.step(str(self._link)):
            before = self._read()
            if not desired.pod_cidrs:
                self._link.unlink(missing_ok=True)
                self._path.unlink(missing_ok=True)
                if before is not None:
                    report.changed.append(f"{self._link} is removed: this node has no pod CIDR")
                return report.end()
            wanted = (conflist(desired, chained_plugins(self._text())), _MODE)
            if before != wanted:
                for path in (self._path, self._link):
                    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                write_whole(self._path, *wanted)
                # Anew each time: the runtime looks when something happens in its directory.
                link_whole(self._link, self._path)
                was = "was missing" if before is None else "was another"
                report.changed.append(f"{self._link} is written, it {was}")
        return report.end()

    def _read(self) -> tuple[str, int] | None:
        """Text and mode, None if there is nothing; what is no link of ours has another text."""
        if not self._link.is_symlink():
            return ("", 0) if self._link.exists() else None
        if self._link.readlink() != self._path:
            return "", 0
        try:
            return self._path.read_text(errors="replace"), stat.S_IMODE(self._path.stat().st_mode)
        except FileNotFoundError:
            return None

    def _text(self) -> str:
        """What a runtime reads, whoever has written it; empty if there is nothing."""
        try:
            return self._link.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def preceded_by(self) -> list[str]:
        """Names of files that a runtime takes instead of ours: it takes the first. NetworkError."""
        directory = self._link.parent
        try:
            found = [path for path in directory.iterdir() if path.suffix in _READ]
        except OSError as error:
            raise explained(str(directory), error) from None
        return sorted(path.name for path in found if path.name < FILE)

    def remove(self) -> None:
        self.reconcile(CniDesired())
