"""The figure ``cold_auto``: a program's first call, beside the same program that runs serial."""

import json
import random
from argparse import Namespace
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ..calibration import iterations_per_ms
from ..goals import Verdict
from ..quantiles import quantile
from ..report import aligned, goal_line, ratio, shown
from ..scripts import run_python
from ..studies import Progress

TOTALS_MS = (20, 100, 300, 1_000, 5_000)
ITEMS_MS = (1, 20)
ROUNDS, LONG_ROUNDS, QUICK_ROUNDS = 9, 3, 2
LONG_MS = 1_000
CANONICAL_PROGRAM = f"{__package__.rpartition('.')[0]}.canonical.program"
MOST = 1.3  # times serial, on every workload
GAIN = 1.6  # on what lasts longest, with two cores

PROGRAMS = ("offloop", "serial")


@dataclass
class Workload:
    """What both programs run, and what they took for it in each round.

    Attributes:
        label: Its name.
        total_ms: About how long it takes serial.
        least_gain: How many times as fast as serial ours has to be; None: as long as it isn't much slower.
    """

    label: str
    total_ms: int
    least_gain: float | None
    call_s: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PROGRAMS})
    wall_s: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PROGRAMS})

    import_s: list[float] = field(default_factory=list)

    def arguments(self, program: str, turns_per_ms: int, *, is_quick: bool) -> list[str]:
        """Return what to have the interpreter run."""
        raise NotImplementedError

    def ratios(self, samples_s: dict[str, list[float]]) -> list[float]:
        """Ours as a share of serial, round by round."""
        return [mine / theirs for mine, theirs in zip(samples_s["offloop"], samples_s["serial"], strict=True)]


@dataclass
class Spinning(Workload):
    """Items of one length, of a function of the program's own."""

    item_ms: int = 1

    def arguments(self, program: str, turns_per_ms: int, *, is_quick: bool) -> list[str]:
        script = Path(__file__).with_name(f"{program}_program.py")
        return [str(script), str(self.item_ms * turns_per_ms), str(self.total_ms // self.item_ms)]


@dataclass
class Canonical(Workload):
    """One of the canonical workloads."""

    def arguments(self, program: str, turns_per_ms: int, *, is_quick: bool) -> list[str]:
        return ["-m", CANONICAL_PROGRAM, program, self.label, *(["quick"] if is_quick else [])]


def spinning(item_ms: int, total_ms: int) -> Spinning:
    """Make the workload of so many milliseconds in items of so many."""
    return Spinning(
        label=f"{total_ms // item_ms:,} × {item_ms} ms",
        total_ms=total_ms,
        least_gain=GAIN if total_ms == max(TOTALS_MS) else None,
        item_ms=item_ms,
    )


class ColdAuto:
    """Runs both programs by turns."""

    name = "cold_auto"
    title = "a cold program's first call, from before `import offloop` to the results; the program as a whole"

    def __init__(self) -> None:
        self._workloads: list[Workload] = [
            spinning(item_ms, total_ms) for item_ms in ITEMS_MS for total_ms in TOTALS_MS
        ]
        self._workloads.append(Canonical(label="pr_auc_bootstrap", total_ms=10_000, least_gain=GAIN))

    def run(self, options: Namespace, chance: random.Random, progress: Progress) -> None:
        """Take all rounds; the longest workloads take part in fewer."""
        turns_per_ms = iterations_per_ms()
        if options.quick:  # too little is left of it to be gained back
            self._workloads[-1].least_gain = None
        rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
        for number in range(rounds):
            for workload in self._workloads:
                if workload.total_ms >= LONG_MS and number >= LONG_ROUNDS:
                    continue
                progress(f"round {number + 1} of {rounds}: {workload.label}")
                for name in chance.sample(PROGRAMS, len(PROGRAMS)):
                    wall_s, printed = run_python(
                        *workload.arguments(name, turns_per_ms, is_quick=options.quick)
                    )
                    workload.wall_s[name].append(wall_s)
                    times_s = json.loads(printed)
                    workload.call_s[name].append(times_s["call_s"])
                    if "import_s" in times_s:
                        workload.import_s.append(times_s["import_s"])

    def lines(self) -> list[str]:
        """One row for each workload, then the goals."""
        head = [
            "",
            "serial call",
            "offloop call",
            "of it import",
            "÷ serial",
            "serial whole",
            "offloop whole",
            "÷ serial",
        ]
        done = self._measured()
        return [
            *aligned([head, *map(_row, done)]),
            *(f"  goal {goal_line(verdict)}" for verdict in self._verdicts()),
        ]

    def record(self) -> dict[str, Any]:
        """Every sample."""
        return {
            "workloads": [asdict(workload) for workload in self._measured()],
            "goals": [asdict(verdict) for verdict in self._verdicts()],
        }

    def _measured(self) -> list[Workload]:
        return [workload for workload in self._workloads if all(workload.call_s.values())]

    def _verdicts(self) -> list[Verdict]:
        verdicts = []
        for workload in self._measured():
            limit = 1 / workload.least_gain if workload.least_gain else MOST
            by_round = workload.ratios(workload.call_s)
            found = quantile(by_round, 0.5)
            quartiles = (quantile(by_round, 0.25), quantile(by_round, 0.75))
            goal = f"{workload.label}: call ≤ {limit:.3g} × serial"
            verdicts.append(Verdict(goal=goal, met=found <= limit, found=found, quartiles=quartiles))
        return verdicts


def _row(workload: Workload) -> list[str]:
    row = [workload.label]
    for samples_s in (workload.call_s, workload.wall_s):
        row += [shown(median(samples_s[name]), "_s") for name in ("serial", "offloop")]
        if samples_s is workload.call_s:
            row.append(shown(median(workload.import_s), "_s") if workload.import_s else "–")
        row.append(ratio(quantile(workload.ratios(samples_s), 0.5)))
    return row
