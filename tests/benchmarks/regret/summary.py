"""The cells of a run as tables, and whether the goals are met."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median

from ..goals import Verdict
from ..report import aligned, goal_line, ratio, shown
from .modes import MODES, Mode
from .trial import Standing

WORST_SHOWN = 6


def lines(standings: Sequence[Standing]) -> list[str]:
    """Every cell, the worst ones of each mode, the goals."""
    names = {mode: mode.name.replace("_", " ") for mode in MODES}
    head = ["", "serial", "threads", "processes"]
    head += [part for mode in MODES for part in (names[mode], "÷ best")]
    head.append("others busy")
    text = aligned([head, *map(_row, standings)])
    for mode in MODES:
        text += ["", f"  {names[mode]}: where it is worst"]
        worst = sorted(standings, key=lambda standing: -standing.regret(mode))[:WORST_SHOWN]
        text += [f"  {line}" for line in aligned([_choice(standing, mode) for standing in worst])]
    text.append("")
    return text + [f"  goal {goal_line(verdict)}" for verdict in verdicts(standings)]


def _row(standing: Standing) -> list[str]:
    row = [standing.cell.label]
    for family in ("serial", "threads", "processes"):
        row.append(_family_time(standing, family))
    for mode in MODES:
        row += [shown(standing.time_s(mode.name), "_s"), ratio(standing.regret(mode))]
    row.append(f"{median(standing.others):.2f} cores")
    return row


def _family_time(standing: Standing, family: str) -> str:
    """The family's median; in brackets its best rehearsal, where it was left at that."""
    for label, its_family in standing.families.items():
        if its_family == family:
            return shown(standing.time_s(label), "_s")
    tried = [seconds for label, seconds in standing.rehearsal_s.items() if label.startswith(family)]
    return f"({shown(min(tried), '_s')})" if tried else "–"


def _choice(standing: Standing, mode: Mode) -> list[str]:
    """A cell with what was chosen on it and what would have been better, all as text of the first column."""
    chosen, best = standing.decided(mode), standing.best(mode)
    found = f"{ratio(standing.regret(mode))}  {standing.cell.label}: {chosen} {shown(standing.time_s(mode.name), '_s')}"
    return [f"{found}; best {best} {shown(standing.time_s(best), '_s')}"]


def mean(standings: Sequence[Standing], mode: Mode) -> float:
    """The geometric mean of regret."""
    return math.exp(sum(math.log(standing.regret(mode)) for standing in standings) / len(standings))


def verdicts(standings: Sequence[Standing]) -> list[Verdict]:
    """Hold each mode against its goals."""
    found: list[Verdict] = []
    for mode in MODES if standings else ():
        values = {
            f"{mode.name}: geometric mean ≤ {mode.goals.mean:g}": (mean(standings, mode), mode.goals.mean),
            f"{mode.name}: worst ≤ {mode.goals.worst:g}": (
                max(standing.regret(mode) for standing in standings),
                mode.goals.worst,
            ),
        }
        for goal, (value, limit) in values.items():
            found.append(
                Verdict(goal=goal, met=value <= limit, found=value, quartiles=_quartiles(standings, mode))
            )
    return found


def _quartiles(standings: Sequence[Standing], mode: Mode) -> tuple[float, float]:
    """The middle half of the cells."""
    values = sorted(standing.regret(mode) for standing in standings)
    return values[len(values) // 4], values[(3 * len(values)) // 4]


def record(standings: Sequence[Standing]) -> dict[str, object]:
    """All cells and verdicts, for JSON."""
    return {
        "cells": [standing.record() for standing in standings],
        "goals": [asdict(verdict) for verdict in verdicts(standings)],
    }
