"""Results as a table to read."""

import math
from collections.abc import Mapping, Sequence

from .figures import Figure
from .goals import Verdict
from .outcomes import Outcome, ratios
from .quantiles import quantile

Row = Sequence[str]

UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))


def table(figure: Figure, outcomes: Mapping[str, Outcome], verdicts: Sequence[Verdict]) -> str:
    """One figure: entrants from fast to slow with our time as a share of theirs, goals, and who failed."""
    first, *others = figure.measures
    ours = outcomes.get(figure.entrants[0].label)
    measured = sorted(
        (outcome for outcome in outcomes.values() if outcome.samples),
        key=lambda outcome: outcome.value(first),
    )
    head = ["", title(first), "middle half", "ours ÷ it", *map(title, others)]
    rows = [head, *(_row(outcome, first, others, ours) for outcome in measured)]
    lines = [f"{figure.name}: {figure.title}", *aligned(rows)]
    lines += [f"  goal {goal_line(verdict)}" for verdict in verdicts]
    for outcome in outcomes.values():
        if outcome.failure:
            lines.append(f"  {outcome.entrant.label} dropped out: {outcome.failure}")
        if outcome.remarks:
            lines.append(f"  {outcome.entrant.label} decided: {' or '.join(sorted(set(outcome.remarks)))}")
        if outcome.killed:
            lines.append(f"  {outcome.entrant.label} left {outcome.killed} processes to be killed")
    return "\n".join(lines)


def _row(outcome: Outcome, first: str, others: Sequence[str], ours: Outcome | None) -> Row:
    value = outcome.value(first)
    low, high = outcome.middle_half(first)
    spread = f"{shown(low, first)} to {shown(high, first)}"
    by_round = ratios(ours, outcome, first, first) if ours and ours.samples else [math.nan]
    rest = [shown(outcome.value(measure), measure) for measure in others]
    return [outcome.entrant.label, shown(value, first), spread, ratio(quantile(by_round, 0.5)), *rest]


def goal_line(verdict: Verdict) -> str:
    """What was wanted, what was found, and whether that will do."""
    if verdict.decided is not None:
        return f"{verdict.goal}: {verdict.decided}, {'met' if verdict.met else 'missed'}"
    if verdict.found is None:
        return f"{verdict.goal}: not measured"
    found = shown(verdict.found, verdict.measure)
    if verdict.quartiles:
        found = f"{ratio(verdict.found)} ({' to '.join(map(ratio, verdict.quartiles))})"
    rival = f" {verdict.against}" if verdict.against and verdict.against not in verdict.goal else ""
    return f"{verdict.goal}{rival}: {found}, {'met' if verdict.met else 'missed'}"


def title(measure: str) -> str:
    """A measure's name as a column head: without its unit, which the values carry."""
    return measure.removesuffix("_s").replace("_", " ")


def shown(value: float, measure: str) -> str:
    """Three digits that count, with a unit where the measure is a time."""
    if math.isnan(value):
        return "–"
    if not measure.endswith("_s"):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    unit, size = next((fit for fit in UNITS if abs(value) >= fit[1]), UNITS[-1])
    digits = max(0, 2 - int(math.log10(max(abs(value) / size, 1.0))))
    return f"{value / size:.{digits}f} {unit}"


def ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def aligned(rows: Sequence[Row]) -> list[str]:
    """Names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
