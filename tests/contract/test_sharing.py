"""Sharing: one copy in memory for all workers, wherever a shared object stands; freed when it is released or dropped."""

from __future__ import annotations

import gc
import os
import re
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp

import faithful as f
import offloop
import workloads as w

pytestmark = pytest.mark.anyio

N = 40_000  # so that each column is worth mapping or not, and all together are
MAPPED_BYTES = 4 << 20  # large enough to be mapped instead of copied out


class Model:
    """Has large arrays deep inside."""

    def __init__(self) -> None:
        self.weights = {"first": f.floats(8 * N), "second": [f.floats(8 * N)[::-1].copy()]}
        self.name = "model"


THINGS: dict[str, Callable[[], Any]] = {
    "array": lambda: f.floats(8 * N),
    "large array": lambda: f.floats(MAPPED_BYTES),
    "read-only array": lambda: f.read_only(f.floats(8 * N)),
    "Fortran order": lambda: np.asfortranarray(f.floats(8 * N).reshape(-1, 4)),
    "strided": lambda: f.floats(16 * N)[::2],
    "dates": lambda: f.values("M8[ns]", 8 * N),
    "bytes": lambda: f.pattern(8 * N),
    "bytearray": lambda: bytearray(f.pattern(8 * N)),
    "numeric frame": lambda: pd.DataFrame(f.floats(32 * N).reshape(-1, 4), columns=[*"abcd"]),
    "mixed frame": lambda: pd.DataFrame({"x": f.floats(8 * N), "n": range(N), "t": [f"text {i % 99}" for i in range(N)]}),
    "object frame": lambda: pd.DataFrame({"o": np.array([(i,) for i in range(N)] + [None], object)[:N], "n": range(N)}),
    "series": lambda: pd.Series(f.floats(8 * N), name="s"),
    "sparse": lambda: sp.random_array((2000, 300), density=0.2, format="csr", rng=1),
    "polars frame": lambda: pl.DataFrame({"x": f.floats(8 * N), "t": [f"text {i}" for i in range(N)]}),
    "Arrow table": lambda: pa.table({"x": f.floats(8 * N), "t": [f"text {i}" for i in range(N)]}),
    "dict of arrays": lambda: {"a": f.floats(8 * N), "b": [f.floats(8 * N)]},
    "dict of texts": lambda: {str(i): f"text {i}" for i in range(N)},
    "tuple": lambda: (f.floats(8 * N), "text"),
    "small": lambda: [1, 2, 3],
}


# --- what is told in a worker ----------------------------------------------------------------------------------------


def facts_of_first(item: Any) -> Any:
    return f.facts(item[0] if isinstance(item, tuple | list) else item.value if isinstance(item, w.Boxed) else item["x"])


def facts_of(thing: Any, _: Any = None) -> Any:
    return f.facts(thing)


def closed_over(thing: Any) -> Callable[[Any], Any]:
    return lambda _: f.facts(thing)


