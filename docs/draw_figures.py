"""Draw the figures of README and docs from the tables of the performance page: ``python docs/draw_figures.py``."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import log
from pathlib import Path
from typing import NamedTuple

EXPLANATION = Path(__file__).parent / "explanation"
HEAD = "| cell | serial | threads | processes | first | later | later, no threads |"
UNITS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}
WIDTH, ROW, TOP, LEFT, RIGHT = 760, 27, 92, 306, 58
MOST = 24.0  # times the best, at the right edge
TICKS = (1, 2, 5, 10, 20)
SHAPES = {  # what each is drawn as, around its place
    "serial": '<circle class="serial" cx="{x}" cy="{y}" r="5"/>',
    "threads": '<path class="threads" d="M{x} {y}m0 -6.2l6 10.6h-12z"/>',
    "processes": '<path class="processes" d="M{x} {y}m-4.7 -4.7h9.4v9.4h-9.4z"/>',
    "auto": '<path class="auto" d="M{x} {y}m0 -8l8 8l-8 8l-8 -8z"/>',
}
# The background changes with the text, so that it is legible wherever it is shown.
STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .small { fill: #59636e; font-size: 12px }
  .own { font-weight: 600 }
  .end { text-anchor: end }
  .middle { text-anchor: middle }
  .paper { fill: #ffffff; stroke: #d1d9e0 }
  .grid { stroke: #d1d9e0; stroke-width: 1 }
  .best { stroke: #59636e; stroke-width: 1.5 }
  .serial { fill: none; stroke: #0969da; stroke-width: 2 }
  .threads { fill: none; stroke: #9a6700; stroke-width: 2 }
  .processes { fill: none; stroke: #1a7f37; stroke-width: 2 }
  .auto { fill: #cf222e; fill-opacity: 0.85 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .small { fill: #9198a1 }
    .paper { fill: #0d1117; stroke: #3d444d }
    .grid { stroke: #2f353d }
    .best { stroke: #9198a1 }
    .serial { stroke: #4493f8 }
    .threads { stroke: #d29922 }
    .processes { stroke: #3fb950 }
    .auto { fill: #f85149 }
  }
"""


class Cell(NamedTuple):
    """One kind of work.

    Attributes:
        name: As the table has it.
        ratios: What each choice takes, as a multiple of the best of serial, threads and processes.
    """

    name: str
    ratios: dict[str, float]


def cells(page: str) -> list[Cell]:
    """Return the rows of the table of regret."""
    _, found, after = page.partition(HEAD)
    if not found:
        raise ValueError("the table of regret isn't there, or has other columns")
    rows = []
    for line in after.strip().splitlines()[1:]:
        if not line.startswith("|"):
            break
        name, serial, threads, processes, _, later, _ = (cell.strip(" *") for cell in line.strip("|").split("|"))
        times = {"serial": seconds(serial), "threads": seconds(threads), "processes": seconds(processes)}
        best = min(times.values())
        rows.append(Cell(name, {choice: time / best for choice, time in times.items()} | {"auto": float(later)}))
    return rows


def seconds(text: str) -> float:
    """Return a time of the table."""
    number, unit = text.split()
    return float(number) * UNITS[unit]


def place(ratio: float) -> float:
    """Return where a ratio lies from left to right."""
    return round(LEFT + 26 + log(ratio) / log(MOST) * (WIDTH - LEFT - RIGHT - 26), 1)


def regret(page: str) -> str:
    """Return the figure of what each choice costs for each kind of work, as SVG."""
    rows = cells(page)
    height = TOP + ROW * len(rows) + 44
    described = "; ".join(f"{cell.name}: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in cell.ratios.items()) for cell in rows)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-labelledby="title what">
<title id="title">Time of each choice, as a multiple of the best one</title>
<desc id="what">{escape(described)}</desc>
<style>{STYLE}</style>
<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>
{chr(10).join([*head(len(rows)), *axis(height), *(mark for number, cell in enumerate(rows) for mark in row(number, cell))])}
</svg>
"""


def head(n_rows: int) -> Iterator[str]:
    """Yield what stands above: title and legend."""
    yield '<text class="title" x="18" y="28">No fixed choice suits all work</text>'
    yield f'<text class="small" x="18" y="47">Time ÷ that of the best of serial, threads and processes; 2 cores, warm, work known; {n_rows} kinds of work</text>'
    x = LEFT + 26
    for name, label in (("auto", "offloop’s auto"), ("serial", "serial"), ("threads", "threads"), ("processes", "processes")):
        yield SHAPES[name].format(x=x, y=68)
        yield f'<text class="{"own" if name == "auto" else "other"}" x="{x + 13}" y="72.5">{label}</text>'
        x += 44 + 7 * len(label)
    yield f'<text class="small end" x="{WIDTH - 18}" y="{TOP - 4}">auto</text>'


def axis(height: int) -> Iterator[str]:
    """Yield the lines behind the marks."""
    bottom = height - 36
    for tick in TICKS:
        x = place(tick)
        yield f'<path class="{"best" if tick == 1 else "grid"}" d="M{x} {TOP - 6}V{bottom}"/>'
        yield f'<text class="small middle" x="{x}" y="{bottom + 19}">{"the best" if tick == 1 else f"{tick} ×"}</text>'


def row(number: int, cell: Cell) -> Iterator[str]:
    """Yield the marks of one kind of work, auto's on top."""
    y = TOP + ROW * number + 12
    yield f'<text class="end" x="{LEFT - 6}" y="{y + 4.5}">{escape(cell.name)}</text>'
    for name, ratio in cell.ratios.items():
        yield SHAPES[name].format(x=place(ratio), y=y)
    yield f'<text class="own end" x="{WIDTH - 18}" y="{y + 4.5}">{cell.ratios["auto"]:.2f}</text>'


def figures() -> dict[str, str]:
    """Return every figure by the name of its file."""
    return {"regret.svg": regret((EXPLANATION / "performance.md").read_text(encoding="utf-8"))}


def main() -> None:
    """Write all figures."""
    for name, text in figures().items():
        (EXPLANATION / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
