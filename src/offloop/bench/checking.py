"""Whether what was asked for is what happened: the setting of a run took effect, and its results are right."""

from __future__ import annotations

import cmath
import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..cli.amounts import counted
from ..events import Event, ItemRetried, RunDecided, RunFellBack, RunFinished, WorkerDied
from ..model import Strategy
from .plan import PARALLEL, Variant
from .witness import Seen

PLAIN = frozenset({bool, bytes, float, int, str, type(None)})
ROUNDING = 2.0**-26  # of a float: half its digits, as Julia's isapprox has it, since BLAS with fewer threads sums in another order
NOTHING = 1e-12  # what is left of a float where larger ones cancel out; a guess
CHUNKS_IN_FLIGHT = 2  # per worker, as the explanation of chunks has it


@dataclass
class Told:
    """What a run told about itself.

    Attributes:
        decided: Where it was to execute, at each decision.
        finished: What became of it; None if it never said.
        mishaps: What else happened, in words.
    """

    decided: list[RunDecided] = field(default_factory=list)
    finished: RunFinished | None = None
    mishaps: list[str] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        """Take note of an event; a sink."""
        if isinstance(event, RunDecided):
            self.decided.append(event)
        elif isinstance(event, RunFinished):
            self.finished = event
        elif isinstance(event, RunFellBack):
            self.mishaps.append(f"fell back from {event.from_strategy} to {event.to_strategy}: {event.reason}")
        elif isinstance(event, WorkerDied):
            self.mishaps.append("a worker died")
        elif isinstance(event, ItemRetried):
            self.mishaps.append("an item was retried")

    @property
    def ran(self) -> str:
        """Where it executed at the end, and why, in a few words."""
        if not self.decided:
            return ""
        last = self.decided[-1]
        workers = f" ×{last.workers}" if last.strategy in PARALLEL else ""
        return f"{last.strategy}{workers}"

    @property
    def reason(self) -> str:
        """Why it executed there."""
        return self.decided[-1].reason if self.decided else ""


def complaints(variant: Variant, told: Told) -> list[str]:
    """Return how a run differs from what was asked for, as it tells itself."""
    found = list(dict.fromkeys(told.mishaps))
    if not told.decided or told.finished is None:
        return [*found, "it told nothing about where it executed"]
    if found or not variant.is_fixed:
        return found
    places = dict.fromkeys([*(decided.strategy for decided in told.decided), told.finished.strategy])
    if list(places) != [variant.strategy]:
        found.append(f"executed by {' then '.join(places)} ({told.reason})")
        return found
    last = told.decided[-1]
    if variant.strategy in PARALLEL and last.workers not in (variant.workers, _most_at_work(variant)):
        found.append(f"{counted(last.workers, 'worker')} instead of {variant.workers}")
    if variant.chunk_size is not None:
        most = CHUNKS_IN_FLIGHT * last.workers * variant.chunk_size
        if last.chunk_size != variant.chunk_size:
            found.append(f"chunks of {last.chunk_size} instead of {variant.chunk_size}")
        elif told.finished.peak_in_flight > most:
            found.append(f"{told.finished.peak_in_flight} items with workers at a time, more than {most}")
    return found


def sightings(variant: Variant, seen: Sequence[Seen]) -> list[str]:
    """Return how the places where items were seen differ from what was asked for."""
    own = os.getpid()
    places = _places(seen)
    elsewhere = {pid for pid, _ in places} - {own}
    if not variant.is_fixed or not places:
        return []
    if variant.strategy is Strategy.PROCESSES and any(pid == own for pid, _ in places):
        return ["items were seen in this process"]
    if variant.strategy is not Strategy.PROCESSES and elsewhere:
        return ["items were seen in other processes"]
    asked = variant.workers or 1
    too_many = [f"{len(places)} workers were seen instead of {asked}"] if len(places) > asked else []
    return [*too_many, *_torn_chunks(variant, seen)]


def idle_workers(variant: Variant, seen: Sequence[Seen]) -> str | None:
    """Return which workers had nothing to do, though there were items enough; None if all took part.

    That is as it was asked for: where work is short, one worker may be done with it before another has begun.
    """
    expected, at_work = _most_at_work(variant), len(_places(seen))
    return f"only {at_work} of {expected} workers took part" if variant.is_fixed and at_work < expected else None


def _places(seen: Sequence[Seen]) -> list[tuple[int, int]]:
    return list(dict.fromkeys((one.pid, one.thread) for one in seen))


def _most_at_work(variant: Variant) -> int:
    """Return how many workers have something to do."""
    return min(variant.workers or 1, -(-variant.n_items // (variant.chunk_size or 1)))


def _torn_chunks(variant: Variant, seen: Sequence[Seen]) -> Iterator[str]:
    size = variant.chunk_size
    if size is None:
        return
    starts = range(0, len(seen), size)
    torn = sum(len({(one.pid, one.thread) for one in seen[start : start + size]}) > 1 for start in starts)
    if torn:
        yield f"{torn} of {len(starts)} chunks were not executed in one piece"


def same(left: Any, right: Any) -> bool | None:
    """Whether two results are equal; None where that can't be told.

    Floats are equal up to rounding, in arrays too, and NaN equals NaN here. What has no equality of its own is equal if it
    pickles alike, and can't be compared if it doesn't.
    """
    if left is right:
        return True
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        kinds = list(map(type, left))
        if PLAIN.issuperset(kinds) and kinds == list(map(type, right)) and left == right:
            return True  # a hundred times as fast as by themselves
        return len(left) == len(right) and _all_same(zip(left, right, strict=True))
    if isinstance(left, dict):
        return left.keys() == right.keys() and _all_same((left[key], right[key]) for key in left)
    try:
        return _equal(left, right)
    except Exception:
        return _alike(left, right)


def _all_same(pairs: Any) -> bool | None:
    verdict: bool | None = True
    for left, right in pairs:
        one = same(left, right)
        if one is False:
            return False
        verdict = verdict and one
    return verdict


def _equal(left: Any, right: Any) -> bool | None:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(left, numpy.ndarray | numpy.inexact):
        if left.dtype != right.dtype or left.shape != right.shape:
            return False
        if left.dtype.kind not in "fc":
            return bool(numpy.array_equal(left, right))
        rounding = float(numpy.finfo(left.dtype).eps) ** 0.5
        largest = float(numpy.abs(left[numpy.isfinite(left)]).max(initial=0.0))
        return bool(numpy.allclose(left, right, rtol=rounding, atol=max(NOTHING, rounding * largest), equal_nan=True))
    if isinstance(left, float | complex):
        both_nan = left != left and right != right
        return left == right or both_nan or cmath.isclose(left, right, rel_tol=ROUNDING, abs_tol=NOTHING)
    if callable(getattr(left, "equals", None)):  # frames, series and Arrow tables
        return bool(left.equals(right))
    kind: Any = type(left)
    if kind.__eq__ is object.__eq__:
        return _alike(left, right)
    return bool(left == right) or bool(left != left and right != right)


def _alike(left: Any, right: Any) -> bool | None:
    """Whether two values pickle alike once both have travelled; None where they don't."""
    try:
        once, twice = (pickle.dumps(pickle.loads(pickle.dumps(value))) for value in (left, right))
    except Exception:
        return None
    return True if once == twice else None
