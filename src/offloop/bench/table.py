"""The figures of a bench as a table on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..cli.amounts import counted
from ..cli.terminal import Style, Terminal
from ..model import readable
from .outcomes import Findings, Regret, Row, Spread, mean_regret
from .plan import LEAST_ROUNDS

HEADERS = ("items", "where", "chunk", "median", "range", "× serial", "")
RIGHT = (0, 2, 3, 4, 5)


def show(terminal: Terminal, findings: Findings) -> None:
    """Print what was found of one function."""
    described = f": {findings.description}" if findings.description else ""
    terminal.say(f"{findings.name}{described}", Style.STRONG)
    rows = ordered(findings)
    told = remarks(rows)
    terminal.table(HEADERS, [cells(findings, row, told) for row in rows], right=RIGHT)
    for number, remark in enumerate(told, 1):
        terminal.say(f"{number}: {remark}", Style.CAREFUL, indent=2, hanging=5)
    for line in conclusions(findings):
        terminal.say(line, indent=2, hanging=4)
    for note in (*findings.notes, *left_out(findings)):
        terminal.say(note, Style.FAINT, indent=2, hanging=4)


def ordered(findings: Findings) -> list[Row]:
    """Return the rows as they are read: the most items first, then by strategy, workers and chunk size."""
    places = ("serial", "auto", "processes", "threads")
    return sorted(
        findings.rows,
        key=lambda row: (
            -row.variant.n_items,
            places.index(row.variant.strategy),
            row.variant.is_first,
            row.variant.workers or 0,
            row.variant.chunk_size or 0,
        ),
    )


def remarks(rows: Sequence[Row]) -> list[str]:
    """Return what is to be said of rows, each once."""
    return list(dict.fromkeys(remark for row in rows for remark in _remarks(row)))


def _remarks(row: Row) -> Iterator[str]:
    if row.error is not None:
        yield f"failed: {row.error}"
    for complaint in row.complaints:
        yield complaint if not row.variant.is_fixed else f"not as asked for: {complaint}"
    if row.remark is not None:
        yield row.remark


def cells(findings: Findings, row: Row, told: Sequence[str]) -> tuple[str, ...]:
    """Return the cells of a row.

    Args:
        findings: What the row belongs to.
        row: The row.
        told: All remarks, which its last cell gives by number.
    """
    variant = row.variant
    where = variant.where
    if not variant.is_fixed and row.ran:
        where = f"{where} → {row.ran}"
    marks = ",".join(str(told.index(remark) + 1) for remark in _remarks(row))
    sign = "✗" if row.error else "!" if row.complaints else "*" if marks else ""
    chunk = str(variant.chunk_size) if variant.chunk_size else "–"
    time, gain = row.time_s, findings.speed_up(row) if row.error is None else None
    return (
        f"{variant.n_items:,}",
        where,
        chunk,
        readable(time.median) if time else "–",
        shown_range(time) if time else "–",
        f"{gain.median:.2f}" if gain else "–",
        f"{sign}{marks}",
    )


def shown_range(time: Spread) -> str:
    """Return the least and the most of a time, in one unit where both have the same."""
    least, most = readable(time.least), readable(time.most)
    number, _, unit = least.partition(" ")
    return f"{number}–{most}" if most.endswith(f" {unit}") else f"{least}–{most}"


def conclusions(findings: Findings) -> list[str]:
    """Return what follows from the rows, in sentences."""
    found = [findings.verdict] if findings.verdict else []
    regrets = findings.regrets()
    if regrets:
        worst = max(regrets, key=lambda regret: regret.ratio.median)
        found.append(
            f"auto took {mean_regret(regrets):.2f}× the time of the best fixed setting on average, "
            f"at worst {worst.ratio.median:.2f}× ({told_regret(worst)})"
        )
    return found


def told_regret(regret: Regret) -> str:
    """Return what was chosen and what would have been best."""
    return f"{counted(regret.n_items, 'item')}: {regret.chosen}, best {regret.best}"


def left_out(findings: Findings) -> list[str]:
    """Return what was not measured, in sentences, and how often the rest was."""
    rounds = f"{counted(findings.rounds, 'round')} in {readable(findings.wall_s)}"
    if findings.rounds < LEAST_ROUNDS:
        rounds += ", too few to rely on"
    if not findings.left_out:
        return [rounds]
    n_all = len(findings.left_out) + len(findings.rows)
    return [f"{rounds}; no time for {len(findings.left_out)} of {n_all} variants, such as {findings.left_out[0]}: raise --budget-s"]
