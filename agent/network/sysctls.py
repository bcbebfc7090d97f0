"""Settings of the kernel below /proc/sys/net.

What they were before us is kept in a file, so that `remove` works after any number of restarts.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.network.base import POD_BRIDGE, NetworkError, Report
from agent.network.files import write_whole
from agent.network.rtnetlink import present_families

_log = logging.getLogger(__name__)

PROC_SYS = Path("/proc/sys")
STATE = Path("/run/wgpy/sysctls.json")
_FORWARDING_4 = "net/ipv4/ip_forward"
_FORWARDING_6 = "net/ipv6/conf/all/forwarding"
# Where br_netfilter is loaded: answers of a service's pod to its neighbour on the bridge must pass
# connection tracking, which undoes the service's address.
_BRIDGE_CALLS = {
    4: "net/bridge/bridge-nf-call-iptables",
    6: "net/bridge/bridge-nf-call-ip6tables",
}
# Changed by who wants no IPv6 at all, and for all interfaces there are; the kernel changes the
# default for new ones with it.
_NO_IPV6 = "net/ipv6/conf/all/disable_ipv6"
# A router does not listen to router advertisements unless told so: 2.
_ACCEPT_RA = "net/ipv6/conf/{}/accept_ra"


@dataclass(frozen=True, slots=True)
class SysctlsDesired:
    """Path below /proc/sys and value of each setting, in the order in which they are made."""

    values: tuple[tuple[str, str], ...] = ()


def node_sysctls(lanes: Iterable[str], versions: Iterable[int]) -> SysctlsDesired:
    """What a node needs to forward its pods' packets of these versions of IP."""
    ours = [*lanes, POD_BRIDGE]
    values = []
    if 4 in (versions := set(versions)):
        values.append((_FORWARDING_4, "1"))
        values += [(f"net/ipv4/conf/{device}/forwarding", "1") for device in ours]
        # Loose: a peer's packets come on either lane, whichever the route back to it takes.
        values += [(f"net/ipv4/conf/{device}/rp_filter", "2") for device in ours[:-1]]
    if 6 in versions:
        # First: forwarding needs it, also where the host has switched IPv6 off for new devices.
        values += [(f"net/ipv6/conf/{device}/disable_ipv6", "0") for device in ours]
        values.append((_FORWARDING_6, "1"))
        values += [(f"net/ipv6/conf/{device}/forwarding", "1") for device in ours]
    values += [(_BRIDGE_CALLS[version], "1") for version in sorted(versions)]
    return SysctlsDesired(tuple(values))


def usable_families(root: Path = PROC_SYS) -> list[int]:
    """Versions of IP that this host is to have.

    It may have no IPv6 by default, for interfaces that are not ours; but where it is switched off
    for all of them, to switch it on for ours would open to pods what no firewall of the host's
    expects.
    """
    try:
        off = (root / _NO_IPV6).read_text().strip() != "0"
    except OSError:
        off = False
    return [version for version in present_families() if version == 4 or not off]


class Sysctls:
    """Settings below `root`, which is the host's /proc/sys; a container's own is read-only."""

    name = "sysctls"

    def __init__(self, root: Path = PROC_SYS, state: Path = STATE) -> None:
        self._root = root
        self._state = state

    def reconcile(self, desired: SysctlsDesired) -> list[str]:
        report = Report()
        for key, value in desired.values:
            with report.step(f"sysctl {key}"):
                if key == _FORWARDING_6 and value == "1" and self._read(key) == "0":
                    self._keep_listening_to_routers(report)
                self._put(key, value, report)
        return report.end()

    def _put(self, key: str, value: str, report: Report) -> None:
        before = self._read(key)
        if before is None and key in (_FORWARDING_4, _FORWARDING_6):
            advice = "enable IPv6 on this host" if key == _FORWARDING_6 else ""
            raise NetworkError(f"sysctl {key}: this kernel has no such setting", advice)
        # None: its interface is not there yet, or the module that has it.
        if before is None or before == value:
            return
        # Before the change: a crash in between must not take ours for the host's.
        self._remember(key, before)
        (self._root / key).write_text(value)
        report.changed.append(f"sysctl {key} is {value}, it was {before}")

    def _keep_listening_to_routers(self, report: Report) -> None:
        """Forwarding makes a host deaf for the advertisements that its default route is from."""
        for directory in sorted((self._root / "net/ipv6/conf").iterdir()):
            key = _ACCEPT_RA.format(directory.name)
            if self._read(key) == "1":
                self._put(key, "2", report)

    def _read(self, key: str) -> str | None:
        try:
            return (self._root / key).read_text().strip()
        except FileNotFoundError:
            return None

    def remove(self) -> None:
        """Put back what was there before, as far as it is known, the last change first."""
        report = Report()
        for key, value in reversed(self._known().items()):
            with report.step(f"sysctl {key}"):
                if self._read(key) not in (None, value):
                    (self._root / key).write_text(value)
        report.end()
        self._state.unlink(missing_ok=True)

    def _remember(self, key: str, value: str) -> None:
        known = self._known()
        if key not in known:
            self._state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._state, json.dumps({**known, key: value}, indent=2))

    def _known(self) -> dict[str, str]:
        try:
            known = json.loads(self._state.read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            _log.warning("%s is damaged: earlier settings are not known", self._state)
            return {}
        return {str(key): str(value) for key, value in known.items()}
