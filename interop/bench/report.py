"""Results as a table and as a picture."""

from __future__ import annotations

from typing import Any

from interop.bench.rounds import Metric, Result

_BAR, _GAP, _LEFT, _WIDTH = 14, 16, 230, 760
_COLORS = ["#2a78c2", "#b9c4cf", "#7d8b99"]


def table(
    result: Result, metrics: list[Metric], names: list[str], baseline: str, raw: dict[str, Any]
) -> str:
    """Medians, and ratios to `baseline` with their spread, as Markdown."""
    machine, versions = raw["machine"], raw["versions"]
    lines = [
        (
            f"{machine['processor']}, {machine['cpus']} CPUs, Linux {machine['kernel']}; inner MTU "
            f"{machine['mtu']}, medians of {machine['rounds']} interleaved rounds."
        ),
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "",
        "| | unit | " + " | ".join(names) + " | wgpy against " + baseline + " |",
        "|---|---|" + "---:|" * (len(names) + 1),
    ]
    for metric in metrics:
        values = [f"{result.median(metric.name, name):.4g}" for name in names]
        cells = " | ".join([metric.name, metric.unit, *values, _ratio(result, metric, baseline)])
        lines.append(f"| {cells} |")
    return "\n".join(lines) + "\n"


def _ratio(result: Result, metric: Metric, baseline: str) -> str:
    if baseline not in result.values[metric.name]:
        return "-"
    ratios = sorted(result.ratios(metric.name, "wgpy", baseline))
    if not ratios:
        return "-"
    middle = ratios[len(ratios) // 2]
    better = (middle >= 1) == metric.more_is_better
    text = f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return f"**{text}**" if better else text


def chart(result: Result, metrics: list[Metric], names: list[str], baseline: str) -> str:
    """Bars relative to `baseline`, longer is better in every row, as SVG."""
    rows = [m for m in metrics if baseline in result.values[m.name]]
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
    scores = {(m.name, n): _score(result, m, n, baseline) for m in rows for n in names}
    scale = (_WIDTH - _LEFT - 90) / max([1.0, *scores.values()])
    for r, metric in enumerate(rows):
        top = 44 + r * block
        parts.append(f'<text x="20" y="{top + block / 2 - 2}">{metric.name}</text>')
        for k, name in enumerate(names):
            y, width = top + k * _BAR, scores[metric.name, name] * scale
            value = f"{result.median(metric.name, name):.3g} {metric.unit}"
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


def _score(result: Result, metric: Metric, name: str, baseline: str) -> float:
    ours, theirs = result.median(metric.name, name), result.median(metric.name, baseline)
    over, under = (ours, theirs) if metric.more_is_better else (theirs, ours)
    # A time that cannot be measured is as good as any.
    return over / under if under else 1.0
