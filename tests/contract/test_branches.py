"""Branches: calls that differ, of one queue, each result by its name."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest
from numpy.random import SeedSequence, default_rng

import offloop
import workloads as w
from offloop import call, units

pytestmark = pytest.mark.anyio

LARGE = 200_000  # floats: large enough to be mapped


@pytest.fixture
async def own(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """Workers of a test's own."""
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        yield session


class Learner:
    """Has a setting for parallelism of its own, as estimators do."""

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs


class Pipeline:
    """Has others inside."""

    def __init__(self, *steps: Any) -> None:
        self.steps = [(f"step {i}", step) for i, step in enumerate(steps)]


def span(path: str, name: str, learner: Any = None, seconds: float = 0.02) -> str:
    """Note when this begins and ends."""
    w.append(path, f"+{name}")
    time.sleep(seconds)
    w.append(path, f"-{name}")
    return name


def draws(*, rng: Any) -> list[float]:
    return rng.random(3).tolist()


def draws_more(n: int, *, rng: Any, base: float = 0) -> list[float]:
    return (base + rng.random(n)).tolist()


def fail(error: Exception) -> None:
    raise error


def cores() -> tuple[int, int | None]:
    return os.getpid(), os.cpu_count()


def cores_with(learner: Any) -> tuple[int, int | None]:
    return cores()


def inode_at(array: Any) -> str:
    """Return the inode of the file that an array is mapped from; empty where it isn't."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if begin <= address < end:
            return line.split()[4] if len(line.split()) > 5 else ""
    return ""


def look(path: str, n: int, array: Any, scale: float = 1.0) -> tuple[int, str, float]:
    """Return where this executes, what the array is mapped from, and its first value, once so many have met."""
    w.meet(path, n, os.getpid())
    return os.getpid(), inode_at(array), float(array[0])


async def kept(results: list[Any], awaited: Any) -> None:
    """Keep what a call returns, or the error that it raises."""
    try:
        results.append(await awaited)
    except Exception as error:
        results.append(error)


# --- values ------------------------------------------------------------------------------------------------------------


async def test_each_branch_has_its_value_by_name(session: offloop.ParallelSession) -> None:
    """Whatever can be called is a branch, and the values stand in the order in which the branches were given."""
    twice, three = w.Multiplier(2), 3
    same = call(w.double, 7)
    branches: dict[str, Any] = {
        "z": call(w.add, 1, b=2, c=3),
        "lambda": lambda: three,
        "": partial(w.double, 5),
        "method": call(twice.times, 4),
        "bare": w.nothing,
        "class": call(w.Boxed, 1),
        "generator": units(call(w.double, i) for i in range(5)),
        "none": units([]),
        "a": same,
        "again": same,
    }
    values = await session.run_branches(branches)
    assert list(values.items()) == [
        *(("z", 6), ("lambda", 3), ("", 10), ("method", 8), ("bare", None), ("class", w.Boxed(1))),
        *(("generator", [0, 2, 4, 6, 8]), ("none", []), ("a", 14), ("again", 14)),
    ]
    assert await session.run_branches({}) == {}


async def test_units_are_combined_here_off_the_loop(session: offloop.ParallelSession) -> None:
    """combine gets one list, in the order of the calls, in a thread of this process; units may be none."""
    seen: list[Any] = []

    def combine(values: list[int]) -> int:
        seen.append((os.getpid(), threading.current_thread() is threading.main_thread(), list(values)))
        return sum(values)

    values = await session.run_branches(
        {"a": units([call(w.double, i) for i in range(9)], combine=combine), "none": units([], combine=combine)}
    )
    assert values == {"a": 72, "none": 0}
    assert sorted(seen, key=lambda one: len(one[2])) == [(os.getpid(), False, []), (os.getpid(), False, list(range(0, 18, 2)))]


# --- failures ----------------------------------------------------------------------------------------------------------


def failing() -> dict[str, Any]:
    return {
        "good": call(w.double, 1),
        "folds": units([call(w.fail_on_odd, i) for i in range(4)]),
        "whole": call(w.fail_on_3, 3),
        "combined": units([call(w.double, 1)], combine=lambda values: fail(w.OwnError("combining"))),
    }


def notes(error: Exception) -> str:
    return "\n".join(error.__notes__)


@pytest.mark.parametrize("name", ["folds", "whole", "combined"])
async def test_the_first_failure_is_raised(session: offloop.ParallelSession, name: str) -> None:
    """It is the user's own exception, and its notes name the branch, and the unit where there are several."""
    place = {"folds": ", unit 2 of 4", "whole": "", "combined": ", its combine"}[name]
    with pytest.raises(w.OwnError) as raised:
        await session.run_branches({"good": call(w.double, 1), name: failing()[name]}, workers=1)
    assert f"in branch {name!r}{place}\n" in f"{notes(raised.value)}\n"


