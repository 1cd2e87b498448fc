"""The report of a bench as one HTML page without scripts, and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from .charts import charts
from .outcomes import Findings, Report
from .svg import svg
from .table import HEADERS, RIGHT, cells, conclusions, left_out, ordered, remarks

# Colours that people who see no red or green can tell apart, after M. Okabe and K. Ito (2008), "Color Universal Design".
STYLE = """
:root { --ground: #ffffff; --text: #1c1c1e; --faint: #5f6368; --grid: #e3e5e8; --serial: #5b6068; --processes: #0072b2;
  --threads: #c44e00; --auto: #00805f; --bad: #b3261e; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ground: #16181c; --text: #e8eaed; --faint: #a3a9b2; --grid: #2e3238;
  --serial: #b8bec7; --processes: #56b4e9; --threads: #f0a04b; --auto: #3ecf9e; --bad: #ff8a80; } }
body { margin: 0 auto; padding: 24px 28px 60px; max-width: 1240px; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 44px 0 2px; }
p { margin: 4px 0; } .faint { color: var(--faint); } .bad { color: var(--bad); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 18px 28px; margin: 16px 0; }
svg { width: 100%; height: auto; max-width: 640px; font-size: 12px; }
svg text { fill: var(--text); } svg .title { font-size: 14px; font-weight: 600; } svg .name, svg .tick, svg .note { fill: var(--faint); }
svg .note { paint-order: stroke; stroke: var(--ground); stroke-width: 4px; stroke-linejoin: round; }
.grid { stroke: var(--grid); } .axis { stroke: var(--faint); } .leader { stroke: var(--grid); }
.guide { stroke: var(--faint); stroke-dasharray: 5 4; } .line { fill: none; stroke-width: 2; }
.range { stroke-width: 1.5; opacity: .55; } .mark { stroke: var(--ground); stroke-width: 1; }
.line.serial, .range.serial { stroke: var(--serial); } .mark.serial, svg text.serial { fill: var(--serial); }
.line.processes, .range.processes { stroke: var(--processes); } .mark.processes, svg text.processes { fill: var(--processes); }
.line.threads, .range.threads { stroke: var(--threads); } .mark.threads, svg text.threads { fill: var(--threads); }
.line.auto, .range.auto { stroke: var(--auto); } .mark.auto, svg text.auto { fill: var(--auto); }
svg text.plain { fill: var(--faint); } svg .label { font-weight: 600; } svg .label.plain { font-weight: 400; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; margin: 10px 0; }
th, td { padding: 2px 12px 2px 0; text-align: left; white-space: nowrap; } td.right, th.right { text-align: right; }
th { border-bottom: 1px solid var(--faint); font-weight: 600; } .scroll { overflow-x: auto; } summary { cursor: pointer; }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_FACTS = {
    "cpu": "processor",
    "usable_cores": "usable cores",
    "physical_cores": "physical cores",
    "system": "system",
    "python": "Python",
    "load_1_min": "load when it began",
    "taken_at": "taken at",
}


def page(report: Report) -> str:
    """Return the page. Names are escaped; nothing in it is executed or loaded."""
    body = "\n".join([*_head(report), *(part for found in report.findings for part in _section(found)), *_settings(report)])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>offloop bench</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _head(report: Report) -> Iterable[str]:
    yield "<h1>offloop bench</h1>"
    facts = [(told, report.host[name]) for name, told in _FACTS.items() if report.host.get(name) is not None]
    yield _paragraph(" · ".join(f"{told}: {value}" for told, value in facts), "faint")
    versions = report.host.get("versions", {})
    yield _paragraph(", ".join(f"{name} {version}" for name, version in versions.items()), "faint")
    if report.warning:
        yield _paragraph(f"! {report.warning}", "bad")
    yield _paragraph("Marks are medians, thin bars the range over all rounds. Variants took turns in every round.", "faint")


def _section(findings: Findings) -> Iterable[str]:
    described = f": {findings.description}" if findings.description else ""
    yield f"<h2>{escape(findings.name + described)}</h2>"
    for sentence in conclusions(findings):
        yield _paragraph(sentence)
    for note in (*findings.notes, *left_out(findings)):
        yield _paragraph(note, "faint")
    drawn = "\n".join(svg(chart) for chart in charts(findings))
    if drawn:
        yield f'<div class="charts">{drawn}</div>'
    rows = ordered(findings)
    told = remarks(rows)
    is_bad = any(row.error or row.complaints for row in rows)
    yield f"<details{' open' if is_bad else ''}><summary>All figures</summary>"
    yield _table(HEADERS, [cells(findings, row, told) for row in rows])
    for number, remark in enumerate(told, 1):
        yield _paragraph(f"{number}: {remark}", "bad" if is_bad else "faint")
    yield "</details>"


def _settings(report: Report) -> Iterable[str]:
    if report.settings:
        rows = [(name, str(entry["value"]), str(entry["source"])) for name, entry in report.settings.items()]
        yield "<h2>Settings of the session</h2><details><summary>All settings</summary>"
        yield _table(("setting", "value", "source"), rows, right=())
        yield "</details>"


def _paragraph(text: str, name: str = "") -> str:
    return f'<p class="{name}">{escape(text)}</p>' if name else f"<p>{escape(text)}</p>"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = RIGHT) -> str:
    def line(tag: str, values: Sequence[str]) -> str:
        marks = (' class="right"' if number in right else "" for number in range(len(values)))
        return "<tr>" + "".join(f"<{tag}{mark}>{escape(value)}</{tag}>" for mark, value in zip(marks, values, strict=True)) + "</tr>"

    return f'<div class="scroll"><table>{line("th", headers)}{"".join(line("td", row) for row in rows)}</table></div>'
