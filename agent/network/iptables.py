"""The packet filter of the node where the kernel or the host has no nftables: iptables."""

import shutil
import subprocess

from agent.network import xtables
from agent.network.base import NetworkError, Report
from agent.network.nft import Count
from agent.network.rtnetlink import present_families
from agent.network.ruleset import FirewallDesired

_TIMEOUT = 30.0
_PROGRAMS = {4: "iptables", 6: "ip6tables"}
# Seconds to wait for others that change rules.
_PATIENCE = "10"


class IptablesFirewall:
    """Chains of ours in raw, mangle and nat, first of all; see agent.network.firewall."""

    name = "firewall"

    def __init__(self) -> None:
        self._desired: FirewallDesired | None = None
        # What was listed after it was made, by version of IP.
        self._made: dict[int, list[str]] = {}
        # Counters start anew with their rules: what they had reached.
        self._counted: dict[str, Count] = {}

    def reconcile(self, desired: FirewallDesired) -> list[str]:
        """Make the chains as desired; see base.Resource."""
        report = Report()
        known = desired == self._desired
        for version in present_families():
            with report.step(f"{_PROGRAMS[version]} rules"):
                self._put(version, desired, known, report)
        self._desired = desired
        return report.end()

    def _put(self, version: int, desired: FirewallDesired, known: bool, report: Report) -> None:
        saved = _save(version)
        before = xtables.own_rules(saved)
        if known and before == self._made.get(version):
            return
        self._counted = _sum(self._counted, xtables.counts(_save(version, "-c")))
        # Unless it succeeds, the next pass must not take what is there for what is desired.
        self._made.pop(version, None)
        _restore(version, xtables.restore_text(desired, version, saved))
        self._made[version] = xtables.own_rules(_save(version))
        if before != self._made[version]:
            was = "were missing" if not before else "were others"
            report.changed.append(f"{_PROGRAMS[version]} rules are set, they {was}")

    def counters(self) -> dict[str, Count]:
        """What was dropped, by reason (ruleset.COUNTERS). NetworkError."""
        found = self._counted
        for version in present_families():
            found = _sum(found, xtables.counts(_save(version, "-c")))
        return found

    def remove(self) -> None:
        """Leave no chain. NetworkError."""
        self._desired = None
        for version in present_families():
            if text := xtables.removal_text(_save(version)):
                _restore(version, text)


def _sum(one: dict[str, Count], other: dict[str, Count]) -> dict[str, Count]:
    found = dict(one)
    for name, count in other.items():
        before = found.get(name, Count())
        found[name] = Count(before.packets + count.packets, before.bytes + count.bytes)
    return found


def _save(version: int, *options: str) -> str:
    return _run(f"{_PROGRAMS[version]}-save", *options)


def _restore(version: int, text: str) -> None:
    _run(f"{_PROGRAMS[version]}-restore", "--noflush", "--wait", _PATIENCE, text=text)


def _run(program: str, *arguments: str, text: str = "") -> str:
    if shutil.which(program) is None:
        raise NetworkError(f"the program {program} is missing", "install iptables")
    try:
        done = subprocess.run(
            [program, *arguments], input=text, capture_output=True, text=True, timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise NetworkError(f"{program} took longer than {_TIMEOUT:g} seconds") from None
    if done.returncode:
        raise NetworkError(f"{program}: {' '.join(done.stderr.split())}")
    return done.stdout
