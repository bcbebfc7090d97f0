"""Our nftables table, through the program `nft`: replaced whole, in one transaction."""

import json
import shutil
import subprocess
from typing import Any

from agent.network.base import NetworkError, Report
from agent.network.ruleset import TABLE_NAME, Count, FirewallDesired, ruleset

_TIMEOUT = 30.0
# How nft says that there is no such table.
_ABSENT = "No such file or directory"


class Firewall:
    """The table, compared with what the kernel listed when we had just made it."""

    name = "firewall"

    def __init__(self) -> None:
        self._desired: FirewallDesired | None = None
        self._made: list[Any] | None = None

    def reconcile(self, desired: FirewallDesired) -> list[str]:
        report = Report()
        with report.step(f"nftables table {TABLE_NAME}"):
            before = _listing()
            known = desired == self._desired
            if known and before is not None and _rules(before) == self._made:
                return []
            _nft("-f", "-", text=ruleset(desired, _counts(before or [])))
            self._desired, self._made = desired, _rules(_listing() or [])
            if before is None:
                report.changed.append(f"nftables table {TABLE_NAME} is made, it was missing")
            elif _rules(before) != self._made:
                why = "it had been altered" if known else "other prefixes or rules are desired"
                report.changed.append(f"nftables table {TABLE_NAME} is replaced: {why}")
        return report.end()

    def counters(self) -> dict[str, Count]:
        """What was dropped, by reason (ruleset.COUNTERS). NetworkError."""
        return _counts(_listing() or [])

    def remove(self) -> None:
        self._desired = self._made = None
        _nft("-f", "-", text=f"table {TABLE_NAME}\ndelete table {TABLE_NAME}\n")


def _listing() -> list[Any] | None:
    """All of the table as nft lists it; None when it is not there."""
    try:
        text = _nft("-j", "list", "table", *TABLE_NAME.split())
    except NetworkError as error:
        if _ABSENT in error.what:
            return None
        raise
    listed: list[Any] = json.loads(text)["nftables"]
    return listed


def _rules(listing: list[Any]) -> list[Any]:
    """What we said, without what the kernel adds: numbers, counts, the order of sets."""
    found = []
    for entry in listing:
        ((kind, value),) = entry.items()
        if kind == "metainfo":
            continue
        kept = {k: v for k, v in value.items() if k not in ("handle", "packets", "bytes")}
        if "elem" in kept:
            kept["elem"] = sorted(kept["elem"], key=json.dumps)
        found.append({kind: kept})
    # Among chains and sets the kernel's order says nothing; rules of a chain stay in theirs.
    return sorted(found, key=lambda entry: (*entry, entry.get("rule", {}).get("chain", "")))


def _counts(listing: list[Any]) -> dict[str, Count]:
    counters = [entry["counter"] for entry in listing if "counter" in entry]
    return {found["name"]: Count(found["packets"], found["bytes"]) for found in counters}


def _nft(*arguments: str, text: str = "") -> str:
    program = shutil.which("nft")
    if program is None:
        raise NetworkError("the program nft is missing", "install nftables")
    try:
        done = subprocess.run(
            [program, *arguments], input=text, capture_output=True, text=True, timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise NetworkError(f"nft took longer than {_TIMEOUT:g} seconds") from None
    if done.returncode:
        said = " ".join(done.stderr.split())
        advice = "give the agent CAP_NET_ADMIN" if "not permitted" in said else ""
        raise NetworkError(f"nft {' '.join(arguments)}: {said}", advice)
    return done.stdout
