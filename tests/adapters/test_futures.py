"""A session's executor: what `concurrent.futures` promises of one, and what it promises beyond."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import pickle
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, BrokenExecutor, CancelledError, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import dask
import pytest

import offloop
import workloads as w
from offloop.adapters.futures import SessionExecutor
from offloop.events import RunFinished

N = 2  # workers


@pytest.fixture(scope="module")
def session() -> Iterator[offloop.ParallelSession]:
    """A session that a module's tests share, held by no event loop."""
    opened = offloop.ParallelSession(workers=N, grace_s=5.0).open()
    opened.portal.call(w.start_all, opened, "processes")  # so that all there is for workers is there
    yield opened
    opened.portal.call(opened.aclose)
    opened.portal.close()


@pytest.fixture
def executor(session: offloop.ParallelSession) -> Iterator[SessionExecutor]:
    """An executor over that session, shut down in the end."""
    with session.executor() as opened:
        yield opened


@pytest.fixture
def own(session: offloop.ParallelSession) -> Iterator[offloop.ParallelSession]:
    """A session for what changes its workers; the shared one is there before it."""
    opened = offloop.ParallelSession(workers=N, grace_s=5.0).open()
    yield opened
    opened.portal.call(opened.aclose)
    opened.portal.close()


def begun(path: Path, count: int = 1) -> None:
    """Wait until so many calls of `wait_for_file` are under way."""
    moment = threading.Event()
    while len(w.lines(path.with_name(f"{path.name}.began"))) < count:
        moment.wait(0.002)


def go(path: Path) -> None:
    """Let calls of `wait_for_file` end."""
    path.with_name(f"{path.name}.go").touch()


@pytest.fixture
def busy(executor: SessionExecutor, tmp_path: Path) -> Iterator[list[Any]]:
    """Futures of calls that hold all workers until the test is over."""
    path = tmp_path / "busy"
    futures = [executor.submit(w.wait_for_file, str(path)) for _ in range(N)]
    begun(path, N)
    yield futures
    go(path)


# --- calls -------------------------------------------------------------------------------------------------------------


def test_a_call_gets_its_arguments(executor: SessionExecutor) -> None:
    """submit passes positional and keyword arguments, whatever their names, and its future has what the call returns."""
    assert executor.submit(w.add, 1, 2).result() == 3
    assert executor.submit(w.add, 1, b=2, c=3).result() == 6
    assert executor.submit(dict, fn=1, self=2, label=3).result() == {"fn": 1, "self": 2, "label": 3}


def test_calls_of_every_kind_are_waited_for(executor: SessionExecutor) -> None:
    """wait and as_completed see futures end, by a value, an error or a cancel; callbacks get the future that is done."""
    seen: list[object] = []
    futures = [executor.submit(w.fail_on_3, x) for x in range(5)]
    for future in futures:
        future.add_done_callback(seen.append)
    assert set(as_completed(futures)) == set(futures)
    assert wait(futures, return_when=FIRST_EXCEPTION).done >= {futures[3]}
    executor.shutdown()
    assert set(seen) == set(futures)
    assert len(seen) == 5


def test_a_failure_is_the_functions_own(executor: SessionExecutor) -> None:
    """result raises what the function raised, with the remote traceback in its notes and no frame of ours in its own."""
    error = executor.submit(w.fail_on_3, 3).exception()
    assert type(error) is w.OwnError
    assert error.__traceback__ is None
    assert "in fail_on_3" in "".join(error.__notes__)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, StopIteration, StopAsyncIteration, w.OwnBase])
def test_what_would_end_a_loop_is_raised_to_who_asks(executor: SessionExecutor, kind: type[BaseException]) -> None:
    """result raises SystemExit and the like as itself; on an event loop, which it would end, it is an ItemError."""
    future = executor.submit(w.raise_named, kind.__name__)
    with pytest.raises(kind):
        future.result()
    assert isinstance(future.exception(), offloop.ItemError)

    async def awaited() -> None:
        with pytest.raises(offloop.ItemError):
            await asyncio.wrap_future(future)

    asyncio.run(awaited())


