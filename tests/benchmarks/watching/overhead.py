"""The figure ``overhead``: what it costs that a run is watched, by progress, metrics or spans."""

import json
import os
import random
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from statistics import median
from typing import Any

from ..faults.cost import interval
from ..goals import Verdict
from ..hosting import PYTHONPATH, ROOT
from ..report import aligned, goal_line, ratio, shown
from ..studies import Progress

PROCESSES, QUICK_PROCESSES = 6, 2
TURNS, QUICK_TURNS = 20, 6
LIMIT_S = 300.0
PROGRAM = f"{__package__}.program"

TITLES = {
    "tiny": "100,000 items of 0.1 µs, auto",
    "tiny_processes": "100,000 items of 0.1 µs, processes",
    "short_items": "4,000 items of 50 µs",
    "long_items": "40 items of 5 ms",
    "calls": "50 calls of 2 ms",
    "empty_calls": "500 empty calls",
}


@dataclass
class Pair:
    """One kind of work, watched in one way.

    Attributes:
        work: Its name in the program.
        watcher: Likewise.
        most: The goal; None where none was set.
        turns: For each process, both times of every turn: watched, unwatched.
    """

    work: str
    watcher: str
    most: float | None = None
    turns: list[list[tuple[float, float]]] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Return it to read."""
        return f"{TITLES[self.work]}, {self.watcher}"

    def ratios(self) -> list[list[float]]:
        """Return the watched time as a share of the unwatched, by process."""
        return [[watched / alone for watched, alone in turns] for turns in self.turns]


class Overhead:
    """Has each kind of work done watched and unwatched by turns, in several processes."""

    name = "overhead"
    title = "what it costs that a run is watched, 2 warm workers"

    def __init__(self) -> None:
        self._pairs = [
            *(Pair(work, watcher, 1.02) for work in ("tiny", "tiny_processes") for watcher in ("function", "text")),
            *(
                Pair(work, watcher, None if work == "empty_calls" else 1.03)
                for watcher in ("prometheus", "opentelemetry")
                for work in ("tiny", "short_items", "long_items", "calls", "empty_calls")
            ),
        ]
        self._seed = 0

    def run(self, options: Namespace, chance: random.Random, progress: Progress) -> None:
        """Measure all."""
        self._seed = chance.randrange(1 << 32)
        processes = options.rounds or (QUICK_PROCESSES if options.quick else PROCESSES)
        turns = QUICK_TURNS if options.quick else TURNS
        for number in range(processes):
            for pair in chance.sample(self._pairs, len(self._pairs)):
                progress(f"process {number + 1} of {processes}: {pair.title}")
                pair.turns.append(_measured(pair, turns, options.workers, chance.randrange(1 << 32)))

    def lines(self) -> list[str]:
        """One row for each pair, then the goals."""
        done = [pair for pair in self._pairs if pair.turns]
        head = ["", "watched", "unwatched", "÷", "95 % interval"]
        return [*aligned([head, *map(self._row, done)]), *(f"  goal {goal_line(one)}" for one in self._verdicts())]

    def _row(self, pair: Pair) -> list[str]:
        watched, alone = (median(turn[side] for turns in pair.turns for turn in turns) for side in (0, 1))
        low, high = self._interval(pair)
        middle = ratio(median(chain(*pair.ratios())))
        return [pair.title, shown(watched, "wall_s"), shown(alone, "wall_s"), middle, f"{low:.3f} to {high:.3f}"]

    def record(self) -> dict[str, Any]:
        """Every turn."""
        return {
            "pairs": [asdict(pair) for pair in self._pairs],
            "goals": [asdict(verdict) for verdict in self._verdicts()],
        }

    def _interval(self, pair: Pair) -> tuple[float, float]:
        return interval(pair.ratios(), random.Random(self._seed))

    def _verdicts(self) -> Sequence[Verdict]:
        return [
            Verdict(
                goal=f"{pair.title} ≤ {pair.most:g} × unwatched, 95 % interval",
                met=(ends := self._interval(pair))[1] <= pair.most,
                found=median(chain(*pair.ratios())),
                quartiles=ends,
            )
            for pair in self._pairs
            if pair.turns and pair.most is not None
        ]


def _measured(pair: Pair, turns: int, workers: int, seed: int) -> list[tuple[float, float]]:
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-m", PROGRAM, pair.work, pair.watcher, str(turns), str(workers), str(seed)],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{pair.title}: {done.stderr}")
    return [(watched, alone) for watched, alone in json.loads(done.stdout)]
