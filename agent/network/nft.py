"""A table of nftables that is ours, through the program `nft`, replaced in one transaction."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agent.network.base import NetworkError, Report

_TIMEOUT = 30.0
# How nft says that there is no such table.
_ABSENT = "No such file or directory"

Desired = TypeVar("Desired")


@dataclass(frozen=True, slots=True)
class Count:
    """What a counter has seen."""

    packets: int = 0
    bytes: int = 0


def is_available() -> bool:
    """Whether program and kernel have nftables. NetworkError if that is not ours to know."""
    if shutil.which("nft") is None:
        return False
    try:
        _nft("list", "tables")
    except NetworkError as error:
        if error.advice:  # not permitted: iptables would not be either
            raise
        return False
    return True


class Table(Generic[Desired]):
    """Table `where` ("inet wgpy"), compared with what the kernel listed when we had just made it.

    `render` writes the whole table, with counters that go on from what they were.
    """

    def __init__(self, where: str, render: Callable[[Desired, dict[str, Count]], str]) -> None:
        self._where = where
        self._render = render
        self._desired: Desired | None = None
        self._made: list[Any] | None = None

    def reconcile(self, desired: Desired) -> list[str]:
        """Make it as desired; see base.Resource."""
        report = Report()
        with report.step(f"nftables table {self._where}"):
            before = self._listing()
            known = desired == self._desired
            if known and before is not None and _rules(before) == self._made:
                return []
            # The table need not be there to be replaced.
            text = f"table {self._where}\ndelete table {self._where}\n"
            _nft("-f", "-", text=text + self._render(desired, _counts(before or [])))
            self._desired, self._made = desired, _rules(self._listing() or [])
            if before is None:
                report.changed.append(f"nftables table {self._where} is made, it was missing")
            elif _rules(before) != self._made:
                why = "it had been altered" if known else "other prefixes or rules are desired"
                report.changed.append(f"nftables table {self._where} is replaced: {why}")
        return report.end()

    def counters(self) -> dict[str, Count]:
        """What each named counter has seen; empty while there is no table. NetworkError."""
        return _counts(self._listing() or [])

    def remove(self) -> None:
        """Leave no table. NetworkError."""
        self._desired = self._made = None
        _nft("-f", "-", text=f"table {self._where}\ndelete table {self._where}\n")

    def _listing(self) -> list[Any] | None:
        """All of the table as nft lists it; None when it is not there."""
        try:
            text = _nft("-j", "list", "table", *self._where.split())
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
