"""The figure ``fault_cost``: what it costs to be ready for faults when nothing fails, against another revision."""

import io
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

from ..calibration import iterations_per_ms
from ..entrants import Assignment, Entrant
from ..goals import Verdict
from ..hosting import PYTHONPATH, ROOT, Guest
from ..quantiles import quantile
from ..report import aligned, goal_line, ratio, shown
from ..studies import Progress
from .instructions import counted, is_there

PAIRS, QUICK_PAIRS = 8, 2  # of processes, since no two are laid out alike
TURNS, QUICK_TURNS = 20, 4  # of each pair
RESAMPLES = 2_000
MOST = 1.02
TREES = ("this tree", "the other")


@dataclass
class Work:
    """What both revisions do by turns.

    Attributes:
        scenario: Its name as a scenario.
        title: Its name to read.
        measure: The scenario's measure that counts.
        pairs: For each pair of processes, both times of every turn.
        instructions: What each revision needed for a turn, where that can be counted.
    """

    scenario: str
    title: str
    measure: str
    pairs: list[list[tuple[float, float]]] = field(default_factory=list)
    instructions: tuple[int, int] | None = None

    def ratios(self) -> list[list[float]]:
        """This tree's time as a share of the other's, by pair of processes."""
        return [[mine / theirs for mine, theirs in turns] for turns in self.pairs]

    def verdict(self, chance: random.Random) -> Verdict:
        """Met where even the upper end of the interval is within the limit."""
        by_pair = self.ratios()
        low, high = interval(by_pair, chance)
        return Verdict(
            goal=f"{self.title} ≤ {MOST:g} × the other, 95 % interval",
            met=high <= MOST,
            found=median(chain(*by_pair)),
            quartiles=(low, high),
        )


def interval(by_pair: Sequence[Sequence[float]], chance: random.Random) -> tuple[float, float]:
    """Return the 95 % interval of the median by bootstrap: pairs of processes are drawn first, then turns of each."""
    medians = [
        median(
            value
            for pair in chance.choices(by_pair, k=len(by_pair))
            for value in chance.choices(pair, k=len(pair))
        )
        for _ in range(RESAMPLES)
    ]
    return quantile(medians, 0.025), quantile(medians, 0.975)


class FaultCost:
    """Lets both revisions take turns, each in a process that stays for a while, and counts instructions if it can."""

    name = "fault_cost"
    title = "what faults cost when there are none: this tree against another revision, 2 warm workers"

    def __init__(self) -> None:
        self._works = [
            Work("round_trip", "an empty call", "call_s"),
            Work("short_items", "2,000 items of 50 µs", "wall_s"),
            Work("tiny", "100,000 items of 0.1 µs", "wall_s"),
        ]
        self._remark = "not measured: it takes --against REVISION"
        self._seed = 0

    def run(self, options: Namespace, chance: random.Random, progress: Progress) -> None:
        """Measure both, if there is another revision."""
        if not options.against:
            return
        self._seed = chance.randrange(1 << 32)
        with tempfile.TemporaryDirectory() as folder:
            trees = two_trees(Path(folder), options.against)
            self._remark = f"against {revision(options.against)}"
            self._take_turns(trees, options, chance, progress)
            if is_there():
                progress("counting instructions")
                for work in self._works:
                    mine, theirs = (counted(_assignment(work, options), [tree]) for tree in trees)
                    work.instructions = (mine, theirs)

    def _take_turns(
        self, trees: tuple[Path, Path], options: Namespace, chance: random.Random, progress: Progress
    ) -> None:
        pairs = options.rounds or (QUICK_PAIRS if options.quick else PAIRS)
        turns = QUICK_TURNS if options.quick else TURNS
        for number in range(pairs):
            for work in chance.sample(self._works, len(self._works)):
                progress(f"pair {number + 1} of {pairs}: {work.title}")
                assignment = _assignment(work, options)
                work.pairs.append(list(_turns(assignment, work.measure, trees, turns, chance)))

    def lines(self) -> list[str]:
        """One row for each work, then the goals."""
        done = [work for work in self._works if work.pairs]
        head = ["", *TREES, "÷", "instructions ÷"]
        return [
            f"  {self._remark}",
            *(aligned([head, *map(_row, done)]) if done else ()),
            *(f"  goal {goal_line(verdict)}" for verdict in self._verdicts()),
        ]

    def record(self) -> dict[str, Any]:
        """Every turn."""
        return {
            "remark": self._remark,
            "works": [asdict(work) for work in self._works],
            "goals": [asdict(verdict) for verdict in self._verdicts()],
        }

    def _verdicts(self) -> list[Verdict]:
        chance = random.Random(self._seed)
        return [work.verdict(chance) for work in self._works if work.pairs]


def _row(work: Work) -> list[str]:
    mine, theirs = (median(turn[side] for turns in work.pairs for turn in turns) for side in (0, 1))
    share = ratio(work.instructions[0] / work.instructions[1]) if work.instructions else "–"
    times = [shown(mine, work.measure), shown(theirs, work.measure)]
    return [work.title, *times, ratio(median(chain(*work.ratios()))), share]


def _assignment(work: Work, options: Namespace) -> Assignment:
    return Assignment(
        entrant=Entrant(contender="offloop"),
        scenario=work.scenario,
        workers=options.workers,
        iterations_per_ms=iterations_per_ms(),
        seconds=options.seconds,
    )


def _turns(
    assignment: Assignment, measure: str, trees: tuple[Path, Path], turns: int, chance: random.Random
) -> Iterator[tuple[float, float]]:
    """Have one process of each tree take turns in an order by chance, after one that doesn't count."""
    with (
        closing(Guest(assignment, folders=[trees[0]])) as mine,
        closing(Guest(assignment, folders=[trees[1]])) as theirs,
    ):
        for number in range(turns + 1):
            times = {}
            for guest in chance.sample((mine, theirs), 2):
                times[guest] = median(guest.sample()[measure])
            if number:
                yield times[mine], times[theirs]


def two_trees(folder: Path, other: str) -> tuple[Path, Path]:
    """Put the sources of this tree, as they are now, and of another revision into a folder."""
    here, there = folder / "here", folder / "there"
    shutil.copytree(ROOT / "src", here, ignore=shutil.ignore_patterns("__pycache__"))
    archive = subprocess.run(
        ["git", "archive", other, "src"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(there, filter="data")
    trees = (here, there / "src")
    for tree in trees:
        check_home(tree)
    return trees


def check_home(tree: Path) -> None:
    """Prove that a process with this tree before others on its path has its offloop from there."""
    found = subprocess.run(
        [sys.executable, "-c", "import offloop; print(offloop.__file__)"],
        env={"PYTHONPATH": f"{tree}:{PYTHONPATH}"},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    if not Path(found.strip()).is_relative_to(tree):
        raise RuntimeError(f"offloop comes from {found.strip()}, not from {tree}")


def revision(name: str) -> str:
    """Return the beginning of a revision's own number, with what it says."""
    command = ["git", "log", "-1", "--format=%h %s", name]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.strip()