def inode(array: Any) -> tuple[int, str]:
    """Return this process, and the inode of the file that an array is mapped from; empty where it isn't."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, number, *path = line.split(maxsplit=5)
        begin, end = (int(part, 16) for part in span.split("-"))
        if begin <= address < end:
            return os.getpid(), number if path and ("memfd" in path[0] or "/" in path[0]) else ""
    return os.getpid(), ""


def inode_at_meeting(path: str, item: tuple[int, Any]) -> tuple[int, str]:
    """Wait until another worker is here too, and return `inode`."""
    w.meet(path, 2, item[0])
    return inode(item[1])


def files_held(_: Any = None) -> tuple[int, int]:
    """Return this process, and how many memory files of ours it has mapped or open."""
    gc.collect()
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if _is_ours(line)]
    fds = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            fds.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:  # that of the listing itself
            continue
    return os.getpid(), len(maps) + sum(map(_is_ours, fds))


def _is_ours(place: str) -> bool:
    return re.search(r"/memfd:offloop |/dev/shm/tmp|/\d+-\d+-\d+( \(deleted\))?$", place) is not None


def sum_of(array: Any, _: Any = None) -> float:
    return float(array[0] + array[-1] + len(array))


def write_and_tell(array: Any, x: int) -> tuple[float, float]:
    """Write over an array and return what was at both ends before."""
    before = float(array[0]), float(array[-1])
    array[:] = x + 100
    return before


def write_item(item: tuple[Any, int]) -> tuple[float, float]:
    return write_and_tell(*item)


def first_of(frame: Any) -> float:
    return float(frame["x"].iloc[0])


def write_frame(item: tuple[Any, int]) -> float:
    before = first_of(item[0])
    item[0].loc[:, "x"] = 77.0
    return before


def both_are_one(item: Any) -> bool:
    return item[0] is item[1]["again"]


def views_of_one(item: Any) -> Any:
    return f.facts(item[0]), f.facts(item[1])


def id_of(_: Any, thing: Any) -> tuple[int, int]:
    return os.getpid(), id(thing)


def die_once_with(path: str, array: Any, x: int) -> float:
    if x == 3 and not os.path.exists(path):
        w.append(path, x)
        w.die("SIGKILL")
    return sum_of(array)


def rows_sum(block: Any) -> Any:
    return block.sum(axis=1)


# --- arriving --------------------------------------------------------------------------------------------------------


@pytest.mark.one_loop
async def test_sharing_returns_the_same_object(session: offloop.ParallelSession) -> None:
    """What is shared is the object itself, to be used like before."""
    for make in THINGS.values():
        thing = make()
        assert session.share(thing) is thing
        assert session.share(thing) is thing
        assert session.release(thing) is True
        assert session.release(thing) is False


PLACES: dict[str, Callable[[offloop.ParallelSession, Any], Any]] = {
    "argument": lambda s, thing: s.run(facts_of, thing),
    "item": lambda s, thing: s.run_parallel(facts_of, [thing] * 3),
    "partial": lambda s, thing: s.run_parallel(partial(facts_of, thing), range(3)),
    "closure": lambda s, thing: s.run_parallel(closed_over(thing), range(3)),
    "tuple": lambda s, thing: s.run_parallel(facts_of_first, [(thing, i) for i in range(3)]),
    "dict": lambda s, thing: s.run_parallel(facts_of_first, [{"x": thing, "i": i} for i in range(3)]),
    "object": lambda s, thing: s.run_parallel(facts_of_first, [w.Boxed(thing) for _ in range(3)]),
}


@pytest.mark.on_workers
@pytest.mark.one_loop
@pytest.mark.parametrize("make", THINGS.values(), ids=THINGS)
async def test_it_arrives_as_itself(session: offloop.ParallelSession, make: Callable[[], Any]) -> None:
    """A shared object is equal wherever it stands: an item, an argument, bound in fn, or deep inside of one of these."""
    thing = session.share(make())
    expected = f.facts(thing)
    for place, ask in PLACES.items():
        found = await ask(session, thing)
        assert found in (expected, [expected] * 3), place
    session.release(thing)
    assert f.facts(thing) == expected


@pytest.mark.one_loop
async def test_models_arrive(session: offloop.ParallelSession) -> None:
    """An object with arrays deep inside arrives with them."""
    model = session.share(Model())
    expected = f.facts(model.weights["second"][0])
    look = lambda m, _: (m.name, f.facts(m.weights["second"][0]))  # noqa: E731
    assert await session.run_parallel(partial(look, model), range(3)) == [("model", expected)] * 3


async def test_views_arrive(session: offloop.ParallelSession) -> None:
    """Views of a shared array, several within one item too, arrive as what they show."""
    array = session.share(f.floats(8 * N).reshape(-1, 4))
    views = [array[10:N // 8], array[:, 1], array.T, array[::-3], array.ravel()[7:], array]
    assert await session.run_parallel(f.facts, views) == [f.facts(view) for view in views]
    pairs = [(view, array) for view in views]
    assert await session.run_parallel(views_of_one, pairs) == [(f.facts(view), f.facts(array)) for view in views]


@pytest.mark.on_workers
@pytest.mark.one_loop
@pytest.mark.parametrize("make", THINGS.values(), ids=THINGS)
async def test_twice_in_an_item_is_one_object(session: offloop.ParallelSession, make: Callable[[], Any]) -> None:
    """What stands twice in one item arrives as one object, as without sharing."""
    thing = session.share(make())
    assert await session.run_parallel(both_are_one, [(thing, {"again": thing})] * 3) == [True] * 3
    session.release(thing)


async def test_rows_of_what_is_shared(session: offloop.ParallelSession) -> None:
    """Batches over a shared array or frame give what the whole gives."""
    for X in (f.floats(8 * N).reshape(-1, 4), THINGS["numeric frame"]()):
        session.share(X)
        result = await session.run_batches(rows_sum, X, batch_size=3000)
        assert np.array_equal(np.asarray(result), np.asarray(rows_sum(X)), equal_nan=True)


# --- one copy --------------------------------------------------------------------------------------------------------


@pytest.mark.one_loop
@pytest.mark.parametrize("how", ["items", "views", "bound"])
async def test_all_workers_map_one_file(workers: offloop.ParallelSession, tmp_path: Path, how: str) -> None:
    """Every item in every worker has its array from the same file: there is one copy in memory, and no other."""
    array = workers.share(f.floats(MAPPED_BYTES))
    path = str(tmp_path / "met")
    if how == "bound":
        fn: Any = lambda x: inode_at_meeting(path, (x, array))  # noqa: E731
        found = await workers.run_parallel(fn, range(8), chunk_size=1)
    else:
        part = array[1000:] if how == "views" else array
        found = await workers.run_parallel(partial(inode_at_meeting, path), [(i, part) for i in range(8)], chunk_size=1)
    inodes = {number for _, number in found}
    assert len({pid for pid, _ in found}) == 2
    assert len(inodes) == 1
    assert inodes != {""}


@pytest.mark.one_loop
async def test_columns_are_mapped_too(workers: offloop.ParallelSession) -> None:
    """So has every item its numeric columns, call by call."""
    frame = workers.share(pd.DataFrame({"x": f.floats(MAPPED_BYTES), "t": ["text"] * (MAPPED_BYTES // 8)}))
    look = lambda x: inode(x["x"].to_numpy())[1]  # noqa: E731
    found = {await workers.run(look, frame) for _ in range(3)} | {*await workers.run_parallel(look, [frame] * 6)}
    assert len(found) == 1
    assert found != {""}


@pytest.mark.one_loop
async def test_large_dicts_are_rebuilt_once_for_a_worker(workers: offloop.ParallelSession) -> None:
    """What is large in other ways is one object for all items of a worker."""
    table = workers.share(THINGS["dict of texts"]())
    found: dict[int, set[int]] = {}
    look = lambda item: (os.getpid(), id(item[1]), len(item[1]))  # noqa: E731
    for pid, where, length in await workers.run_parallel(look, [(i, table) for i in range(12)], chunk_size=1):
        found.setdefault(pid, set()).add(where)
        assert length == N
    workers.release(table)
    assert all(len(places) == 1 for places in found.values())


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.one_loop
@pytest.mark.parametrize("n_bytes", [8 * N, MAPPED_BYTES], ids=["copied", "mapped"])
@pytest.mark.parametrize("chunk_size", [1, 8])
async def test_what_an_item_writes(workers: offloop.ParallelSession, n_bytes: int, chunk_size: int) -> None:
    """What an item writes into a shared array is seen by no other item, in whatever worker, and not here."""
    array = workers.share(f.floats(n_bytes))
    before = float(array[0]), float(array[-1])
    for _ in range(2):
        items = [(array, i) for i in range(8)]
        assert await workers.run_parallel(write_item, items, chunk_size=chunk_size) == [before] * 8
        assert await workers.run(write_and_tell, array, 1) == before
    assert (float(array[0]), float(array[-1])) == before


@pytest.mark.one_loop
async def test_what_an_item_writes_into_a_frame(workers: offloop.ParallelSession) -> None:
    """Likewise what it writes into a frame with numbers and texts."""
    frame = workers.share(THINGS["mixed frame"]())
    before = first_of(frame)
    assert await workers.run_parallel(write_frame, [(frame, i) for i in range(8)]) == [before] * 8
    assert first_of(frame) == before


@pytest.mark.one_loop
async def test_the_copy_is_of_the_time_of_sharing(workers: offloop.ParallelSession) -> None:
    """What is written here after a run has used it may not reach workers, and never halfway: released, it does."""
    array = workers.share(f.floats(8 * N))
    first = await workers.run(sum_of, array)
    array[0] += 1000
    assert await workers.run(sum_of, array) in (first, first + 1000)
    workers.release(array)
    assert await workers.run(sum_of, array) == first + 1000


# --- freeing ---------------------------------------------------------------------------------------------------------


async def freed(session: offloop.ParallelSession) -> None:
    """Wait until no worker holds a memory file, and neither does this process."""
    with anyio.fail_after(20):
        while True:
            held = dict([await session.run(files_held) for _ in range(2)])
            held |= dict(await session.run_parallel(files_held, range(6), chunk_size=1))
            if not any(held.values()) and not files_held()[1]:
                return
            await anyio.sleep(0.01)


@pytest.mark.one_loop
@pytest.mark.parametrize("name", ["large array", "mixed frame", "dict of texts"])
@pytest.mark.parametrize("how", ["release", "drop"])
async def test_it_is_freed(workers: offloop.ParallelSession, tmp_path: Path, how: str, name: str) -> None:
    """Once it is released or dropped no worker holds anything of it, and neither does this process."""
    await freed(workers)
    thing = workers.share(THINGS[name]())
    look = lambda item: w.meet(str(tmp_path / "met"), 2, item[0])  # noqa: E731
    await workers.run_parallel(look, [(i, thing) for i in range(4)], chunk_size=1)
    await workers.run_parallel(partial(facts_of, thing), range(4))
    if how == "release" or isinstance(thing, dict):
        assert workers.release(thing)
    del thing
    gc.collect()
    await freed(workers)


async def test_idle_workers_let_go_of_it(workers: offloop.ParallelSession) -> None:
    """Workers that have nothing to do let go of what is released as well, without another message."""
    array = workers.share(f.floats(MAPPED_BYTES))
    pids = {pid for pid, _ in await workers.run_parallel(inode, [array] * 4, chunk_size=1)}
    assert any(held_by(pid) for pid in pids)
    workers.release(array)
    with anyio.fail_after(20):
        while any(held_by(pid) for pid in pids):
            await anyio.sleep(0.01)


def held_by(pid: int) -> int:
    """Return how many memory files of ours a process has open."""
    found = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found += _is_ours(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:  # closed meanwhile
            continue
    return found


async def test_a_run_keeps_what_it_uses(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """What is released while items with it are under way or wait is there for all of them."""
    array = workers.share(f.floats(MAPPED_BYTES))
    expected, path = sum_of(array), str(tmp_path / "run")
    results: list[float] = []

    async def run() -> None:
        fn = lambda item: (w.log_and_wait(path, item[0]), sum_of(item[1]))[1]  # noqa: E731
        results.extend(await workers.run_parallel(fn, [(i, array) for i in range(6)], chunk_size=1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await w.appears(path)
        workers.release(array)
        Path(f"{path}.go").touch()
    assert results == [expected] * 6


async def test_dropping_is_noticed(session: offloop.ParallelSession) -> None:
    """Sharing doesn't keep an object alive."""
    array = session.share(f.floats(8 * N))
    gone = weakref.ref(array)
    assert await session.run(sum_of, array)
    del array
    with anyio.fail_after(20):
        while gone() is not None:  # a thread of the run may still let go of it
            gc.collect()
            await anyio.sleep(0.005)