ENDS: list[tuple[tuple[Any, ...], type[Exception]]] = [
    ((w.echo, w.FailsToPickle(OSError)), offloop.UnpicklableItem),
    ((w.echo, w.FailsToUnpickle()), offloop.UnpicklableItem),
    ((w.unpickle_failure_for_3, 3), offloop.UnpicklableResult),
    ((w.lock_for_3, 3), offloop.UnpicklableResult),
    ((w.die, "SIGKILL"), offloop.WorkerCrashed),
    ((w.die, "exit 0"), offloop.WorkerCrashed),
]


def test_what_ends_a_process_pool_ends_one_call(own: offloop.ParallelSession) -> None:
    """A worker's death, and what can't travel, fails its own future, as an error of ours and of a broken pool; others go on."""
    with own.executor() as executor:
        bad = [executor.submit(*call) for call, _ in ENDS]
        good = [executor.submit(w.double, x) for x in range(20)]
        for future, (_, kind) in zip(bad, ENDS, strict=True):
            error = future.exception()
            assert isinstance(error, kind)
            assert isinstance(error, BrokenProcessPool)
            assert type(pickle.loads(pickle.dumps(error))) is type(error)
        assert [future.result() for future in good] == list(range(0, 40, 2))
        assert executor.submit(w.double, 5).result() == 10


def test_a_call_runs_once(own: offloop.ParallelSession, tmp_path: Path) -> None:
    """A call whose worker dies is not tried again, unless the executor has retries."""
    with own.executor() as once, own.executor(retries=1) as again:
        assert isinstance(once.submit(w.die_on_5, "SIGKILL", str(tmp_path / "once"), 5).exception(), BrokenExecutor)
        assert isinstance(again.submit(w.die_on_5, "SIGKILL", str(tmp_path / "again"), 5).exception(), BrokenExecutor)
    assert (len(w.lines(tmp_path / "once")), len(w.lines(tmp_path / "again"))) == (1, 2)


def test_options_are_of_every_call(session: offloop.ParallelSession) -> None:
    """timeout_s holds for each call and for each item of a chunk; what can't work is refused as the executor is made."""
    with session.executor(timeout_s=0.3) as executor:
        assert isinstance(executor.submit(w.sleep, 30.0).exception(), offloop.ItemTimeout)
        with pytest.raises(offloop.ItemTimeout):
            list(executor.map(w.sleep, [0.0, 30.0], chunksize=2))
    for options in ({"timeout_s": -1}, {"nonsense": 1}, {"strategy": "threads", "timeout_s": 1}, {"workers": 0}):
        with pytest.raises(offloop.SettingError):
            session.executor(**options)


@pytest.mark.parametrize(("strategy", "workers"), [("threads", N), ("serial", 1)])
def test_every_strategy_has_its_workers(own: offloop.ParallelSession, strategy: Any, workers: int) -> None:
    """_max_workers, which libraries read, says how many calls run at a time; calls in this process give the same."""
    with own.executor(strategy=strategy) as executor:
        assert executor._max_workers == workers
        assert list(executor.map(w.double, range(20))) == list(range(0, 40, 2))
    with own.executor(strategy=strategy, workers=1) as executor:
        assert executor._max_workers == 1


# --- maps --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 50])
@pytest.mark.parametrize("buffersize", [None, 1, 4])
def test_a_map_is_in_order(executor: SessionExecutor, chunksize: int, buffersize: int | None) -> None:
    """map yields what the built-in map would, whatever the chunks, over one iterable or several of unequal length."""
    options: dict[str, Any] = {"chunksize": chunksize, "buffersize": buffersize}
    assert list(executor.map(w.double, range(20), **options)) == list(range(0, 40, 2))
    assert list(executor.map(pow, range(10), range(12), **options)) == list(map(pow, range(10), range(12)))
    assert list(executor.map(w.double, [], **options)) == []


