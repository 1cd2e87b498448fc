"""Whether a setting took effect, and whether results are right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from offloop.bench.checking import Told, complaints, idle_workers, same, sightings
from offloop.bench.plan import Variant
from offloop.bench.witness import Seen, Witness
from offloop.events import RunDecided, RunFellBack, RunFinished, WorkerDied
from offloop.model import Strategy

PROCESSES = Variant(n_items=40, strategy=Strategy.PROCESSES, workers=2, chunk_size=5)
SERIAL = Variant(n_items=40, strategy=Strategy.SERIAL)
AUTO = Variant(n_items=40, strategy=Strategy.AUTO)


def decided(strategy: str = "processes", workers: int = 2, chunk_size: int | None = 5, reason: str = "explicit") -> RunDecided:
    plain = {field.name: None for field in fields(RunDecided)}
    return RunDecided(**plain | {"strategy": strategy, "workers": workers, "chunk_size": chunk_size, "reason": reason})  # type: ignore[arg-type]


def finished(strategy: str = "processes", peak: int = 20) -> RunFinished:
    plain = {field.name: None for field in fields(RunFinished)}
    return RunFinished(**plain | {"strategy": strategy, "peak_in_flight": peak})  # type: ignore[arg-type]


FELL_BACK = RunFellBack(from_strategy="processes", to_strategy="serial", reason="unpicklable_fn", fn="fn")
DIED = WorkerDied(fn="fn", exit_code=-9, signal="SIGKILL", item=3)


@pytest.mark.parametrize(
    ("variant", "events", "expected"),
    [
        (PROCESSES, [decided(), finished()], []),
        (PROCESSES, [decided("serial", 1, 5, "operator_off"), finished("serial")], ["executed by serial (operator_off)"]),
        (PROCESSES, [decided(), decided("serial"), finished("serial")], ["executed by processes then serial (explicit)"]),
        (PROCESSES, [decided(workers=1), finished(peak=10)], ["1 worker instead of 2"]),
        (PROCESSES, [decided(chunk_size=None), finished()], ["chunks of None instead of 5"]),
        (PROCESSES, [decided(), finished(peak=21)], ["21 items with workers at a time, more than 20"]),
        (PROCESSES, [decided(), FELL_BACK, finished()], ["fell back from processes to serial: unpicklable_fn"]),
        (PROCESSES, [decided(), DIED, DIED, finished()], ["a worker died"]),
        (PROCESSES, [], ["it told nothing about where it executed"]),
        (replace(PROCESSES, n_items=5), [decided(workers=1), finished(peak=5)], []),
        (SERIAL, [decided("serial", 1, None), finished("serial", 0)], []),
        (SERIAL, [decided("threads", 2, None), finished("threads")], ["executed by threads (explicit)"]),
        (AUTO, [decided("serial", 1), decided(), finished()], []),
        (AUTO, [decided(), FELL_BACK, finished()], ["fell back from processes to serial: unpicklable_fn"]),
    ],
)
def test_a_run_that_differs_from_its_setting_is_complained_of(variant: Variant, events: Sequence[Any], expected: list[str]) -> None:
    """Strategy, workers, chunk size and mishaps are read off a run's own events; what `auto` chooses is its to choose."""
    told = Told()
    for event in events:
        told.hear(event)
    assert complaints(variant, told) == expected


def seen(*places: tuple[int, int], each: int = 5) -> list[Seen]:
    """Return items seen in these processes and threads, so many in each one after the other."""
    return [Seen(pid, thread, None) for pid, thread in places for _ in range(each)]


HERE, ONE, TWO, THREE = os.getpid(), os.getpid() + 1, os.getpid() + 2, os.getpid() + 3


