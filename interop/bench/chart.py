"""A result as a picture: how much better or worse than the baseline, line by line."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

from interop.bench.probes import LINES, Line
from interop.bench.result import OURS, Result

_OURS_BETTER, _OURS_WORSE, _OTHERS = "#2a78c2", "#d1784a", "#4d5a66"
_INCHES_PER_ROW = 0.27


def draw(result: Result, path: Path) -> None:
    """Write an SVG. Each bar begins at the baseline's value; right is better, on every line."""
    # It takes a while to import, and only the very end of a run needs it.
    import matplotlib

    matplotlib.use("svg")
    # Letters stay letters, and the same result makes the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "wgpy", "font.size": 9})
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullLocator

    lines = [line for line in LINES if scores(line, result, OURS)]
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + _INCHES_PER_ROW * len(lines)))
    others = [name for name in result.whole() if name not in (OURS, result.baseline)]
    for row, line in enumerate(lines):
        found = scores(line, result, OURS)
        middle = statistics.median(found)
        axes.barh(
            row,
            middle - 1,
            left=1,
            height=0.62,
            color=_OURS_BETTER if middle >= 1 else _OURS_WORSE,
            xerr=[[middle - min(found)], [max(found) - middle]],
            error_kw={"ecolor": "#222", "elinewidth": 0.8, "capsize": 2},
        )
        label = f" {middle:.2f}"
        axes.annotate(label, (1.01, row), xycoords=("axes fraction", "data"), va="center")
        for name in others:
            if their := scores(line, result, name):
                axes.plot(statistics.median(their), row, "d", color=_OTHERS, markersize=4)
    axes.axvline(1, color="#222", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(lines)), [line.name for line in lines])
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.grid(axis="x", color="#ddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    baseline = result.title(result.baseline)
    axes.set_xlabel(f"times as good as {baseline}{_legend(map(result.title, others))}")
    axes.set_title(f"{OURS} against {baseline}: right of the line is better", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def scores(line: Line, result: Result, name: str) -> list[float]:
    """How many times as good as the baseline, round by round; nothing if either is zero."""
    ratios = [ratio for ratio in result.ratios(line.key, name) if ratio]
    return ratios if line.more_is_better else [1 / ratio for ratio in ratios]


def _legend(others: Iterable[str]) -> str:
    marks = "".join(f"◆ {other}; " for other in others)
    return f"   ({marks}whiskers: lowest and highest round)"