@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_map_fails_at_its_place(executor: SessionExecutor, chunksize: int) -> None:
    """The iterator of a map raises what a call raised once it comes to it, and cancels what has not begun."""
    results = executor.map(w.fail_on_3, [0, 1, 2, 4, 3, 5], chunksize=chunksize)
    assert [next(results) for _ in range(4)] == [0, 2, 4, 8]
    with pytest.raises(w.OwnError):
        next(results)


def test_a_map_reads_as_far_as_its_buffer(executor: SessionExecutor) -> None:
    """With buffersize a map reads its iterables as results are taken, so that they may be endless; without, at once."""
    read: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            read.append(len(read))
            yield read[-1]

    results = executor.map(w.double, endless(), buffersize=3)
    assert len(read) == 3
    assert [next(results), next(results)] == [0, 2]
    assert len(read) == 5


def test_a_map_in_time(executor: SessionExecutor, busy: list[Any]) -> None:
    """A map raises TimeoutError when its time is over, and what waits then is cancelled."""
    with pytest.raises(TimeoutError):
        next(executor.map(w.double, range(3), timeout=0.01))
    assert not executor._queue or all(future.cancelled() for future in executor._queue)


@pytest.mark.parametrize("options", [{"chunksize": 0}, {"chunksize": -1}, {"buffersize": 0}])
def test_a_map_with_options_that_cannot_work(executor: SessionExecutor, options: Any) -> None:
    """chunksize and buffersize are 1 or more."""
    with pytest.raises(ValueError, match="size must be"):
        executor.map(w.double, range(3), **options)


def test_a_map_keeps_no_results(executor: SessionExecutor) -> None:
    """Neither a map nor its chunks hold on to a result that was taken."""
    for chunksize in (1, 2):
        for result in executor.map(w.Boxed, range(3), chunksize=chunksize):
            kept = weakref.ref(result)
            del result
            gc.collect()
            assert kept() is None


# --- cancelling and stopping ---------------------------------------------------------------------------------------------


def test_what_waits_is_cancelled(executor: SessionExecutor, busy: list[Any], tmp_path: Path) -> None:
    """A cancelled call is never executed, is told of at once, and holds its arguments no longer; one that runs can't be."""
    argument = w.Boxed(1)
    kept = weakref.ref(argument)
    futures = [executor.submit(w.log_and_return, str(tmp_path / "log"), argument) for _ in range(3)]
    del argument
    assert [future.cancel() for future in futures] == [True] * 3
    assert wait(futures, timeout=0).not_done == set()
    gc.collect()
    assert kept() is None
    assert [future.cancel() for future in busy] == [False] * N
    with pytest.raises(CancelledError):
        futures[0].result()
    executor.shutdown(wait=False)
    go(tmp_path / "busy")
    executor.shutdown()
    assert w.lines(tmp_path / "log") == []


def test_what_runs_is_interrupted(executor: SessionExecutor, tmp_path: Path) -> None:
    """interrupt stops a call that runs, and no other: its result raises CancelledError; of one that is over it does nothing."""
    path, other = tmp_path / "one", tmp_path / "other"
    bad, good = executor.submit(w.wait_for_file, str(path)), executor.submit(w.wait_for_file, str(other))
    begun(path)
    begun(other)
    assert bad.interrupt()
    with pytest.raises(CancelledError):
        bad.result()
    assert not bad.cancelled()
    go(other)
    assert good.result() == "went"
    assert not good.interrupt()
    assert executor.submit(w.double, 1).result() == 2


def test_interrupting_hits_the_call_alone(executor: SessionExecutor) -> None:
    """However an interrupt meets the end of its call, the call after it, on the same worker, is executed."""
    for _ in range(30):
        futures = [executor.submit(w.double, x) for x in range(6)]
        futures[0].interrupt()
        futures[1].interrupt()
        assert [future.result() for future in futures[2:]] == [4, 6, 8, 10]


def test_an_interrupt_cancels_what_waits(executor: SessionExecutor, busy: list[Any]) -> None:
    """interrupt of a call that has not begun is a cancel."""
    future = executor.submit(w.double, 1)
    assert future.interrupt()
    assert future.cancelled()


