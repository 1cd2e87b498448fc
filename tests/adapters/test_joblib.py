"""joblib on a session's workers: what it returns and raises, how it stops, what it leaves to others."""

from __future__ import annotations

import contextvars
import gc
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config

import offloop
import workloads as w
from offloop.adapters import joblib as adapter
from offloop.adapters.joblib import on_loop
from offloop.adapters.joblib.inputs import Inputs

from . import joblib_tasks

pytestmark = pytest.mark.anyio

N = 2  # workers


@pytest.fixture(scope="module")
def session() -> Iterator[offloop.ParallelSession]:
    """A session that a module's tests share, held by no event loop."""
    opened = offloop.ParallelSession(workers=N, grace_s=5.0).open()
    opened.portal.call(opened.warm)
    opened.portal.call(w.start_all, opened, "processes")  # so that all there is for workers is there
    yield opened
    opened.portal.call(opened.aclose)
    opened.portal.close()


@pytest.fixture
def config(session: offloop.ParallelSession) -> Iterator[None]:
    """joblib on that session, in this thread."""
    with parallel_config("offloop", session=session):
        yield


async def begun(folder: Path, count: int = N) -> None:
    """Wait until so many workers are at it."""
    while len(list(folder.iterdir())) < count:
        await anyio.sleep(0.005)


