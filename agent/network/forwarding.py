"""Packets of pods are forwarded where others forward nothing: Docker sets FORWARD's policy to DROP.

A rule of ours in nftables cannot undo what another table drops, so this one is where they are: a
chain of ours in iptables' filter table, that FORWARD asks before it gives up, and after all rules
that drop for a reason (a network policy's). Where nothing is given up, nothing is added.

The kernel tells of changes in the newer iptables' tables, as they are nftables'. Of the older
ones' it tells nothing: what others do there is found at the next look at everything.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.network.base import NetworkError, Report
from agent.network.iptables import PROGRAMS, Refused, Unable, restore, save
from agent.network.rtnetlink import present_families
from agent.network.xtables import table_lines

_CHAIN = "WGPY-ACCEPT"
_JUMP = f"-A FORWARD -j {_CHAIN}"
_VERDICTS = ("DROP", "REJECT")
# Both may be in use on one host. The legacy one shows its tables here, also to who may not read
# their rules.
_VARIANTS = ("-nft", "-legacy")
_LEGACY_TABLES = {4: "ip_tables_names", 6: "ip6_tables_names"}
_PROC_NET = Path("/proc/thread-self/net")
_COMMENT = re.compile(r' -m comment --comment (?:"(?:[^"\\]|\\.)*"|\S+)')


@dataclass(frozen=True, slots=True)
class ForwardingDesired:
    """Interfaces that packets are forwarded from and to."""

    devices: tuple[str, ...] = ()


class Forwarding:
    """The chain WGPY-ACCEPT in each filter table of iptables that forwards nothing else."""

    name = "forwarding"

    def __init__(self) -> None:
        # Why it is not known whether it is needed, if it is not.
        self.unknown: NetworkError | None = None

    def reconcile(self, desired: ForwardingDesired) -> list[str]:
        report = Report()
        self.unknown = None
        for program in _programs():
            with report.step(f"{program} FORWARD"):
                self._put(program, desired, report)
        return report.end()

    def _put(self, program: str, desired: ForwardingDesired, report: Report) -> None:
        try:
            saved = save(program, "-t", "filter")
        except Refused as error:
            self.unknown = NetworkError(error.what, "give the agent CAP_NET_RAW as well")
            return
        except Unable:
            # Where the kernel has no nftables. A legacy table that is in use can be listed.
            if program.endswith("-legacy"):
                raise
            return
        if text := forwarding_text(saved, desired.devices):
            restore(program, text)
            added = "-I FORWARD" in text
            said = "packets of pods are forwarded" if added else "FORWARD is left to others"
            report.changed.append(f"{program}: {said}")

    def remove(self) -> None:
        self.reconcile(ForwardingDesired())


def forwarding_text(saved: str, devices: tuple[str, ...]) -> str:
    """What iptables-restore --noflush makes of `saved`; empty when it is as it should be."""
    lines = table_lines(saved, "filter")
    rules = [line for line in lines if line.startswith("-A FORWARD ")]
    others = [rule for rule in rules if rule != _JUMP]
    end = next((at for at, rule in enumerate(others) if _gives_up(rule, lines)), None)
    closed = end is not None or any(line.startswith(":FORWARD DROP") for line in lines)
    own = [line for line in lines if line.startswith(f"-A {_CHAIN} ")]
    jumps = rules.count(_JUMP)
    if not closed or not devices:
        if f":{_CHAIN} " not in saved:
            return ""
        gone = [f"-D FORWARD -j {_CHAIN}"] * jumps
        return _text([*gone, f"-F {_CHAIN}", f"-X {_CHAIN}"])
    wanted = [f"-A {_CHAIN} -{way} {name} -j ACCEPT" for name in devices for way in "io"]
    position = len(others) if end is None else end
    if own == wanted and jumps == 1 and rules.index(_JUMP) == position:
        return ""
    gone = [f"-D FORWARD -j {_CHAIN}"] * jumps
    return _text([f":{_CHAIN} - [0:0]", *wanted, *gone, f"-I FORWARD {position + 1} -j {_CHAIN}"])


def _gives_up(rule: str, lines: list[str]) -> bool:
    """Whether nothing passes a rule of FORWARD: it has no condition, and its verdict is to drop.

    Or that of the first rule in the chain to which it jumps (ufw's).
    """
    match _COMMENT.sub("", rule).split()[2:]:
        case ["-j", target, *_]:
            first = next((line for line in lines if line.startswith(f"-A {target} ")), "")
            return any(
                verdict == target or _COMMENT.sub("", first).startswith(f"-A {target} -j {verdict}")
                for verdict in _VERDICTS
            )
    return False


def _text(lines: list[str]) -> str:
    return "\n".join(["*filter", *lines, "COMMIT"]) + "\n"


def _programs() -> Iterator[str]:
    """The variants of iptables on this host that may be in use."""
    for version in present_families():
        found = [PROGRAMS[version] + variant for variant in _VARIANTS]
        found = [one for one in found if shutil.which(f"{one}-save")]
        # Where there is but one variant, it may have no name of its own.
        for program in found or [PROGRAMS[version]]:
            unused = program.endswith("-legacy") and not _has_legacy_filter(version)
            if shutil.which(f"{program}-save") and not unused:
                yield program


def _has_legacy_filter(version: int) -> bool:
    try:
        return "filter" in (_PROC_NET / _LEGACY_TABLES[version]).read_text().split()
    except OSError:
        return False