async def test_all_failures_are_raised_as_a_group(session: offloop.ParallelSession) -> None:
    """Everything is executed, and every failure tells where it is from."""
    with pytest.raises(ExceptionGroup, match="4 units of 4 branches failed") as raised:
        await session.run_branches(failing(), on_error="group")
    assert [type(error) for error in raised.value.exceptions] == [w.OwnError] * 4
    for error, place in zip(raised.value.exceptions, ["'folds', unit 2", "'folds', unit 4", "'whole'", "'combined', its"], strict=True):
        assert f"in branch {place}" in notes(error)


async def test_failures_take_the_place_of_values(session: offloop.ParallelSession) -> None:
    """A branch that fails costs no other; of units there is a group of what has failed."""
    values = await session.run_branches(failing(), on_error="collect")
    assert list(values) == ["good", "folds", "whole", "combined"]
    assert values["good"] == 2
    assert isinstance(values["whole"], w.OwnError)
    assert str(values["combined"]) == "combining"
    assert isinstance(values["folds"], ExceptionGroup)
    assert str(values["folds"]).startswith("branch 'folds': 2 of 4 units failed")
    assert [error.args for error in values["folds"].exceptions] == [(1,), (3,)]


async def test_a_failure_stops_the_others(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """What executes beside it is stopped, and what waits never begins."""
    path = f"{tmp_path}/run"
    branches: dict[str, Any] = {"fails": call(w.fail_once_met, path, 0), "runs": call(w.loop_until_cancelled, path)}
    late = {f"late {i}": call(w.log_and_return, f"{path}.late", i) for i in range(5)}
    with anyio.fail_after(30), pytest.raises(w.OwnError, match="zero"):
        await session.run_branches(branches | late, item_cost_s={"fails": 60, "runs": 50} | dict.fromkeys(late, 1))
    assert w.lines(Path(f"{path}.began")) == w.lines(Path(f"{path}.stopped"))
    assert w.lines(Path(f"{path}.late")) == []


async def test_a_crash_costs_its_own_unit_alone(own: offloop.ParallelSession) -> None:
    """A unit that kills its worker is a failure among values."""
    values = await own.run_branches(
        {"a": units([call(w.double, 1), call(w.die_named, "SIGKILL"), call(w.double, 2)]), "b": call(w.double, 3)},
        on_error="collect",
        retries=0,
    )
    (crash,) = values["a"].exceptions
    assert isinstance(crash, offloop.WorkerCrashed)
    assert "in branch 'a', unit 2 of 3" in notes(crash)
    assert values["b"] == 6


async def test_a_unit_may_not_take_too_long(own: offloop.ParallelSession) -> None:
    """item_timeout_s holds for each unit by itself, of auto too."""
    with w.heard("unit.finished") as told:
        values = await own.run_branches(
            {"a": call(w.spin, 60), "b": call(w.double, 1)}, item_timeout_s=0.2, on_error="collect", strategy="auto"
        )
    assert isinstance(values["a"], offloop.ItemTimeout)
    assert values["b"] == 2
    assert {event.branch: event.error for event in told} == {"a": "offloop.errors.ItemTimeout", "b": None}


# --- random numbers ------------------------------------------------------------------------------------------------------


def generator(seed: int, name: str, number: int) -> Any:
    """Return the generator that is promised."""
    words = np.frombuffer(sha256(name.encode()).digest(), "<u4")[:4].tolist()
    return default_rng(SeedSequence(seed, spawn_key=(*words, number)))


@pytest.mark.parametrize("workers", [None, 1, 2])
async def test_random_numbers_follow_from_names(session: offloop.ParallelSession, workers: int | None) -> None:
    """Bit for bit the same for every strategy and worker count, and whatever other branches there are."""
    split = units([draws, draws, call(draws_more, 2, base=1.0)])
    values = await session.run_branches({"ä": draws, "b": split}, seed=42, workers=workers)
    alone = await session.run_branches({"b": split, "c": draws}, seed=42)
    assert values == {
        "ä": generator(42, "ä", 0).random(3).tolist(),
        "b": [
            generator(42, "b", 0).random(3).tolist(),
            generator(42, "b", 1).random(3).tolist(),
            (1.0 + generator(42, "b", 2).random(2)).tolist(),
        ],
    }
    assert alone["b"] == values["b"]
    assert await session.run_branches({"\ud800": draws}, seed=42)  # any text is a name
    assert alone["c"] != values["ä"] != (await session.run_branches({"ä": draws}, seed=43))["ä"]


# --- the order -----------------------------------------------------------------------------------------------------------


async def test_the_dearest_is_first(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Units are begun by what they cost, as their caller says."""
    path = tmp_path / "order"
    branches = {name: call(span, str(path), name, seconds=0) for name in "cab"}
    await session.run_branches(branches, workers=1, item_cost_s={"a": 3, "b": 2, "c": 1})
    assert w.lines(path) == ["+a", "-a", "+b", "-b", "+c", "-c"]


async def test_the_dearest_is_known_the_next_time(anyio_backend: object, tmp_path: Path) -> None:
    """Where the caller doesn't say it, units are begun by what they took in the run before."""
    path = tmp_path / "order"
    async with offloop.ParallelSession(strategy="serial") as session:
        branches = {name: call(span, str(path), name, seconds=seconds) for name, seconds in [("c", 0), ("a", 0.04), ("b", 0.02)]}
        with w.heard("unit.finished") as told:
            await session.run_branches(branches)
        assert [line for line in w.lines(path) if line[0] == "+"] == ["+c", "+a", "+b"]
        path.unlink()
        await session.run_branches(branches)
    dearest = sorted(told, key=lambda event: -event.wall_s)
    assert [line for line in w.lines(path) if line[0] == "+"] == [f"+{event.branch}" for event in dearest]


@pytest.mark.one_loop
async def test_a_branchs_hint_overrules_what_was_learned(workers: offloop.ParallelSession) -> None:
    """Where its units go follows from what the caller says that they cost, as for a hint that is for all branches."""
    branches = {"a": call(w.double, 1)}
    reasons: list[str] = []
    for hint in (None, {"a": 5.0}, 5.0):
        with w.heard("unit.finished") as told:
            await workers.run_branches(branches, strategy="auto", item_cost_s=hint)
        reasons += [event.reason for event in told]
    assert reasons == ["measuring", "above_grace", "above_grace"]


ALONE = {
    "n_jobs": Learner(-1),
    "nested": Pipeline(Learner(1), Pipeline(Learner(2))),
    "device": SimpleNamespace(model=SimpleNamespace(device="cuda")),
}


async def test_parallelism_of_their_own_runs_alone(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """A unit whose arguments bring threads or a device has nothing beside it, and the log names the path."""
    path = str(tmp_path / "spans")
    branches: dict[str, Any] = {"light": units([call(span, path, f"light{i}", Learner(1)) for i in range(4)])}
    branches |= {name: call(span, path, name, learner) for name, learner in ALONE.items()}
    with w.heard("unit.finished") as told:
        await session.run_branches(branches)
    under_way: set[str] = set()
    for line in w.lines(Path(path)):
        (under_way.add if line[0] == "+" else under_way.remove)(line[1:])
        assert len(under_way) == 1 or not under_way & ALONE.keys()
    assert {event.branch: event.inner for event in told} == {
        "light": None,
        "n_jobs": "learner.n_jobs=-1",
        "nested": "learner.steps[1][1].steps[0][1].n_jobs=2",
        "device": "learner.model.device='cuda'",
    }


@pytest.mark.one_loop
async def test_what_runs_alone_has_all_cores(workers: offloop.ParallelSession) -> None:
    """In a worker too, and afterwards that has its share again."""
    light = {f"light {i}": cores for i in range(4)}
    for _ in range(2):
        found = await workers.run_branches({**light, "alone": call(cores_with, Learner(-1))})
        pid, n = found.pop("alone")
        assert pid != os.getpid()
        assert n == workers._planner.host.cores
        assert {n for _, n in found.values()} == {max(1, n // 2)}


async def test_auto_keeps_what_brings_parallelism_here(anyio_backend: object) -> None:
    """Nothing limits it in this process, where a worker has a part of the cores."""
    async with offloop.ParallelSession(workers=2) as session:
        with w.heard("unit.finished") as told:
            assert await session.run_branches({"rf": call(w.pid_of, Learner(-1))}) == {"rf": os.getpid()}
    (event,) = told
    assert (event.strategy, event.reason, event.inner) == ("serial", "inner_parallelism", "_.n_jobs=-1")


# --- what is told ------------------------------------------------------------------------------------------------------


async def test_each_unit_is_told_of_once(session: offloop.ParallelSession, strategy: str) -> None:
    """One event for each unit, with its branch, where it executed, how long it waited and took, and what it raised."""
    with w.heard("unit.finished") as told:
        await session.run_branches(
            {"a": units([call(w.sleep, 0.01), call(w.fail_on_3, 3)], combine=len), "b": call(w.double, 1)},
            on_error="collect",
            label="mine",
        )
    found = {(event.branch, event.unit): event for event in told}
    assert len(told) == 3
    assert found.keys() == {("a", 0), ("a", 1), ("b", 0)}
    assert {event.label for event in told} == {"mine"}
    assert [event.n_units for event in found.values() if event.branch == "a"] == [2, 2]
    assert {event.strategy for event in told} == {strategy}
    assert [found[key].error for key in [("a", 0), ("a", 1), ("b", 0)]] == [None, "workloads.OwnError", None]
    assert found["a", 0].fn.startswith("workloads.sleep")
    assert found["a", 0].wall_s >= 0.01
    assert all(event.wait_s >= 0 and event.wall_s >= 0 for event in told)


# --- what several share --------------------------------------------------------------------------------------------------


@pytest.mark.one_loop
@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("how", ["argument", "keyword"])
async def test_what_stands_in_several_calls_is_sent_once(
    workers: offloop.ParallelSession, tmp_path: Path, how: str, seed: int | None
) -> None:
    """All have it from one file in memory, while the run lasts; what is written to it afterwards the next run sees."""
    array = np.zeros(LARGE)
    for value in (0.0, 1.0):
        array[0] = value
        path = str(tmp_path / f"met {value}")
        fn = look if seed is None else look_seeded
        one = call(fn, path, 2, array=array) if how == "keyword" else call(fn, path, 2, array)
        found = (await workers.run_branches({"a": one, "b": units([one, one])}, seed=seed)).values()
        pids, inodes, firsts = zip(*[each for part in found for each in (part if isinstance(part, list) else [part])], strict=True)
        assert len(set(pids)) == 2
        assert len(set(inodes)) == 1
        assert "" not in inodes
        assert set(firsts) == {value}
        assert not workers.release(array)


def look_seeded(path: str, n: int, array: Any, *, rng: Any) -> tuple[int, str, float]:
    return look(path, n, array)


@pytest.mark.one_loop
async def test_what_the_user_shares_stays_shared(workers: offloop.ParallelSession) -> None:
    """A run takes nothing away from the one who shares it."""
    array = workers.share(np.ones(LARGE))
    await workers.run_branches({"a": call(len, array), "b": call(len, array)})
    assert workers.release(array)


@pytest.mark.one_loop
async def test_what_runs_beside_it_has_its_own_snapshot(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """While a run has an array for itself, calls beside it see what is written to it, and a user who shares it keeps that."""
    array, path, results = np.zeros(LARGE), f"{tmp_path}/run", list[Any]()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            branches: dict[str, Any] = {"a": call(first_at_last, path, array), "b": call(first_of, array)}
            tasks.start_soon(kept, results, workers.run_branches(branches, workers=1, item_cost_s={"a": 9, "b": 1}))
            await w.appears(f"{path}.began")
            array[0] = 1.0
            assert await workers.run(first_of, array) == 1.0
            assert await workers.run_parallel(first_of, [array, array]) == [1.0, 1.0]
            workers.share(array)
            Path(f"{path}.go").touch()
    assert results[0]["a"] == 0.0
    assert workers.release(array)


def first_of(array: Any) -> float:
    return float(array[0])


def first_at_last(path: str, array: Any) -> float:
    w.wait_for_file(path)
    return first_of(array)


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_nothing_stays_shared(session: offloop.ParallelSession, tmp_path: Path, how: str) -> None:
    """However a run ends."""
    array = np.ones(LARGE)
    path = f"{tmp_path}/run"
    branches: dict[str, Any] = {"a": call(rest, array, path), "b": call(len, array)}
    if how == "failed":
        with pytest.raises(w.OwnError):
            await session.run_branches({**branches, "a": call(w.fail_on_3, 3), "c": branches["b"]})
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(session.run_branches, branches, item_cost_s={"a": 9}))
            await w.appears(f"{path}.began")
            tasks.cancel_scope.cancel()
    assert not session._outgoing.shares.has_any


def rest(array: Any, path: str) -> None:
    w.loop_until_cancelled(path)


# --- cancelling, closing, draining -------------------------------------------------------------------------------------


async def test_cancelling_stops_the_units(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """A cancelled run returns when its units have stopped, those that wait never begin, and the session goes on."""
    path = f"{tmp_path}/run"
    branches = {str(i): call(w.loop_until_cancelled, path) for i in range(9)}
    with anyio.fail_after(30), w.heard("unit.finished") as told:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run_branches, branches)
            await w.appears(f"{path}.began")
            tasks.cancel_scope.cancel()
        began = w.lines(Path(f"{path}.began"))
        assert began == w.lines(Path(f"{path}.stopped")) or sorted(began) == sorted(w.lines(Path(f"{path}.stopped")))
        assert {event.error for event in told} == {"cancelled"}
        assert await session.run_branches({"a": call(w.double, 1)}) == {"a": 2}
    assert w.lines(Path(f"{path}.began")) == began


@pytest.mark.parametrize("n_turns", range(5))
async def test_cancelling_at_any_time_leaves_nothing(session: offloop.ParallelSession, n_turns: int) -> None:
    """However far a run has come, in looking at units or in their ways to workers, it ends, and nothing is under way."""
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run_branches, {"a": units([call(w.double, i) for i in range(50)], combine=sum)})
            for _ in range(n_turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert session.statistics().pending == 0
        assert session._records.is_quiet


async def test_combining_is_cancelled(anyio_backend: object, tmp_path: Path) -> None:
    """What is cancelled while a branch is combined returns when that has stopped."""
    path = f"{tmp_path}/run"
    combine = lambda values: w.loop_until_cancelled(path)  # noqa: E731
    async with offloop.ParallelSession(strategy="serial") as session, anyio.create_task_group() as tasks:
        with anyio.fail_after(30):
            tasks.start_soon(session.run_branches, {"a": units([w.nothing], combine=combine)})
            await w.appears(f"{path}.began")
            tasks.cancel_scope.cancel()
    assert len(w.lines(Path(f"{path}.stopped"))) == 1


@pytest.mark.parametrize("on_error", ["raise", "group", "collect"])
async def test_closing_ends_the_run(anyio_backend: object, strategy: str, on_error: Any, tmp_path: Path) -> None:
    """A run that a close overtakes fails with the session-closed error, whatever it does with failures."""
    path = f"{tmp_path}/run"
    session = offloop.ParallelSession(strategy=strategy, workers=1).open()
    results: list[Any] = []
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            branches = {str(i): call(w.loop_until_cancelled, path) for i in range(9)}
            tasks.start_soon(kept, results, session.run_branches(branches, on_error=on_error))
            await w.appears(f"{path}.began")
            await session.aclose()
            assert len(w.lines(Path(f"{path}.stopped"))) == 1
    assert [type(result) for result in results] == [offloop.SessionClosedError]
    with pytest.raises(offloop.SessionClosedError):
        await session.run_branches({})


async def test_draining_finishes_the_run(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """What was admitted is done whole, units that have not begun and combine included; nothing new is admitted."""
    path = f"{tmp_path}/run"
    results: list[Any] = []
    with anyio.fail_after(30):
        async with offloop.ParallelSession(strategy=strategy, workers=1) as session, anyio.create_task_group() as tasks:
            branches = {"a": call(w.wait_for_file, path), "b": units([call(w.double, i) for i in range(9)], combine=sum)}
            tasks.start_soon(kept, results, session.run_branches(branches, item_cost_s={"a": 9, "b": 1}))
            await w.appears(f"{path}.began")
            tasks.start_soon(session.drain)
            while session.statistics().state == "open":
                await anyio.sleep(0.002)
            with pytest.raises(offloop.SessionClosedError):
                await session.run_branches({"a": w.nothing})
            Path(f"{path}.go").touch()
            assert await session.drain()
            assert session._records.is_quiet
    assert results == [{"a": "went", "b": 72}]


async def test_a_run_is_one_call(anyio_backend: object, tmp_path: Path) -> None:
    """However many units it has, it is one of the calls that a session admits; one too many executes nothing."""
    path = f"{tmp_path}/run"
    branches = {str(i): call(w.wait_for_file, path) for i in range(4)}
    async with offloop.ParallelSession(strategy="threads", workers=2, max_pending=1) as session:
        results: list[Any] = []
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kept, results, session.run_branches(branches))
                await w.appears(f"{path}.began")
                assert session.statistics().pending == 1
                with pytest.raises(offloop.Overloaded):
                    await session.run_branches({"late": call(w.append, f"{path}.late", 1)})
                Path(f"{path}.go").touch()
    assert results == [dict.fromkeys(branches, "went")]
    assert w.lines(Path(f"{path}.late")) == []


async def test_what_has_begun_is_not_refused(anyio_backend: object, tmp_path: Path) -> None:
    """max_wait_s is for the run to begin: later units and combine wait for as long as it takes."""
    path, results = f"{tmp_path}/run", list[Any]()
    limit_s = 0.02
    async with offloop.ParallelSession(strategy="threads", workers=1) as session:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(session.run, w.wait_for_file, path, strategy="serial"))
                await w.appears(f"{path}.began")
                branches = {"a": units([call(w.append, f"{path}.unit", 1)], combine=len)}
                tasks.start_soon(kept, results, session.run_branches(branches, max_wait_s=limit_s))
                await w.appears(f"{path}.unit")
                await anyio.sleep(3 * limit_s)  # combine waits meanwhile: the local thread is taken
                Path(f"{path}.go").touch()
    assert results == [{"a": 1}]


# --- where it runs -------------------------------------------------------------------------------------------------------


def nested(x: int) -> dict[str, Any]:
    """Run branches from inside of an item."""
    branches = {"b": units([call(w.pid_of) for _ in range(x)], combine=set), "a": call(w.double, x)}
    return anyio.run(offloop.run_branches, branches)


async def test_units_may_have_branches(anyio_backend: object, strategy: Any) -> None:
    """A run inside of a unit executes where the unit does, and ends."""
    try:
        with anyio.fail_after(30):
            async with offloop.ParallelSession(strategy=strategy, workers=2) as session:
                values = await session.run_branches({"x": call(nested, 3), "y": units([call(nested, 2)] * 3)})
    finally:
        await offloop.close_default_session()
    inner = [values["x"], *values["y"]]
    assert [one["a"] for one in inner] == [6, 4, 4, 4]
    assert [list(one) for one in inner] == [["b", "a"]] * 4
    if strategy == "processes":
        assert all(len(one["b"]) == 1 for one in inner)
        assert os.getpid() not in set.union(*(one["b"] for one in inner))


@pytest.mark.parametrize("variable", ["OFFLOOP_PARALLEL", "CI", ""])
async def test_without_workers_units_run_here(anyio_backend: object, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """By the operator's word, under CI, or with one worker, all units execute in the local thread, one after another."""
    if variable:
        monkeypatch.setenv(variable, {"OFFLOOP_PARALLEL": "off", "CI": "true"}[variable])
    asked: Any = "processes" if variable == "OFFLOOP_PARALLEL" else "auto"
    async with offloop.ParallelSession(strategy=asked, workers=2 if variable else 1) as session:
        split = units([w.thread_of] * 4, combine=set)
        values = await session.run_branches({"a": split, "b": units([call(w.thread_of, Learner(-1))] * 2, combine=set)})
        assert session.statistics().workers == ()
    assert values["a"] == values["b"]
    ((pid, thread),) = values["a"]
    assert pid == os.getpid()
    assert thread != threading.get_ident()


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_run_may_use_fewer_workers(session: offloop.ParallelSession, tmp_path: Path, workers: int) -> None:
    """No more units are under way at a time than the call says."""
    path = str(tmp_path / "spans")
    await session.run_branches({str(i): call(span, path, str(i), seconds=0.002) for i in range(8)}, workers=workers)
    depth = most = 0
    for line in w.lines(Path(path)):
        depth += 1 if line[0] == "+" else -1
        most = max(most, depth)
    assert most <= workers


@pytest.mark.one_loop
async def test_the_loop_has_its_turns(session: offloop.ParallelSession) -> None:
    """While thousands of small units execute, and while they are looked at, whoever else is on the loop goes on."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.lowlevel.checkpoint()
            ticks += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        values = await session.run_branches({"a": units([call(w.double, i) for i in range(1000)], combine=sum)})
        tasks.cancel_scope.cancel()
    assert values == {"a": 999_000}
    assert ticks > 1000


async def test_on_the_process_wide_session(anyio_backend: object) -> None:
    """`offloop.run_branches` is that of a session which is there for all."""
    try:
        assert await offloop.run_branches({"a": call(w.double, 1), "b": units([w.nothing])}) == {"a": 2, "b": [None]}
    finally:
        await offloop.close_default_session()


# --- what is refused -----------------------------------------------------------------------------------------------------


def marks(path: str) -> Callable[[], None]:
    return call(w.append, path, 1)


WRONG: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "no mapping": (lambda good: [good], TypeError, "must be a mapping of names to calls, not list"),
    "pairs": (lambda good: [("a", good)], TypeError, "must be a mapping"),
    "name": (lambda good: {"a": good, 3: good}, TypeError, "name must be a string, not int"),
    "tuple": (lambda good: {"a": good, "b": (w.double, 1)}, TypeError, r"branches\['b'\] must be call\(.*not tuple"),
    "none": (lambda good: {"a": good, "b": None}, TypeError, "not NoneType"),
    "result": (lambda good: {"a": good, "b": w.double(1)}, TypeError, "not int"),
    "list": (lambda good: {"a": good, "b": [good]}, TypeError, "not list"),
    "async": (lambda good: {"a": good, "b": call(w.async_double, 1)}, offloop.AsyncFunctionError, "async_double"),
}


@pytest.mark.one_loop
@pytest.mark.parametrize("case", WRONG)
async def test_what_is_no_branch_is_refused(own: offloop.ParallelSession, tmp_path: Path, case: str) -> None:
    """A typed error says what is wrong at once, and nothing is executed."""
    make, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        await own.run_branches(make(marks(f"{tmp_path}/ran")))
    assert not os.listdir(tmp_path)


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"item_cost_s": {"a": 1, "other": 1}}, offloop.SettingError, "other.*no such branch; there are 'a'"),
        ({"item_cost_s": {"a": -1}}, offloop.SettingError, "item_cost_s"),
        ({"item_cost_s": {"a": "1"}}, offloop.SettingTypeError, "item_cost_s"),
        ({"workers": 0}, offloop.SettingError, "workers"),
        ({"on_error": "ignore"}, offloop.SettingError, "on_error"),
        ({"seed": "x"}, offloop.SettingTypeError, "seed"),
        ({"chunk_size": 3}, offloop.SettingTypeError, "no such option"),
        ({"timeout_s": 3}, offloop.SettingTypeError, "no such option"),
        ({"item_timeout_s": 3, "strategy": "threads"}, offloop.SettingError, "item_timeout_s"),
    ],
)
async def test_wrong_options_are_refused(
    own: offloop.ParallelSession, tmp_path: Path, options: Any, error: type[Exception], text: str
) -> None:
    """A typed error names the option, and nothing is executed."""
    with pytest.raises(error, match=text):
        await own.run_branches({"a": marks(f"{tmp_path}/ran")}, **options)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("calls", "combine", "error"),
    [
        ([w.async_double], None, offloop.AsyncFunctionError),
        ([w.nothing], w.async_double, offloop.AsyncFunctionError),
        ([w.nothing, 3], None, TypeError),
        ([w.nothing], 3, TypeError),
        ([units([])], None, TypeError),
        (w.nothing, None, TypeError),
    ],
)
def test_what_is_no_unit_is_refused(calls: Any, combine: Any, error: type[Exception]) -> None:
    """units says so where it is written."""
    with pytest.raises(error):
        units(calls, combine)
