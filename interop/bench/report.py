"""Results as tables and as a picture."""

from __future__ import annotations

import statistics
from typing import Any

from interop.bench.probes import Line
from interop.bench.rounds import Result

_BAR, _GAP, _LEFT, _WIDTH = 14, 16, 250, 780
_COLORS = ["#2a78c2", "#b9c4cf", "#7d8b99"]


def report(
    result: Result,
    lines: list[Line],
    implementations: list[str],
    others: list[str],
    baseline: str,
    raw: dict[str, Any],
) -> str:
    """Medians, and ratios to `baseline` with their spread, as Markdown; then `others`."""
    machine, versions = raw["machine"], raw["versions"]
    text = [
        (
            f"{machine['processor']}, {machine['cpus']} CPUs, Linux {machine['kernel']}; inner MTU "
            f"{machine['mtu']}, medians of {machine['rounds']} interleaved rounds. Both ends and "
            "the load share the CPUs."
        ),
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "",
        *_table(result, lines, implementations, baseline),
    ]
    measured = [line for line in lines if any(result.median(line.key, name) for name in others)]
    if measured:
        text += [
            "",
            (
                "Mixed pairs (the first one sends), two workers, and how far the limit is: a "
                "cipher that does nothing at both ends, and no tunnel at all."
            ),
            "",
            *_table(result, measured, others, None),
        ]
    if result.errors:
        text += ["", "What failed:", "", *(f"- {error}" for error in result.errors)]
    return "\n".join(text) + "\n"


def _table(result: Result, lines: list[Line], names: list[str], baseline: str | None) -> list[str]:
    last = [] if baseline is None else [f"wgpy against {baseline}"]
    heads = ["", "unit", *names, *last]
    rows = [_row(heads), "|---|---|" + "---:|" * (len(heads) - 2)]
    for line in lines:
        medians = [result.median(line.key, name) for name in names]
        cells = ["-" if median is None else f"{median:.4g}" for median in medians]
        ratio = [] if baseline is None else [_ratio(result, line, baseline)]
        rows.append(_row([line.name, line.unit, *cells, *ratio]))
    return rows


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ratio(result: Result, line: Line, baseline: str) -> str:
    ratios = result.ratios(line.key, "wgpy", baseline)
    if not ratios:
        return "-"
    middle = statistics.median(ratios)
    better = (middle >= 1) == line.more_is_better
    text = f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"**{text}**" if better else text


def chart(result: Result, lines: list[Line], names: list[str], baseline: str) -> str:
    """Bars relative to `baseline`, longer is better in every row, as SVG."""
    rows = [line for line in lines if _scores(result, line, names, baseline)]
    block = len(names) * _BAR + _GAP
    height = len(rows) * block + 70
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            'font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    for k, name in enumerate(names):
        x = 20 + k * 190
        parts.append(f'<rect x="{x}" y="14" width="12" height="12" fill="{_COLORS[k % 3]}"/>')
        parts.append(f'<text x="{x + 18}" y="25">{name}</text>')
    scores = {line.key: _scores(result, line, names, baseline) for line in rows}
    longest = max([1.0, *(score for found in scores.values() for score in found.values())])
    scale = (_WIDTH - _LEFT - 90) / longest
    for r, line in enumerate(rows):
        top = 44 + r * block
        parts.append(f'<text x="20" y="{top + block / 2 - 2}">{line.name}</text>')
        for k, name in enumerate(names):
            if name not in scores[line.key]:
                continue
            y, width = top + k * _BAR, scores[line.key][name] * scale
            value = f"{result.median(line.key, name):.3g} {line.unit}"
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR - 2}" '
                f'fill="{_COLORS[k % 3]}"/>'
            )
            parts.append(
                f'<text x="{_LEFT + width + 5:.1f}" y="{y + 10}" font-size="10">{value}</text>'
            )
    mark = _LEFT + scale
    parts.append(
        f'<line x1="{mark:.1f}" y1="38" x2="{mark:.1f}" y2="{height - 26}" stroke="#444" '
        'stroke-dasharray="3 3"/>'
    )
    parts.append(
        f'<text x="20" y="{height - 8}" fill="#555">Relative to {baseline} (dashed); '
        "longer is better in every row.</text>"
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _scores(result: Result, line: Line, names: list[str], baseline: str) -> dict[str, float]:
    """How much better than the baseline each is; only what both have, and not zero."""
    theirs = result.median(line.key, baseline)
    found = {}
    for name in names:
        ours = result.median(line.key, name)
        if ours and theirs:
            found[name] = ours / theirs if line.more_is_better else theirs / ours
    return found