# --- what joblib returns and raises ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("config")
class TestParallel:
    """`joblib.Parallel`, in a thread without an event loop."""

    def test_results_are_in_order(self) -> None:
        """Values come in the order of their calls, from as many workers as the session has."""
        pids = Parallel()(delayed(w.pid_of)() for _ in range(8))
        assert os.getpid() not in pids
        assert Parallel(batch_size=3, pre_dispatch="all")(delayed(w.double)(i) for i in range(50)) == [2 * i for i in range(50)]

    def test_a_generator_yields_in_order_and_another_as_they_come(self) -> None:
        """`return_as` holds, in both of its ways."""
        assert list(Parallel(return_as="generator")(delayed(w.double)(i) for i in range(20))) == [2 * i for i in range(20)]
        unordered = Parallel(return_as="generator_unordered")(delayed(w.double)(i) for i in range(20))
        assert sorted(unordered) == [2 * i for i in range(20)]

    def test_an_exception_arrives_as_itself_and_stops_the_others(self, tmp_path: Path) -> None:
        """What a call raises is raised, once the others, endless loops here, have stopped; the Parallel can be used again."""
        with Parallel() as parallel:
            with pytest.raises(LookupError, match="enough"):
                parallel(delayed(joblib_tasks.fail_or_spin)(tmp_path, i) for i in range(20))
            assert parallel(delayed(w.double)(i) for i in range(3)) == [0, 2, 4]

    def test_a_timeout_is_raised_and_stops_what_takes_so_long(self, tmp_path: Path) -> None:
        """`timeout` raises as joblib has it, and nothing goes on."""
        with pytest.raises(multiprocessing.TimeoutError):
            Parallel(timeout=0.05)(delayed(joblib_tasks.spin)(tmp_path) for _ in range(2))

    def test_a_dropped_generator_stops_its_calls(self, session: offloop.ParallelSession, tmp_path: Path) -> None:
        """Who drops a generator of results has what is left of its calls stopped."""
        results = Parallel(return_as="generator")(delayed(joblib_tasks.spin)(tmp_path) for _ in range(2))
        with pytest.warns(UserWarning, match="cancelled"):
            del results
        assert session.statistics().pending == 0

    def test_an_interrupt_from_the_keyboard_stops_everything(
        self, session: offloop.ParallelSession, tmp_path: Path
    ) -> None:
        """A KeyboardInterrupt is raised where joblib waits, with nothing left under way."""

        def interrupt() -> None:
            anyio.run(begun, tmp_path)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            Parallel()(delayed(joblib_tasks.spin)(tmp_path) for _ in range(4))
        thread.join()
        assert session.statistics().pending == 0

    @pytest.mark.parametrize("error", [LookupError("no more"), SystemExit(3)], ids=lambda error: type(error).__name__)
    @pytest.mark.parametrize("return_as", ["list", "generator"])
    def test_what_the_calls_come_from_may_block_and_fail(
        self, session: offloop.ParallelSession, error: BaseException, return_as: str
    ) -> None:
        """The iterable of calls may wait for the same workers, and what it raises is raised, an exit too."""

        def calls(n: int) -> Iterator[Any]:
            for i in range(n):
                yield delayed(w.double)(session.portal.call(session.run, w.double, i))
            raise error

        with pytest.raises(type(error)) as caught:
            list(Parallel(return_as=return_as)(calls(10)))
        assert caught.value is error

    def test_nothing_of_a_call_is_kept(self) -> None:
        """Arguments and results are gone with their last names, without waiting for the garbage collector."""
        value = np.ones(1 << 18)  # 2 MiB
        gc.collect()
        gc.disable()
        try:
            results = Parallel(batch_size=1)(delayed(np.copy)(value) for _ in range(4))
            gone = [weakref.ref(array) for array in (value, *results)]
            del value, results
            assert {ref() is None for ref in gone} == {True}
        finally:
            gc.enable()

    def test_jobs_are_counted_as_joblib_does(self) -> None:
        """Negative numbers leave cores out, more than there are workers are capped, none is all, 0 is refused, 1 is joblib's loop."""
        cores = joblib.cpu_count()
        assert [joblib.effective_n_jobs(n) for n in (1, None, -1, 64)] == [1, N, N, N]
        assert joblib.effective_n_jobs(-cores) == 1
        with pytest.raises(ValueError, match="no meaning"):
            joblib.effective_n_jobs(0)
        assert set(Parallel(n_jobs=1)(delayed(w.pid_of)() for _ in range(3))) == {os.getpid()}

    def test_shared_memory_stays_in_this_process(self) -> None:
        """What requires shared memory is executed by threads, as joblib has it for every backend of processes."""
        assert set(Parallel(n_jobs=2, require="sharedmem")(delayed(w.pid_of)() for _ in range(4))) == {os.getpid()}

    @pytest.mark.parametrize("backend", [None, "offloop", "threading"])
    def test_nested_calls_stay_in_their_worker(self, backend: str | None) -> None:
        """What is parallel in a worker is executed there, and by itself takes no more than the worker's share of the cores."""
        for pids, pid, n_jobs in Parallel()(delayed(joblib_tasks.nested)(-1, backend) for _ in range(2)):
            assert pids == {pid}
            assert n_jobs == max(1, joblib.cpu_count() // N)

    def test_a_worker_may_write_to_what_it_got(self) -> None:
        """A large array that stands in every call arrives as it is each time, whatever a call has written to it."""
        values = np.ones(1 << 18)  # 2 MiB
        sums = Parallel(batch_size=1)(delayed(joblib_tasks.write_to)(values) for _ in range(8))
        assert sums == [values.size - 2.0] * 8
        assert values[0] == 1.0

    def test_options_are_checked(self) -> None:
        """A backend's option that doesn't exist is refused at once."""
        with pytest.raises(offloop.SettingTypeError, match="retires"), parallel_config("offloop", retires=0):
            pass


def test_the_process_wide_session_is_used_without_one() -> None:
    """`parallel_config("offloop")` alone takes the workers of the module-level functions."""
    with parallel_config("offloop"):
        assert Parallel()(delayed(w.double)(i) for i in range(5)) == [0, 2, 4, 6, 8]
    anyio.run(offloop.close_default_session)


def test_a_closed_session_is_an_error() -> None:
    """On a session that isn't open joblib raises what the session raises, and doesn't wait."""
    session = offloop.ParallelSession(workers=N)
    with parallel_config("offloop", session=session), pytest.raises(offloop.SessionClosedError):
        Parallel()(delayed(w.double)(i) for i in range(5))
    session.portal.close()


async def test_a_dead_worker_costs_an_error_of_ours(own: offloop.ParallelSession) -> None:
    """Where a call kills its worker each time it is made, that is raised; the next call works."""
    with pytest.raises(offloop.WorkerCrashed):
        await own.run_joblib(lambda: Parallel(retries=0)(delayed(os._exit)(3) for _ in range(2)))
    assert await own.run_joblib(lambda: Parallel()(delayed(w.double)(i) for i in range(3))) == [0, 2, 4]


# --- large inputs ------------------------------------------------------------------------------------------------------


class Noting:
    """Notes what is shared and released."""

    def __init__(self) -> None:
        self.shared: list[Any] = []

    def share(self, value: Any) -> None:
        self.shared.append(value)

    def release(self, value: Any) -> None:
        self.shared = [other for other in self.shared if other is not value]


class Batch:
    """A batch of joblib's, of calls with these arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.items = [(w.nothing, args, kwargs)]


def frames() -> list[Any]:
    """Inputs of each kind that may be shared."""
    import pandas as pd
    import scipy.sparse

    array = np.ones((1000, 10))
    return [array, pd.DataFrame(array), pd.Series(array[:, 0].copy()), scipy.sparse.csr_matrix(array)]


@pytest.mark.parametrize("value", frames(), ids=lambda value: type(value).__name__)
def test_large_inputs_are_shared_when_they_come_again(value: Any) -> None:
    """What is large is shared from its second batch on, once, and released after the call; never the user's own object."""
    noting = Noting()
    inputs = Inputs(noting, 8_000)  # type: ignore[arg-type]
    inputs.look_at(Batch(1, value, np.ones(10)))
    assert noting.shared == []
    for _ in range(2):
        inputs.look_at(Batch(2, X=value))
    assert 1 <= len(noting.shared) <= 3
    assert all(part is not value for part in noting.shared)
    inputs.release()
    assert noting.shared == []


def test_inputs_are_not_shared_where_joblib_is_told_so() -> None:
    """`max_nbytes=None` has everything sent each time, and objects are never shared."""
    noting = Noting()
    array, objects = np.ones(10_000), np.full(10_000, "x", dtype=object)
    for limit, value in ((None, array), (1, objects), (1, "text")):
        inputs = Inputs(noting, limit)  # type: ignore[arg-type]
        for _ in range(3):
            inputs.look_at(Batch(value))
    assert noting.shared == []


# --- on an event loop --------------------------------------------------------------------------------------------------


@pytest.fixture
async def own() -> AsyncIterator[offloop.ParallelSession]:
    """A session of the test's own event loop."""
    async with offloop.ParallelSession(workers=N, max_pending=1, grace_s=5.0) as session:
        yield session


async def test_the_loop_is_free_meanwhile(own: offloop.ParallelSession) -> None:
    """`run_joblib` returns what fn does, with the caller's context, as one call, while the event loop goes on."""
    name = contextvars.ContextVar("name", default="")
    name.set("mine")
    is_seen = threading.Event()

    def work() -> tuple[str, list[int]]:
        assert is_seen.wait(30)
        return name.get(), Parallel()(delayed(w.double)(i) for i in range(8))

    async with anyio.create_task_group() as tasks:

        async def look() -> None:
            while not own.statistics().pending:
                await anyio.sleep(0)
            with pytest.raises(offloop.Overloaded):
                await own.run(w.double, 1)
            is_seen.set()

        tasks.start_soon(look)
        assert await own.run_joblib(work) == ("mine", [2 * i for i in range(8)])
    with pytest.raises(LookupError, match="no 3"):
        await own.run_joblib(lambda: Parallel()(delayed(joblib_tasks.fail_at)(3, i) for i in range(8)))


@pytest.mark.parametrize("way", ["scope", "stop"])
async def test_cancelling_stops_joblib(own: offloop.ParallelSession, tmp_path: Path, way: str) -> None:
    """Who cancels `run_joblib`, or closes the session, has its calls stopped, and fn ended by an exception, when that returns."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            Parallel()(delayed(joblib_tasks.spin)(tmp_path) for _ in range(8))
        except BaseException as error:
            raised.append(error)
            raise

    async with anyio.create_task_group() as tasks:

        async def execute() -> None:
            try:
                await own.run_joblib(work)
            except offloop.SessionClosedError:
                assert way == "stop"

        tasks.start_soon(execute)
        await begun(tmp_path)
        if way == "scope":
            tasks.cancel_scope.cancel()
        else:
            await own.aclose()
    assert [type(error) for error in raised] == [offloop.TaskCancelled if way == "scope" else offloop.SessionClosedError]
    assert own.statistics().pending == 0


async def test_draining_waits_for_it(own: offloop.ParallelSession) -> None:
    """A session that drains lets fn finish, with joblib calls that it hasn't made yet."""
    goes_on = threading.Event()

    def work() -> list[int]:
        assert goes_on.wait(30)
        return Parallel()(delayed(w.double)(i) for i in range(4))

    values: list[int] = []
    async with anyio.create_task_group() as tasks:

        async def execute() -> None:
            values.extend(await own.run_joblib(work))

        tasks.start_soon(execute)
        while not own.statistics().pending:
            await anyio.sleep(0)
        assert not await own.drain(0)
        goes_on.set()
        assert await own.drain()
    assert values == [0, 2, 4, 6]


async def test_a_call_that_holds_the_loop_is_told_of_once(
    session: offloop.ParallelSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A joblib call on an event loop's own thread is told of, with what to write, the first time; one in a thread is not."""
    monkeypatch.setattr(on_loop, "_told", set())
    told: list[offloop.Event] = []
    remove = offloop.add_sink(lambda event: told.append(event) if isinstance(event, adapter.LoopHeld) else None)
    work = partial(Parallel(backend="offloop", session=session), [delayed(w.double)(1), delayed(w.double)(2)])
    with monkeypatch.context():
        assert await session.run_joblib(work) == [2, 4]
        assert told == []
        for _ in range(2):
            assert work() == [2, 4]
    remove()
    assert len(told) == 1
    assert "await session.run_joblib" in told[0].advice  # type: ignore[attr-defined]
