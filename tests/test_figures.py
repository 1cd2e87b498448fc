"""docs/draw_figures.py: the figures show what the performance page says."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import scripts

ROOT = Path(__file__).parent.parent
SCRIPT = scripts.imported(ROOT / "docs" / "draw_figures.py")
FIGURES: dict[str, str] = SCRIPT.figures()
PAGE = f"""before

{SCRIPT.HEAD}
|---|---|---|---|---|---|---|
| 5 × 1 µs & <more> | 100 µs | 0.2 ms | 1 s | **1.91** | **1.25** | 1 |

after
"""


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_current(name: str) -> None:
    """A figure is what the script draws of today's tables; `python docs/draw_figures.py` mends it."""
    assert (SCRIPT.EXPLANATION / name).read_text(encoding="utf-8") == FIGURES[name]


def test_the_script_writes_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as a program it writes every figure that it draws."""
    monkeypatch.setattr(SCRIPT, "figures", lambda: {"one.svg": "drawn"})
    monkeypatch.setattr(SCRIPT, "EXPLANATION", tmp_path)
    SCRIPT.main()
    assert (tmp_path / "one.svg").read_text(encoding="utf-8") == "drawn"


def test_rows_are_read_as_they_are_written() -> None:
    """Times in any unit are told as multiples of the best of the three; auto's is taken as it stands."""
    (cell,) = SCRIPT.cells(PAGE)
    assert cell.ratios == {"serial": 1.0, "threads": pytest.approx(2.0), "processes": pytest.approx(1e4), "auto": 1.25}


def test_a_table_that_is_not_there_is_told() -> None:
    """A performance page with other columns is an error, not an empty figure."""
    with pytest.raises(ValueError, match="isn't there"):
        SCRIPT.cells(PAGE.replace("later", "then"))


@pytest.mark.parametrize("name", FIGURES)
def test_every_mark_lies_within_its_figure(name: str) -> None:
    """A figure is well-formed XML, has its words for those who can't see it, and cuts nothing off."""
    root = ET.fromstring(FIGURES[name])
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    places = [(float(node.attrib[x]), float(node.attrib[y])) for node in root for x, y in (("x", "y"), ("cx", "cy")) if x in node.attrib]
    assert [(x, y) for x, y in places if not (0 <= x <= width and 0 <= y <= height)] == []
    assert [child.tag.rpartition("}")[2] for child in root][:2] == ["title", "desc"]
