"""The packet filter of the node where the kernel or the host has no nftables: iptables.

Its newer programs speak to nftables too. What is left for a kernel without are the older ones,
"legacy", which need CAP_NET_RAW besides, for the socket that they ask through.
"""

import shutil
import subprocess

from agent.network import xtables
from agent.network.base import NetworkError, Report
from agent.network.nft import Count
from agent.network.rtnetlink import present_families
from agent.network.ruleset import FirewallDesired

_TIMEOUT = 30.0
PROGRAMS = {4: "iptables", 6: "ip6tables"}
# As the host has chosen, then the older ones.
_VARIANTS = ("", "-legacy")
_ADVICE = "give the agent CAP_NET_RAW as well, or nftables to this host: docs/kubernetes.md"
_REFUSED = ("Permission denied", "not permitted")
# Seconds to wait for others that change rules.
_PATIENCE = "10"


class Refused(NetworkError):
    """The kernel does not permit it."""


class Unable(NetworkError):
    """The program has failed: this kernel has not what it speaks to."""


class IptablesFirewall:
    """Chains of ours in raw, mangle and nat, first of all; see agent.network.firewall."""

    name = "firewall"

    def __init__(self, variant: str = "") -> None:
        """`variant` of the programs: "-legacy", or "" for the host's own choice."""
        self._programs = {version: f"{name}{variant}" for version, name in PROGRAMS.items()}
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
            with report.step(f"{self._programs[version]} rules"):
                self._put(version, desired, known, report)
        self._desired = desired
        return report.end()

    def _put(self, version: int, desired: FirewallDesired, known: bool, report: Report) -> None:
        saved = save(self._programs[version])
        before = xtables.own_rules(saved)
        if known and before == self._made.get(version):
            return
        self._counted = _sum(self._counted, xtables.counts(save(self._programs[version], "-c")))
        # Unless it succeeds, the next pass must not take what is there for what is desired.
        self._made.pop(version, None)
        restore(self._programs[version], xtables.restore_text(desired, version, saved))
        self._made[version] = xtables.own_rules(save(self._programs[version]))
        if before != self._made[version]:
            was = "were missing" if not before else "were others"
            report.changed.append(f"{self._programs[version]} rules are set, they {was}")

    def counters(self) -> dict[str, Count]:
        """What was dropped, by reason (ruleset.COUNTERS). NetworkError."""
        found = self._counted
        for version in present_families():
            found = _sum(found, xtables.counts(save(self._programs[version], "-c")))
        return found

    def remove(self) -> None:
        """Leave no chain. NetworkError."""
        self._desired = None
        for version in present_families():
            if text := xtables.removal_text(save(self._programs[version])):
                restore(self._programs[version], text)


def open_iptables() -> IptablesFirewall:
    """By the programs that work here. NetworkError if none do."""
    failures = []
    for variant in _VARIANTS:
        try:
            save(f"{PROGRAMS[4]}{variant}", "-t", "raw")
        except NetworkError as error:
            failures.append(error)
        else:
            return IptablesFirewall(variant)
    what = "; ".join(error.what for error in failures)
    raise NetworkError(f"this host has no packet filter: {what}", failures[-1].advice)


def save(program: str, *options: str) -> str:
    """What `program`, one of iptables' variants, lists. NetworkError."""
    return _run(f"{program}-save", *options)


def restore(program: str, text: str) -> None:
    """Each table of `text` in one step, and nothing else. NetworkError."""
    _run(f"{program}-restore", "--noflush", "--wait", _PATIENCE, text=text)


def _sum(one: dict[str, Count], other: dict[str, Count]) -> dict[str, Count]:
    found = dict(one)
    for name, count in other.items():
        before = found.get(name, Count())
        found[name] = Count(before.packets + count.packets, before.bytes + count.bytes)
    return found


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
        said = " ".join(done.stderr.split())
        if any(word in said for word in _REFUSED):
            raise Refused(f"{program}: {said}", _ADVICE)
        raise Unable(f"{program}: {said}")
    return done.stdout
