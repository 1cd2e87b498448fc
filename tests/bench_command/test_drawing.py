"""What a bench shows: the table, the page, its charts."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

import scripts
from offloop.bench.charts import Chart, charts
from offloop.bench.outcomes import Findings, Row
from offloop.bench.page import page
from offloop.bench.plan import Variant
from offloop.bench.scales import horizontal, linear_ticks, log_ticks, thinned, vertical
from offloop.bench.svg import LABEL_GAP, spaced, svg
from offloop.bench.table import show
from offloop.cli.terminal import Terminal
from offloop.model import Strategy

from .made import findings, report, row, seconds

VARIANTS = [
    Variant(n_items=1_000, strategy=Strategy.SERIAL),
    Variant(n_items=1_000, strategy=Strategy.AUTO),
    Variant(n_items=1_000, strategy=Strategy.AUTO, is_first=True),
    Variant(n_items=1_000, strategy=Strategy.PROCESSES, workers=4),
    Variant(n_items=10, strategy=Strategy.SERIAL),
    Variant(n_items=10, strategy=Strategy.PROCESSES, workers=4),
]
ROWS = (
    *(row(variant, seconds(variant, 0.001, 4)) for variant in VARIANTS),
    row(replace(VARIANTS[3], chunk_size=250), 0.3, complaints=("3 workers instead of 4",)),
    Row(variant=replace(VARIANTS[3], chunk_size=1), error="WorkerCrashed: a worker died"),
)
FEW = findings(
    rows=ROWS,
    description="made up",
    notes=("threads are left out: --thread-safe says that the function may run in several at once",),
    left_out=(Variant(n_items=4_000, strategy=Strategy.SERIAL),),
)
TABLE = """\
app:score: made up
items  where                 chunk   median          range  × serial
1,000  serial                    –      1 s  960 ms–1.04 s      1.00
1,000  auto → processes ×4       –   313 ms     300–325 ms      3.20
1,000  auto, first → serial      –   700 ms     672–728 ms      1.43
1,000  processes ×4              –   302 ms     290–314 ms      3.32
1,000  processes ×4              1        –              –         –  ✗1
1,000  processes ×4            250   300 ms     288–312 ms      3.33  !2
   10  serial                    –  10.1 ms    9.7–10.5 ms      1.00
   10  processes ×4              –     5 ms     4.8–5.2 ms      2.02
  1: failed: WorkerCrashed: a worker died
  2: not as asked for: 3 workers instead of 4
  processes ×4 is 3.32× as fast as serial at 1,000 items
  auto took 1.04× the time of the best fixed setting on average, at worst 1.04×
    (1,000 items: processes ×4, best processes ×4)
  threads are left out: --thread-safe says that the function may run in several
    at once
  5 rounds in 12 s; no time for 1 of 9 variants, such as serial, 4,000 items:
    raise --budget-s
"""


def shown(found: Findings, **environ: str) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    show(Terminal(stream, environ), found)
    stream.seek(0)
    return stream.read()


def test_the_table_at_80_columns() -> None:
    """The table has a row for each variant, what was not as asked for marked and explained, and the conclusions below."""
    assert shown(FEW) == TABLE


def test_the_table_in_ascii() -> None:
    """Where the stream can't show more than ASCII, nor does the table."""
    assert shown(FEW, OFFLOOP_ASCII="1").isascii()


def test_large_numbers_fit_80_columns() -> None:
    """A million items and 32 workers don't make the table wider."""
    wide = findings(workers=(1, 32), n_items=1_000_000, item_s=0.00001)
    assert max(map(len, shown(wide).splitlines())) <= 80


def test_a_page_is_well_formed_and_carries_nothing_active() -> None:
    """Names are escaped, every chart is XML, and neither scripts nor anything from elsewhere are in the page."""
    text = page(report(findings(name="app:<script>alert(1)</script>"), FEW))
    drawings = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(drawings) == 4 + len(charts(FEW))
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    assert "<script" not in text
    assert not re.search(r"https?://|src=|href=|@import|url\(", text)
    assert "default-src 'none'" in text
    assert "WorkerCrashed" in text