async def test_another_at_the_same_place(workers: offloop.ParallelSession) -> None:
    """Objects that are shared, used and dropped one after another, mostly at one address, arrive each as itself."""
    for number in range(30):
        array = workers.share(np.full(N, float(number)))
        assert await workers.run(sum_of, array) == 2 * number + N
        if number % 3 == 0:
            workers.release(array)
        del array
        plain = np.full(N, -1.0)
        assert await workers.run(sum_of, plain) == N - 2


# --- what can go wrong -----------------------------------------------------------------------------------------------


async def test_it_survives_a_killed_worker(anyio_backend: object, tmp_path: Path) -> None:
    """A worker that takes the place of a killed one has it too."""
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        array = session.share(f.floats(MAPPED_BYTES))
        fn = partial(die_once_with, str(tmp_path / "died"), array)
        assert await session.run_parallel(fn, range(8), chunk_size=1) == [sum_of(array)] * 8
        assert session.statistics().retried >= 1
        assert await session.run_parallel(sum_of, [array] * 8, chunk_size=1) == [sum_of(array)] * 8


async def test_what_cannot_be_pickled_is_told_when_it_is_sent(workers: offloop.ParallelSession) -> None:
    """Sharing it raises nothing; sending it says what is in the way."""
    thing = workers.share({"lock": threading.Lock(), "array": f.floats(8 * N)})
    with pytest.raises(offloop.UnpicklableError, match="lock"):
        await workers.run(facts_of, thing)
    assert workers.release(thing)