# --- shutting down -------------------------------------------------------------------------------------------------------


def test_nothing_is_submitted_after_it(session: offloop.ParallelSession) -> None:
    """A shutdown finishes what was submitted and refuses the rest; it may be repeated, and leaves the session as it is."""
    executor = session.executor()
    futures = [executor.submit(w.double, x) for x in range(20)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    executor.shutdown()
    for submit in (executor.submit, executor.map):
        with pytest.raises(RuntimeError, match="after shutdown"):
            submit(w.double, [1])
    assert session.portal.call(session.run, w.double, 2) == 4


def test_a_shutdown_that_does_not_wait(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """shutdown(wait=False) returns while calls run, and they and those that wait are finished."""
    executor, path = session.executor(), tmp_path / "path"
    futures = [executor.submit(w.wait_for_file, str(path)) for _ in range(N + 1)]
    begun(path, N)
    executor.shutdown(wait=False)
    assert not any(future.done() for future in futures)
    go(path)
    assert [future.result() for future in futures] == ["went"] * (N + 1)


def test_a_shutdown_that_cancels(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """cancel_futures cancels what waits and lets finish what runs; kill stops that too."""
    for kill in (False, True):
        executor, path = session.executor(), tmp_path / f"path-{kill}"
        futures = [executor.submit(w.wait_for_file, str(path)) for _ in range(N + 2)]
        begun(path, N)
        if not kill:
            go(path)
        executor.shutdown(cancel_futures=not kill, kill=kill)
        assert sum(future.cancelled() for future in futures) == 2
        ends = [type(future.exception()) for future in futures if not future.cancelled()]
        assert ends == [CancelledError if kill else type(None)] * N


def test_a_dropped_executor_finishes(session: offloop.ParallelSession) -> None:
    """Of an executor that is dropped with calls under way these are finished, and then nothing is left of it."""
    executor = session.executor()
    dropped = weakref.ref(executor)
    futures = [executor.submit(w.double, x) for x in range(10)]
    del executor
    assert [future.result() for future in futures] == list(range(0, 20, 2))
    del futures
    session.portal.call(asyncio.sleep, 0)  # what has made the last call is over
    gc.collect()
    assert dropped() is None


def test_a_closed_session_fails_its_futures(tmp_path: Path) -> None:
    """When the session is closed, calls that run and calls that wait fail with SessionClosedError, later ones too."""
    session, path = offloop.ParallelSession(workers=1, grace_s=5.0).open(), tmp_path / "path"
    executor = session.executor()
    futures = [executor.submit(w.wait_for_file, str(path)) for _ in range(5)]
    begun(path)
    session.portal.call(session.aclose)
    futures.append(executor.submit(w.wait_for_file, str(path)))
    session.portal.close()
    futures.append(executor.submit(w.wait_for_file, str(path)))
    assert [type(future.exception()) for future in futures] == [offloop.SessionClosedError] * 7
    executor.shutdown()
    with pytest.raises(offloop.SessionClosedError):
        session.executor()


def test_a_closed_portal_fails_its_futures(tmp_path: Path) -> None:
    """When the portal is closed under it, a call that runs is stopped, and calls that wait fail, however many they are."""
    session, path = offloop.ParallelSession(workers=1, grace_s=5.0).open(), tmp_path / "path"
    executor = session.executor(strategy="serial")
    futures = [executor.submit(wait_stoppably, str(path))] + [executor.submit(w.nothing) for _ in range(2000)]
    begun(path)
    session.portal.close()
    assert isinstance(futures[0].exception(), CancelledError)
    assert {type(future.exception()) for future in futures[1:]} == {offloop.SessionClosedError}
    executor.shutdown()
    asyncio.run(session.aclose())


def wait_stoppably(path: str) -> None:
    """Say that it has begun, and wait until it is stopped."""
    w.append(f"{path}.began", "began")
    while True:
        offloop.checkpoint()


def test_a_submit_that_is_interrupted(session: offloop.ParallelSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of submit is raised there, and the executor goes on, and has an end."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with session.executor(workers=1) as executor:
        with monkeypatch.context() as patch:
            patch.setattr(session.portal, "submit", interrupt)
            with pytest.raises(KeyboardInterrupt):
                executor.submit(w.double, 1)
        assert executor.submit(w.double, 2).result() == 4


def test_an_executor_leaves_nothing_for_the_exit(session: offloop.ParallelSession) -> None:
    """However many executors a program makes, the interpreter has no more to do for them in the end."""
    session.executor()
    count = len(threading._threading_atexits)  # type: ignore[attr-defined]
    session.executor()
    assert len(threading._threading_atexits) == count  # type: ignore[attr-defined]


# --- from wherever ---------------------------------------------------------------------------------------------------------


def test_many_threads_submit(executor: SessionExecutor) -> None:
    """Threads may submit at the same time; each call is executed once and every future has its own result."""
    results: dict[int, list[Any]] = {}

    def submit(base: int) -> None:
        results[base] = [future.result() for future in [executor.submit(w.double, base + x) for x in range(50)]]

    threads = [threading.Thread(target=submit, args=(1000 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {base: [2 * (base + x) for x in range(50)] for base in range(0, 8000, 1000)}


def test_a_callback_submits(executor: SessionExecutor, tmp_path: Path) -> None:
    """A callback, which is called on the portal, may submit and cancel, but not wait for the executor."""
    ends: list[Any] = []
    is_done = threading.Event()

    def callback(_: Any) -> None:
        ends.append(executor.submit(w.double, 3))
        try:
            executor.shutdown()
        except RuntimeError as error:
            ends.append(error)
        is_done.set()

    executor.submit(w.wait_for_file, str(tmp_path / "path")).add_done_callback(callback)
    go(tmp_path / "path")
    is_done.wait()
    assert ends[0].result() == 6
    assert "callback" in str(ends[1])


_name: contextvars.ContextVar[str] = contextvars.ContextVar("name")


def submit_as(name: str, executor: SessionExecutor) -> None:
    """Submit a call in a context of this name."""
    _name.set(name)
    executor.submit(w.double, 1)


def test_calls_have_their_submitters_context(session: offloop.ParallelSession) -> None:
    """A call is told of in the context of who submitted it, also where calls of several wait together."""
    names: list[str] = []

    def sink(event: offloop.Event) -> None:
        if isinstance(event, RunFinished):
            names.append(_name.get())

    remove = offloop.add_sink(sink)
    try:
        with session.executor(workers=1) as executor:
            for name in "aabbaab":
                contextvars.copy_context().run(submit_as, name, executor)
    finally:
        remove()
    assert names == list("aabbaab")


def test_an_event_loop_uses_it(executor: SessionExecutor) -> None:
    """run_in_executor works, also as the loop's default executor's stand-in, while the loop goes on."""

    async def use() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, w.double, x) for x in range(20)))

    assert asyncio.run(use()) == list(range(0, 40, 2))


def test_dask_uses_it(executor: SessionExecutor) -> None:
    """Dask's local scheduler takes the executor, given as the scheduler or as the pool."""
    doubles = [dask.delayed(w.double)(x) for x in range(6)]  # type: ignore[attr-defined]
    total = dask.delayed(sum)(doubles)  # type: ignore[attr-defined]
    assert total.compute(scheduler=executor) == 30
    with dask.config.set(pool=executor):
        assert total.compute(scheduler="processes") == 30


def test_it_can_be_used_inside_a_worker(session: offloop.ParallelSession) -> None:
    """In a worker an executor executes its calls right there."""
    with session.executor() as executor:
        assert executor.submit(executor_inside, 5).result() == (1, [0, 2, 4, 6, 8])


def executor_inside(count: int) -> tuple[int, list[int]]:
    """Use an executor inside a worker."""
    session = offloop.ParallelSession().open()
    with session.executor() as executor:
        results = list(executor.map(w.double, range(count)))
    session.portal.call(session.aclose)
    session.portal.close()
    return executor._max_workers, results
