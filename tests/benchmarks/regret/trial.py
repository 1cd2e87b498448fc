"""One cell measured: rivals and modes by turns, in rounds."""

import gc
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

from .cells import Cell
from .clock import sample_s
from .items import load
from .modes import FIRST, LATER, LATER_UNSAFE, MODES, Asked, Learned, Mode, first_s, warmed
from .neighbours import Neighbours
from .rivals import LONG_S, Pools, Rival
from .work import alias

MOST_ROUNDS = 9
LEAST_ROUNDS = 3
ENOUGH_ROUNDS_S = 5.0  # after the least rounds no further one begins
LOST = 5.0
HOPELESS = 1.6  # a family this far behind the best one in the rehearsal takes no part in the rounds


@dataclass
class Standing:
    """What was measured of one cell.

    Attributes:
        rehearsal_s: Each rival's first time, by its label; these choose who enters the rounds.
        samples_s: Seconds of each round, by the name of a mode or the label of a rival.
        families: The family of each rival in the rounds, by its label.
        asked: What each mode decided, by its name.
        spent_s: Seconds that measuring it took.
        others: Cores that other programs kept busy in each round.
    """

    cell: Cell
    rehearsal_s: dict[str, float] = field(default_factory=dict)
    samples_s: dict[str, list[float]] = field(default_factory=dict)
    families: dict[str, str] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    spent_s: float = 0.0
    others: list[float] = field(default_factory=list)

    def counted_s(self, name: str) -> list[float]:
        """The samples of the quieter half of the rounds, of three at least."""
        by_noise = sorted(range(len(self.others)), key=self.others.__getitem__)
        counted = sorted(by_noise[: max(LEAST_ROUNDS, math.ceil(len(by_noise) / 2))])
        return [self.samples_s[name][number] for number in counted]

    def time_s(self, name: str) -> float:
        """The median over the rounds that count."""
        return median(self.counted_s(name))

    def best(self, mode: Mode) -> str:
        """The label of the fastest rival that had the same means."""
        return min(
            (label for label, family in self.families.items() if mode.may_use(family)), key=self.time_s
        )

    def regret(self, mode: Mode) -> float:
        """The median over the rounds that count, of our time as a share of the best rival's in the same round."""
        rival_s = self.counted_s(self.best(mode))
        return median(mine / theirs for mine, theirs in zip(self.counted_s(mode.name), rival_s, strict=True))

    def decided(self, mode: Mode) -> str:
        """What was decided, most often first."""
        seen = self.asked[mode.name].decisions
        return " or ".join(sorted(set(seen), key=lambda text: (-seen.count(text), text)))

    def record(self) -> dict[str, Any]:
        """Everything, for JSON."""
        modes = {
            mode.name: {
                "regret": self.regret(mode),
                "time_s": self.time_s(mode.name),
                "best": self.best(mode),
                "decisions": self.asked[mode.name].decisions,
                "opening_s": self.asked[mode.name].opening_s,
            }
            for mode in MODES
        }
        return {
            "cell": vars(self.cell),
            "label": self.cell.label,
            "spent_s": self.spent_s,
            "others": self.others,
            "rehearsal_s": self.rehearsal_s,
            "samples_s": self.samples_s,
            "modes": modes,
        }


async def measured(cell: Cell, pools: Pools, chance: random.Random) -> Standing:
    """Measure one cell."""
    standing = Standing(cell)
    work = load(cell)
    rivals = pools.rivals(cell, alias(work.original, 0), work.items)
    entered = await rehearsed(rivals, standing)
    async with AsyncExitStack() as stack:
        samplers: dict[str, Callable[[], Awaitable[float]]] = {}
        for rival in entered:
            samplers[rival.label] = partial(sample_s, rival.call)
            standing.families[rival.label] = rival.family
        expected = await entered[0].call()
        for mode in (LATER, LATER_UNSAFE):
            session = await stack.enter_async_context(warmed(pools.workers))
            learned = Learned(Asked(mode), session, work)
            check(await learned.learn(), expected, cell)
            standing.asked[mode.name] = learned.asked
            samplers[mode.name] = learned.sample_s
        standing.asked[FIRST.name] = Asked(FIRST)
        samplers[FIRST.name] = partial(first_s, standing.asked[FIRST.name], work, pools.workers)
        await take_rounds(samplers, standing, chance)
    return standing


async def rehearsed(rivals: list[Rival], standing: Standing) -> list[Rival]:
    """Try every rival once; return the best of each family, without families that have no chance."""
    for rival in rivals:
        if _has_lost(rival.family, standing):
            continue
        if standing.cell.serial_s <= LONG_S:
            await rival.call()
        standing.rehearsal_s[rival.label] = await sample_s(rival.call)
    best: dict[str, Rival] = {}
    tried = [rival for rival in rivals if rival.label in standing.rehearsal_s]
    for rival in sorted(tried, key=lambda rival: standing.rehearsal_s[rival.label]):
        best.setdefault(rival.family, rival)
    limit_s = HOPELESS * min(standing.rehearsal_s.values())
    # Serial always stays: it is what everything is read against, and beside threads the unsafe mode has no other.
    return [
        rival
        for rival in best.values()
        if rival.family == "serial"
        or standing.rehearsal_s[rival.label] <= limit_s
        or _is_best_unsafe(rival, standing)
    ]


def _has_lost(family: str, standing: Standing) -> bool:
    """Whether a family is so far behind with two chunk sizes already that no third will save it."""
    tried = [seconds for label, seconds in standing.rehearsal_s.items() if label.startswith(family)]
    return len(tried) > 1 and min(tried) > LOST * min(standing.rehearsal_s.values())


def _is_best_unsafe(rival: Rival, standing: Standing) -> bool:
    """Whether processes are to be had in the rounds since only threads beat them."""
    others = [seconds for label, seconds in standing.rehearsal_s.items() if not label.startswith("threads")]
    return rival.family == "processes" and standing.rehearsal_s[rival.label] <= HOPELESS * min(others)


async def take_rounds(
    samplers: dict[str, Callable[[], Awaitable[float]]], standing: Standing, chance: random.Random
) -> None:
    """Let all take a sample in every round, each round in an order of its own."""
    began_s = perf_counter()
    neighbours = Neighbours()
    for number in range(MOST_ROUNDS):
        if number >= LEAST_ROUNDS and perf_counter() - began_s > ENOUGH_ROUNDS_S:
            break
        for name in chance.sample(sorted(samplers), len(samplers)):
            gc.collect()
            standing.samples_s.setdefault(name, []).append(await samplers[name]())
        standing.others.append(neighbours.busy_cores())


def check(results: list[Any], expected: list[Any], cell: Cell) -> None:
    """Refuse to time what returns something else."""
    if results != expected:
        raise AssertionError(f"wrong results on {cell.label}")
