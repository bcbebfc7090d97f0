"""The file that tells the container runtime how pods of this node are attached.

bridge + host-local + portmap, from https://www.cni.dev: no program of ours runs for a pod.
"""

import json
import stat
from dataclasses import dataclass
from pathlib import Path

from agent.network.base import POD_BRIDGE, Report, explained
from agent.network.files import write_whole
from wgpy.protocol.config import Network

DIRECTORY = Path("/etc/cni/net.d")
FILE = "10-wgpy.conflist"
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


def conflist(desired: CniDesired) -> str:
    """The file's text."""
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
    whole = {"cniVersion": _VERSION, "name": "wgpy", "plugins": [bridge, portmap]}
    return json.dumps(whole, indent=2) + "\n"


class Cni:
    """The file in `directory`, which the node's runtime watches."""

    name = "cni"

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._path = directory / FILE

    def reconcile(self, desired: CniDesired) -> list[str]:
        report = Report()
        with report.step(str(self._path)):
            if not desired.pod_cidrs:
                if _read(self._path) is not None:
                    self._path.unlink()
                    report.changed.append(f"{self._path} is removed: this node has no pod CIDR")
                return report.end()
            wanted = (conflist(desired), _MODE)
            before = _read(self._path)
            if before != wanted:
                self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                write_whole(self._path, *wanted)
                was = "was missing" if before is None else "was another"
                report.changed.append(f"{self._path} is written, it {was}")
        return report.end()

    def preceded_by(self) -> list[str]:
        """Names of files that a runtime takes instead of ours: it takes the first. NetworkError."""
        directory = self._path.parent
        try:
            found = [path for path in directory.iterdir() if path.suffix in _READ]
        except OSError as error:
            raise explained(str(directory), error) from None
        return sorted(path.name for path in found if path.name < FILE)

    def remove(self) -> None:
        self.reconcile(CniDesired())


def _read(path: Path) -> tuple[str, int] | None:
    try:
        return path.read_text(errors="replace"), stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None
