"""The charts of a bench as pictures, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .charts import Chart, charts
from .outcomes import Report
from .scales import horizontal, vertical

_COLOURS = {"serial": "#5b6068", "processes": "#0072b2", "threads": "#c44e00", "auto": "#00805f", "plain": "#5f6368"}
_MARKERS = {"serial": "o", "processes": "s", "threads": "^", "auto": "D", "plain": "."}
_SIZE_INCHES = (7.0, 4.0)
_DPI = 150


def write_pngs(report: Report, folder: Path) -> list[Path]:
    """Write every chart into a folder, which is made if it isn't there, and return the files' paths.

    Raises:
        ModuleNotFoundError: matplotlib isn't installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # pyright: ignore[reportMissingImports]
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for findings in report.findings:
        for chart in charts(findings):
            figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
            FigureCanvasAgg(figure)
            _draw(figure.add_subplot(), chart)
            safe = "".join(char if char.isalnum() or char in "._-" else "_" for char in findings.name)
            path = folder / f"{safe}-{chart.key}.png"
            figure.savefig(path, dpi=_DPI)
            written.append(path)
    return written


def _draw(axes: Any, chart: Chart) -> None:
    """Draw a chart on the axes of a figure."""
    for line in chart.lines:
        places = [point.x for point in line.points]
        middles = [point.y.median for point in line.points]
        below = [point.y.median - point.y.least for point in line.points]
        above = [point.y.most - point.y.median for point in line.points]
        axes.errorbar(
            *(places, middles),
            yerr=[below, above],
            color=_COLOURS[line.colour],
            marker=_MARKERS[line.colour],
            linestyle="-" if line.is_joined else "none",
            elinewidth=0.9,
            label=line.name,
        )
        for point in line.points:
            axes.annotate(point.label, (point.x, point.y.most), (0, 9), textcoords="offset points", ha="center", fontsize=8)
    for guide, style in zip(chart.guides, ("--", ":"), strict=False):
        lefts, tops = zip(guide.start, guide.end, strict=True)
        axes.plot(lefts, tops, color=_COLOURS["plain"], linestyle=style, linewidth=1.0, label=guide.name)
    for letter, scale, name in (("x", horizontal(chart), chart.x.name), ("y", vertical(chart), chart.y.name)):
        axes.set(**{f"{letter}label": name, f"{letter}scale": "log" if scale.is_log else "linear"})
        axes.set(**{f"{letter}lim": (scale.low, scale.high)})
        getattr(axes, f"set_{letter}ticks")([value for value, _ in scale.ticks], [text for _, text in scale.ticks])
        getattr(axes, f"set_{letter}ticks")([], minor=True)
    axes.set_title(chart.title, loc="left", fontsize=11)
    axes.grid(axis="y", color="#e3e5e8")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
