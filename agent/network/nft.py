"""A table of nftables that is ours, through the program `nft`, each change in one transaction."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agent.network.base import NetworkError, Report

_TIMEOUT = 30.0
# How nft says that there is no such table.
_ABSENT = "No such file or directory"
# What a table has besides counters; chains first, as their rules hold the rest.
_FLUSHED = ("chain", "set", "map")
_DECLARED = re.compile(r"^\s*(chain|set|map) (\S+)", re.MULTILINE)

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

    `render` writes its sets and chains, which use the named `counters`.
    """

    def __init__(
        self, where: str, counters: tuple[str, ...], render: Callable[[Desired], str]
    ) -> None:
        self._where = where
        self._counters = counters
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
            text = self._render(desired)
            now = self._refill(before, text) if before else None
            if now is None or (known and now != self._made):
                now = self._replace(before or [], text)
            self._desired, self._made = desired, now
            if before is None:
                report.changed.append(f"nftables table {self._where} is made, it was missing")
            elif _rules(before) != now:
                why = "it had been altered" if known else "other prefixes or rules are desired"
                report.changed.append(f"nftables table {self._where} is set: {why}")
        return report.end()

    def _refill(self, before: list[Any], text: str) -> list[Any] | None:
        """What is there gets other rules and elements; None if it is of another make.

        A packet that is underway through a table while that is deleted finds its sets empty, and
        would be dropped as spoofed; so it is with a rule and a set that only the rule has. Those
        with a name are full at any time while they are filled anew.
        """
        if any("flags" in entry.get("table", {}) for entry in before):
            return None  # dormant: nothing else tells
        listed = [(k, v["name"]) for entry in before for k, v in entry.items() if k in _FLUSHED]
        wanted = set(_DECLARED.findall(text))
        gone = [f"delete {kind} {self._where} {name}" for kind, name in listed]
        lines = [f"flush {kind} {self._where} {name}" for kind, name in listed]
        lines += [line for line, own in zip(gone, listed, strict=True) if own not in wanted]
        known = {entry["counter"]["name"] for entry in before if "counter" in entry}
        declared = self._declared([name for name in self._counters if name not in known], {})
        try:
            _nft("-f", "-", text="\n".join([*lines, declared, self._table(text)]))
        except NetworkError:
            return None
        return _rules(self._listing() or [])

    def _replace(self, before: list[Any], text: str) -> list[Any]:
        # The table need not be there to be replaced.
        anew = f"table {self._where}\ndelete table {self._where}\n"
        declared = self._declared(self._counters, _counts(before))
        _nft("-f", "-", text=anew + declared + self._table(text))
        return _rules(self._listing() or [])

    def _declared(self, names: Iterable[str], counts: dict[str, Count]) -> str:
        """Counters that go on from `counts`."""
        return self._table("\n".join(_counter(name, counts.get(name, Count())) for name in names))

    def _table(self, body: str) -> str:
        return f"table {self._where} {{\n{body}\n}}\n"

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


def _counter(name: str, count: Count) -> str:
    return f"counter {name} {{ packets {count.packets} bytes {count.bytes} }}"


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
