"""A chart as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from .charts import Chart, Guide, Line, Point
from .scales import Scale, horizontal, vertical

WIDTH, HEIGHT = 560, 334
LEFT, RIGHT, TOP, BOTTOM = 82, 124, 54, 50
_INNER_WIDTH = WIDTH - LEFT - RIGHT
_INNER_HEIGHT = HEIGHT - TOP - BOTTOM
LABEL_GAP = 15.0  # between lines of text
_CHAR = 6.3  # about the width of a character at 12 px


def svg(chart: Chart) -> str:
    """Return a chart as an SVG element, coloured by the classes of the page that it stands in."""
    x, y = horizontal(chart), vertical(chart)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">',
        _text(LEFT, 20, chart.title, "title"),
        *_axes(chart, x, y),
        *_guides(chart, x, y),
        *(part for number, line in enumerate(chart.lines) for part in _line(line, x, y, number)),
        *_point_labels(chart, x, y),
        *_names(chart, x, y),
        "</svg>",
    ]
    return "\n".join(parts)


def _left(value: float, scale: Scale) -> float:
    return LEFT + scale.share(value) * _INNER_WIDTH


def _top(value: float, scale: Scale) -> float:
    return TOP + (1 - scale.share(value)) * _INNER_HEIGHT


def _text(left: float, top: float, text: str, name: str, anchor: str = "start", turn: str = "") -> str:
    turned = f' transform="{turn}"' if turn else ""
    return f'<text x="{left:.1f}" y="{top:.1f}" class="{name}" text-anchor="{anchor}"{turned}>{escape(text)}</text>'


def _stroke(start: tuple[float, float], end: tuple[float, float], name: str) -> str:
    return f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" class="{name}"/>'


def _axes(chart: Chart, x: Scale, y: Scale) -> Iterator[str]:
    bottom, right = TOP + _INNER_HEIGHT, LEFT + _INNER_WIDTH
    for value, text in y.ticks:
        at = _top(value, y)
        yield _stroke((LEFT, at), (right, at), "grid")
        yield _text(LEFT - 8, at + 4, text, "tick", "end")
    for value, text in x.ticks:
        at = _left(value, x)
        yield _stroke((at, bottom), (at, bottom + 5), "axis")
        yield _text(at, bottom + 19, text, "tick", "middle")
    yield _stroke((LEFT, bottom), (right, bottom), "axis")
    yield _text(LEFT + _INNER_WIDTH / 2, HEIGHT - 10, chart.x.name, "name", "middle")
    middle = TOP + _INNER_HEIGHT / 2
    yield _text(14, middle, chart.y.name, "name", "middle", f"rotate(-90 14 {middle:.1f})")


def _guides(chart: Chart, x: Scale, y: Scale) -> Iterator[str]:
    for guide in chart.guides:
        if _is_upright(guide):
            at = _left(guide.start[0], x)
            yield _stroke((at, TOP - 4), (at, TOP + _INNER_HEIGHT), "guide")
            half = _width(guide.name) / 2
            inside = min(max(at, LEFT + half), LEFT + _INNER_WIDTH - half)
            yield _text(inside, TOP - 9, guide.name, "note", "middle")
        else:
            start, end = ((_left(left, x), _top(top, y)) for left, top in (guide.start, guide.end))
            yield _stroke(start, end, "guide")


def _is_upright(guide: Guide) -> bool:
    return guide.start[0] == guide.end[0]


def _line(line: Line, x: Scale, y: Scale, number: int) -> Iterator[str]:
    places = [(_left(point.x, x), _top(point.y.median, y)) for point in line.points]
    if line.is_joined:
        path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
        yield f'<polyline points="{path}" class="line {line.colour}"/>'
    for point, (left, top) in zip(line.points, places, strict=True):
        yield _stroke((left, _top(point.y.least, y)), (left, _top(point.y.most, y)), f"range {line.colour}")
        yield f'<g class="mark {line.colour}">{_mark(left, top, line.colour)}<title>{escape(_told(line, point, y))}</title></g>'


def _told(line: Line, point: Point, y: Scale) -> str:
    return f"{line.name}: {point.label or ''} {point.x:g}, {point.y.median:.4g} ({point.y.least:.4g} to {point.y.most:.4g})"


def _mark(left: float, top: float, colour: str) -> str:
    """Return a shape of its own for each colour, for those who can't tell these apart."""
    if colour == "processes":
        return f'<rect x="{left - 4:.1f}" y="{top - 4:.1f}" width="8" height="8"/>'
    corners = {"threads": ((0, -5), (5, 4), (-5, 4)), "auto": ((0, -6), (6, 0), (0, 6), (-6, 0))}.get(colour)
    if corners is None:
        return f'<circle cx="{left:.1f}" cy="{top:.1f}" r="4.2"/>'
    path = " ".join(f"{left + right:.1f},{top + down:.1f}" for right, down in corners)
    return f'<polygon points="{path}"/>'


def _point_labels(chart: Chart, x: Scale, y: Scale) -> Iterator[str]:
    """Write beside points what belongs there: above their range or below it, or nowhere where others stand already."""
    taken: list[tuple[float, float, float]] = []
    for line in chart.lines:
        for point in (point for point in line.points if point.label):
            half = _width(point.label) / 2
            middle = min(max(_left(point.x, x), LEFT + half - 16), LEFT + _INNER_WIDTH + 16 - half)
            above = min(_top(point.y.most, y), _top(point.y.median, y) - 4) - 6
            below = max(_top(point.y.least, y), _top(point.y.median, y) + 4) + 15
            for top in (above, below):
                is_inside = TOP + 4 <= top <= TOP + _INNER_HEIGHT - 2
                if is_inside and not any(abs(middle - at) < half + width + 8 and abs(top - level) < LABEL_GAP for at, level, width in taken):
                    taken.append((middle, top, half))
                    yield _text(middle, top, point.label, "note", "middle")
                    break


def _width(text: str) -> float:
    """Return about how wide a text is."""
    return len(text) * _CHAR


def _names(chart: Chart, x: Scale, y: Scale) -> Iterator[str]:
    """Write the name of each line and guide at its end, moved so that none stands on another."""
    right = LEFT + _INNER_WIDTH
    wanted = [(_top(line.points[-1].y.median, y), line.name, f"label {line.colour}") for line in chart.lines if line.is_joined]
    wanted += [(_top(guide.end[1], y), guide.name, "label plain") for guide in chart.guides if not _is_upright(guide)]
    wanted.sort()
    ends = max((_left(point.x, x) for line in chart.lines for point in line.points), default=right)
    for top, (wish, name, kind) in zip(spaced([wish for wish, *_ in wanted]), wanted, strict=True):
        yield _stroke((ends + 7, wish), (right + 12, top), "leader")
        yield _text(right + 15, top + 4, name, kind)


def spaced(wishes: Sequence[float], gap: float = LABEL_GAP, top: float = TOP, bottom: float = TOP + _INNER_HEIGHT) -> list[float]:
    """Return places near those that are wished for, ascending, but no closer to each other than the gap, and within bounds."""
    places: list[float] = []
    for wish in wishes:
        places.append(max(wish, places[-1] + gap) if places else max(wish, top))
    limit = bottom
    for number in range(len(places) - 1, -1, -1):
        places[number] = min(places[number], limit)
        limit = places[number] - gap
    return places