async def test_several_sessions_share_one_object(workers: offloop.ParallelSession) -> None:
    """Each session has a copy of its own, and closing one leaves the other's."""
    array = workers.share(f.floats(MAPPED_BYTES))
    async with offloop.ParallelSession(strategy="processes", workers=1) as other:
        other.share(array)
        assert await other.run(sum_of, array) == await workers.run(sum_of, array) == sum_of(array)
    assert await workers.run(sum_of, array) == sum_of(array)


async def test_at_once_from_many_tasks(session: offloop.ParallelSession) -> None:
    """Runs that begin at the same moment, while it is still being stored, all get it."""
    array = session.share(f.floats(MAPPED_BYTES))
    results = await w.gather(*[session.run_parallel(sum_of, [array, array[:100]]) for _ in range(6)])
    assert results == [[sum_of(array), sum_of(array[:100])]] * 6


async def test_only_an_open_session_shares(anyio_backend: object) -> None:
    """A session that isn't open refuses to share; closing one frees what it shared."""
    session = offloop.ParallelSession(strategy="processes", workers=1)
    with pytest.raises(offloop.SessionClosedError):
        session.share([1])
    before = files_held()[1]
    async with session:
        array = session.share(f.floats(MAPPED_BYTES))
        await session.run(sum_of, array)
    assert files_held()[1] == before
    assert session.release(array) is False
    with pytest.raises(offloop.SessionClosedError):
        session.share(array)