@pytest.mark.parametrize(
    ("variant", "places", "expected"),
    [
        (PROCESSES, seen((ONE, 1), (TWO, 1), (ONE, 1)), []),
        (PROCESSES, seen((ONE, 1), (HERE, 1)), ["items were seen in this process"]),
        (PROCESSES, seen((ONE, 1), (TWO, 1), (THREE, 1)), ["3 workers were seen instead of 2"]),
        (PROCESSES, seen((ONE, 1), (ONE, 1)), []),
        (PROCESSES, seen((ONE, 1), (TWO, 1), each=3), ["1 of 2 chunks were not executed in one piece"]),
        (replace(PROCESSES, n_items=5), seen((ONE, 1)), []),
        (SERIAL, seen((HERE, 1)), []),
        (SERIAL, seen((HERE, 1), (HERE, 2)), ["2 workers were seen instead of 1"]),
        (replace(SERIAL, strategy=Strategy.THREADS, workers=2), seen((ONE, 1)), ["items were seen in other processes"]),
        (AUTO, seen((ONE, 1), (HERE, 1)), []),
    ],
)
def test_items_seen_elsewhere_are_complained_of(variant: Variant, places: list[Seen], expected: list[str]) -> None:
    """Processes and threads that items were seen in must be as many and of the kind that the setting says, chunks whole."""
    assert sightings(variant, places) == expected


@pytest.mark.parametrize(
    ("variant", "expected"), [(PROCESSES, "only 1 of 2 workers took part"), (replace(PROCESSES, n_items=5), None), (AUTO, None)]
)
def test_workers_that_took_no_part_are_told_of(variant: Variant, expected: str | None) -> None:
    """It is told if fewer workers than asked for were seen at work, unless there is but one chunk, or `auto` chose."""
    assert idle_workers(variant, seen((ONE, 1))) == expected


def test_a_witness_calls_the_function() -> None:
    """A witness returns the process and the thread beside the result, and passes options on."""
    one = Seen(*Witness(int)("ff", base=16))
    assert (one.pid, one.result) == (HERE, 255)


class Bare:
    """Has no equality of its own."""

    def __init__(self, value: object) -> None:
        self.value = value


@dataclass
class WithArray:
    """Whose equality can't be told, since that of its array is an array."""

    array: Any


ARRAY = np.array([1.0, np.nan])
FRAME = pd.DataFrame({"a": [1.0, None], "b": ["x", "y"]})


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1, 2], [1, 2], True),
        ([1, 2], [1, 3], False),
        ([1, 2], [1, 2, 3], False),
        ([1], [1.0], False),
        ([float("nan")], [float("nan")], True),
        ([0.1 + 0.2, 1e-17], [0.3, -1e-17], True),
        ([1.0], [1.000001], False),
        ([float("inf")], [-float("inf")], False),
        (np.array([1e6, 1e-9]), np.array([1e6, 0.0]), True),
        (np.array([1.0, 2.0]), np.array([1.0, 2.001]), False),
        (np.array([np.inf, 1.0]), np.array([np.inf, 1.0]), True),
        (np.array([1, 2]), np.array([1, 3]), False),
        (np.float32(1.0), np.float32(1.00001), True),
        (np.float32(1.0), np.float32(1.1), False),
        (np.zeros(0), np.zeros(0), True),
        ([(1, {"a": ARRAY})], [(1, {"a": ARRAY.copy()})], True),
        ([{"a": 1}], [{"b": 1}], False),
        (ARRAY, ARRAY[:1], False),
        (ARRAY, ARRAY.astype("float32"), False),
        (np.array([None, "x"]), np.array([None, "y"]), False),
        (FRAME, FRAME.copy(), True),
        (FRAME, FRAME.assign(a=0.0), False),
        ([Bare(1)], [Bare(1)], True),
        ([Bare(1)], [Bare(2)], None),
        ([Bare(1), 1], [Bare(2), 2], False),
        (WithArray(ARRAY), WithArray(ARRAY.copy()), True),
        (WithArray(ARRAY), WithArray(ARRAY[:1]), None),
    ],
)
def test_results_are_compared_by_their_values(left: object, right: object, expected: bool | None) -> None:
    """Results are equal, other ones, or, where there is no equality and they pickle otherwise, not to be told."""
    assert same(left, right) is expected
