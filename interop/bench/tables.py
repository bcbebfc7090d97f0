"""A result as Markdown: all of it, and the part that the project's README shows."""

from __future__ import annotations

import statistics

from interop.bench.probes import LINES, Line
from interop.bench.result import OURS, Result

_BEGIN, _END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
_HEADLINES = (
    *("tcp-1", "tcp-4", "tcp-1-jumbo", "hub", "hub-cubic", "hub-ping", "udp-64-clean", "ping"),
    *("ping-loaded-99", "handshakes", "memory", "memory-1000", "cpu", "configure"),
)
# A load average above this is more than the system's own housekeeping.
_CALM = 0.5
_OTHERS = (
    "Mixed pairs (the first one sends, but for lines of the other way), two workers, and how far "
    "the limit is: a cipher that does nothing at both ends, and no tunnel at all."
)


def report(result: Result) -> str:
    """Medians, and ratios with their spread, of everything."""
    lines = [line for line in LINES if line.key in result.values]
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    text = [
        f"{_circumstances(result)} Both ends and the load share the CPUs.",
        "",
        " ".join([f"Versions: {versions}.", *result.notes]),
        "",
        *_table(lines, result, result.whole(), result.baseline),
    ]
    others = result.others()
    measured = [line for line in lines if any(result.median(line.key, name) for name in others)]
    if measured:
        text += ["", _OTHERS, "", *_table(measured, result, others, None)]
    if result.errors:
        text += ["", "What failed:", "", *(f"- {error}" for error in result.errors)]
    return "\n".join(text) + "\n"


def readme_section(result: Result) -> str:
    """What matters most, against the newest of the others."""
    heads = ["", OURS, result.title(result.baseline), "ratio (lowest and highest)"]
    rows = [_row(heads), "|---|---:|---:|---:|"]
    for line in LINES:
        if line.key in _HEADLINES and line.key in result.values:
            name = f"{line.name} ({line.unit})"
            rows.append(
                _row([name, *_medians(line, result, [OURS, result.baseline]), _ratio(line, result)])
            )
    return "\n".join([_circumstances(result), "", *rows, "", *_limits(result)]) + "\n"


def with_section(readme: str, section: str) -> str:
    """`readme` with its measured part replaced.

    :raises ValueError: it has no place for it.
    """
    head, begin, rest = readme.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"no lines {_BEGIN.strip()} and {_END.strip()}")
    return head + begin + section + end + tail


def _circumstances(result: Result) -> str:
    machine = result.machine
    words = (
        f"{machine['processor']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, Python "
        f"{machine['python']}; inner MTU {result.mtu}, {_rounds(result)}, "
        f"{machine['date']}."
    )
    if float(machine["load"]) > _CALM:
        words += f" The machine had other work as well (load {machine['load']}): ratios only."
    return words


def _rounds(result: Result) -> str:
    return "one round" if result.rounds == 1 else f"medians of {result.rounds} interleaved rounds"


def _limits(result: Result) -> list[str]:
    """In a sentence each: what to know, how far one could get, what a second process does."""
    found = list(result.notes)
    null, bare = (result.median("tcp-1", name) for name in ("null cipher", "no tunnel"))
    if null and bare:
        found.append(
            f"With a cipher that does nothing, one stream carries {null:.0f} Mbit/s; without any "
            f"tunnel, {bare:.0f}."
        )
    ratios = result.ratios("busiest", OURS, "two workers")
    if ratios:
        middle = statistics.median(ratios)
        found.append(
            f"With `--workers 2` and two peers, the busiest process spends {1 / middle:.2f} of the "
            f"CPU time that one alone does: {middle:.2f} times as much could pass where there are "
            "processors enough."
        )
    return found


def _table(lines: list[Line], result: Result, names: list[str], baseline: str | None) -> list[str]:
    last = [] if baseline is None else [f"{OURS} against {baseline}"]
    heads = ["", "unit", *names, *last]
    rows = [_row(heads), "|---|---|" + "---:|" * (len(heads) - 2)]
    for line in lines:
        ratio = [] if baseline is None else [_ratio(line, result)]
        rows.append(_row([line.name, line.unit, *_medians(line, result, names), *ratio]))
    return rows


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _medians(line: Line, result: Result, names: list[str]) -> list[str]:
    medians = [result.median(line.key, name) for name in names]
    return ["-" if median is None else _number(median) for median in medians]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _ratio(line: Line, result: Result) -> str:
    ratios = result.ratios(line.key)
    if not ratios:
        return "-"
    middle = statistics.median(ratios)
    better = (middle >= 1) == line.more_is_better
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    text = f"{middle:.2f}{spread}"
    return f"**{text}**" if better else text