MADE = [
    pytest.param(chart, id=f"{number}-{chart.key}")
    for number, found in enumerate(
        (findings(), findings(workers=(1, 2, 4, 8, 16, 32), n_items=4_096), findings(workers=(1, 2), n_items=12, item_s=2.0))
    )
    for chart in charts(found)
]


@pytest.mark.parametrize("chart", MADE)
def test_charts_keep_within_their_bounds(chart: Chart) -> None:
    """All values, ticks and texts lie inside of the drawing, names and ticks don't stand on each other."""
    x, y = horizontal(chart), vertical(chart)
    for line in chart.lines:
        for point in line.points:
            assert 0 <= x.share(point.x) <= 1
            assert 0 <= y.share(point.y.least) <= y.share(point.y.most) <= 1
    for scale in (x, y):
        assert 2 <= len(scale.ticks) <= 8
        assert all(0 <= scale.share(value) <= 1 for value, _ in scale.ticks)
    root = ElementTree.fromstring(svg(chart))
    width, height = (float(size) for size in root.attrib["viewBox"].split()[2:])
    places = [(float(text.attrib["x"]), float(text.attrib["y"]), text) for text in root.iter("text")]
    for left, top, text in places:
        assert 0 < top < height
        if text.attrib["text-anchor"] == "start":
            assert left + 7.2 * len(text.text or "") < width, text.text
    names = sorted(top for _, top, text in places if text.attrib["class"].startswith("label"))
    assert all(after - before >= LABEL_GAP - 0.1 for before, after in pairwise(names))


def test_charts_need_something_to_compare() -> None:
    """Of one number of items with one number of workers there is no chart."""
    assert charts(findings(rows=(row(VARIANTS[0], 1.0), row(VARIANTS[3], 0.5)))) == []


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        (linear_ticks(0.0, 3.4), [0, 1, 2, 3]),
        (linear_ticks(0.0, 0.213), [0, 0.05, 0.1, 0.15, 0.2]),
        (log_ticks(0.0008, 0.3), [0.001, 0.01, 0.1]),
        (log_ticks(0.002, 0.04), [0.003, 0.01, 0.03]),
        (log_ticks(1.1, 1.4), [1.1, 1.4]),
        (thinned((1, 2, 4, 8, 16, 32), 1, 32, False), [1, 4, 8, 16, 32]),
    ],
)
def test_ticks_are_few_and_round(ticks: list[float], expected: list[float]) -> None:
    """Ticks are round numbers, few enough to be read, and as many as tell where values lie."""
    assert ticks == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wishes", "expected"), [([10, 50], [10, 50]), ([10, 12, 14], [10, 25, 40]), ([90, 95], [85, 100]), ([-5, 50], [0, 50])]
)
def test_labels_make_room_for_each_other(wishes: list[float], expected: list[float]) -> None:
    """Labels stand where they are wished for, or as near as leaves each its own line within the bounds."""
    assert spaced(wishes, gap=15, top=0, bottom=100) == expected


PICTURES = """
from pathlib import Path
from bench_command.made import findings, report, row
from bench_command.test_drawing import VARIANTS
from dataclasses import replace
from offloop.bench.pngs import write_pngs

serial, processes = VARIANTS[0], VARIANTS[3]
rows = (row(serial, 1.0), row(processes, 0.3), row(replace(processes, workers=1), 1.1))
(path,) = write_pngs(report(findings(name="../app:score", rows=rows)), Path("plots"))
print(path, path.read_bytes().startswith(bytes([137, 80, 78, 71])))
"""


def test_charts_are_drawn_as_pictures(tmp_path: Path) -> None:
    """A chart becomes a PNG file, named for its function and what it shows, in the folder that was named."""
    pytest.importorskip("matplotlib")
    done = scripts.run(PICTURES, cwd=tmp_path)  # not here, since matplotlib keeps its fonts open
    assert done.stdout.split() == ["plots/.._app_score-workers.png", "True"], done.stderr
