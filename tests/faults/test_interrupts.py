"""Work that never looks at checkpoint is stopped where that can be done, and given up where it can't."""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import failpoints
import offloop
import scripts
import stubborn
import workloads as w

pytestmark = pytest.mark.anyio

IS_LONG = bool(os.environ.get("FAULTS_LONG"))
LONG_GRACE_S = 20.0  # what is over before was not killed


@pytest.fixture(scope="module")
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=2, idle_timeout_s=600) as session:
        await w.start_all(session, "processes")
        await w.start_all(session, "threads")
        yield session


@pytest.fixture
async def own(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A session of a test that costs workers."""
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        await session.warm()
        yield session


async def cancel_once(path: str, fn: Any, *args: Any, **options: Any) -> float:
    """Cancel a call as soon as it has come to a file, and return how long that took to return."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(fn, *args, **options))
        await w.appears(path)
        begun = time.monotonic()
        tasks.cancel_scope.cancel()
    return time.monotonic() - begun


WHERE = [(name, "processes") for name in (*stubborn.INTERRUPTIBLE, *stubborn.ONLY_IN_WORKERS)]
WHERE += [(name, strategy) for name in stubborn.INTERRUPTIBLE for strategy in ("threads", "serial")]


@pytest.mark.fault(27)
@pytest.mark.parametrize(("name", "strategy"), WHERE)
async def test_python_code_is_interrupted(
    session: offloop.ParallelSession, tmp_path: Path, name: str, strategy: Any
) -> None:
    """It stops long before grace is over, its finally blocks run to their end, and the same worker serves the next call."""
    path, before = f"{tmp_path}/run", session.statistics()
    fn = {**stubborn.INTERRUPTIBLE, **stubborn.ONLY_IN_WORKERS}[name]
    took = await cancel_once(f"{path}.began", session.run, fn, path, strategy=strategy, grace_s=LONG_GRACE_S)
    assert took < LONG_GRACE_S / 2
    assert w.lines(Path(f"{path}.stopped")) == w.lines(Path(f"{path}.began"))
    assert await session.run(w.double, 21, strategy=strategy) == 42
    after = session.statistics()
    assert sorted(after.workers) == sorted(before.workers)
    assert after.workers_started == before.workers_started


@pytest.mark.fault(27)
@pytest.mark.parametrize("strategy", ["processes", "threads", "serial"])
async def test_a_map_is_interrupted(session: offloop.ParallelSession, tmp_path: Path, strategy: Any) -> None:
    """All items under way stop, none begins after, and the same workers serve the next run."""
    path, before = f"{tmp_path}/run", session.statistics().workers
    fn = partial(stubborn.spin_if_odd, path)
    await cancel_once(
        f"{path}.began", session.run_parallel, fn, range(100), chunk_size=4, strategy=strategy, grace_s=LONG_GRACE_S
    )
    ran = w.lines(Path(f"{path}.ran"))
    assert sorted(w.lines(Path(f"{path}.stopped"))) == sorted(w.lines(Path(f"{path}.began")))
    assert await session.run_parallel(w.double, range(20), strategy=strategy) == list(range(0, 40, 2))
    assert w.lines(Path(f"{path}.ran")) == ran
    assert sorted(session.statistics().workers) == sorted(before)


@pytest.mark.fault(28)
@pytest.mark.parametrize("fn", [failpoints.hold_the_gil_for_good, stubborn.refuse])
async def test_what_is_deaf_is_killed_after_grace(own: offloop.ParallelSession, tmp_path: Path, fn: Any) -> None:
    """C code that holds the GIL, or code that swallows everything, costs its worker and nothing else."""
    path, before = f"{tmp_path}/run", own.statistics().workers
    with w.heard("worker.killed") as killed:
        took = await cancel_once(f"{path}.began", own.run, fn, path, grace_s=0.2)
    assert took >= 0.2
    (pid,) = map(int, w.lines(Path(f"{path}.began")))
    assert [event.pid for event in killed] == [pid]
    assert not scripts.alive([pid])
    assert set(before) - {pid} <= set(own.statistics().workers)
    assert await own.run_parallel(w.double, range(20)) == list(range(0, 40, 2))


@pytest.mark.fault(27)
@pytest.mark.parametrize("strategy", ["processes", "serial"])
async def test_a_shield_holds_an_interrupt_back(session: offloop.ParallelSession, tmp_path: Path, strategy: Any) -> None:
    """What is shielded is finished, and stops at the end of the shield."""
    path = f"{tmp_path}/run"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(session.run, stubborn.shield, path, strategy=strategy, grace_s=LONG_GRACE_S))
        await w.appears(f"{path}.began")
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.1)  # many interrupts' time; were one heard, there would be no line below
            Path(f"{path}.go").touch()
    assert len(w.lines(Path(f"{path}.shielded"))) == 1
    assert not w.lines(Path(f"{path}.exposed"))
    assert await session.run(w.double, 21, strategy=strategy) == 42


@pytest.mark.fault(27)
async def test_a_shield_does_not_hold_a_kill_back(own: offloop.ParallelSession, tmp_path: Path) -> None:
    """After grace a worker is killed, shielded or not."""
    path = f"{tmp_path}/run"
    await cancel_once(f"{path}.began", own.run, stubborn.shield, path, grace_s=0.1)
    assert int(w.lines(Path(f"{path}.began"))[0]) not in own.statistics().workers
    assert await own.run(w.double, 21) == 42


@pytest.mark.fault(27)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_scored_errors_do_not_eat_an_interrupt(anyio_backend: object, tmp_path: Path) -> None:
    """scikit-learn's error_score, which takes failures for scores, lets it through."""
    path = f"{tmp_path}/run"
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        took = await cancel_once(f"{path}.began", session.run, stubborn.fit_for_ever, path, 5, grace_s=LONG_GRACE_S)
        assert session.statistics().workers == tuple(map(int, w.lines(Path(f"{path}.began"))))
    assert took < LONG_GRACE_S / 2
    assert len(w.lines(Path(f"{path}.began"))) == len(w.lines(Path(f"{path}.stopped"))) == 1


@pytest.mark.fault(27)
async def test_an_import_is_not_torn(anyio_backend: object, tmp_path: Path) -> None:
    """An import that is cancelled halfway is whole afterwards in the same worker, and was executed once."""
    path = f"{tmp_path}/run"
    (tmp_path / "slow_module.py").write_text(stubborn.SLOW_MODULE)
    (tmp_path / "path").write_text(path)
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        import_it = partial(stubborn.import_slowly, str(tmp_path))
        await cancel_once(f"{path}.began", session.run, import_it, path, grace_s=LONG_GRACE_S)
        assert await session.run(import_it, path) == "whole"
        assert len(w.lines(Path(f"{path}.began"))) == session.statistics().workers_started == 1


@pytest.mark.fault(27, 49)
@pytest.mark.parametrize("what", ["thread", "handler", "timer"])
async def test_what_an_interrupted_item_leaves_retires_its_worker(
    own: offloop.ParallelSession, tmp_path: Path, what: str
) -> None:
    """A worker in which it left a thread, a signal handler or a timer is replaced, and nobody fails for it."""
    path = f"{tmp_path}/run"
    with w.heard("worker.retired") as retired:
        await cancel_once(f"{path}.began", own.run, stubborn.leak, what, path, grace_s=LONG_GRACE_S)
        (pid,) = map(int, w.lines(Path(f"{path}.began")))
        assert await own.run_parallel(w.double, range(20), retries=0) == list(range(0, 40, 2))
    assert [event.pid for event in retired] == [pid]
    assert pid not in own.statistics().workers


@pytest.mark.fault(27, 30)
@pytest.mark.parametrize("strategy", ["processes", "threads", "serial"])
async def test_a_late_interrupt_hits_nobody(session: offloop.ParallelSession, strategy: Any) -> None:
    """Calls cancelled around the moment at which they end by themselves leave no interrupt to those that follow."""
    chance = random.Random(11)
    n_rounds = 5000 if IS_LONG else 120
    with anyio.fail_after(100):
        for number in range(n_rounds):
            with anyio.move_on_after(0.001 + 0.004 * chance.random()):
                await session.run(w.spin, 0.005 * chance.random(), strategy=strategy)
            assert await session.run(w.echo, number, strategy=strategy) == number
            assert await session.run_parallel(w.double, range(3), strategy=strategy) == [0, 2, 4]
    assert session.statistics().workers_crashed == 0


@pytest.mark.fault(28)
@pytest.mark.parametrize("strategy", ["serial", "threads"])
async def test_a_thread_that_does_not_stop_is_abandoned(anyio_backend: object, tmp_path: Path, strategy: Any) -> None:
    """It is told of, its caller waits no longer than grace, and others have a fresh thread."""
    path = f"{tmp_path}/run"
    os.mkfifo(f"{path}.pipe")
    async with offloop.ParallelSession(strategy=strategy, workers=2) as session:
        first = await session.run(w.thread_of)
        try:
            with w.heard("item.abandoned") as abandoned:
                await cancel_once(f"{path}.began", session.run, stubborn.open_pipe, path, grace_s=0.1)
            assert [(event.item, event.grace_s) for event in abandoned] == [(0, 0.1)]
            with anyio.fail_after(10):
                assert await session.run_parallel(w.double, range(20)) == list(range(0, 40, 2))
                if strategy == "serial":
                    assert await session.run(w.thread_of) != first
        finally:
            os.close(os.open(f"{path}.pipe", os.O_RDWR))  # who waits for that goes on


# --- where interrupts may come ----------------------------------------------------------------------------------------

OWN_CODE = """
import sys, offloop, workloads as w
from offloop.wire import status_page
from offloop.worker import interrupt
from offloop.worker.execute import execute
from offloop.worker.task import Task

class Nowhere:
    def values(self, *_): pass
    def failure(self, *_): pass
    gather = failure

def checked(x):
    with offloop.shield():
        offloop.checkpoint()
    return x, offloop.is_cancelled(), offloop.in_worker(), offloop.worker_state()

def trace(frame, event, argument):
    module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_name
    if module.startswith("offloop") and (module, name) != ("offloop.worker.interrupt", "call"):
        seen.add(name)
        if interrupt._may_raise_in(frame):
            wrong.add((module, name, frame.f_lineno))
    return trace

seen, wrong = set(), set()
for fn in (w.double, str, w.fail_on_odd, checked):
    words = status_page.new_page(bytearray(status_page.SIZE))
    task = Task(words, 1, None, True, interrupt.Guard())
    sys.settrace(trace)
    execute(fn, range(6), start=0, flags=0, budget_ns=0, task=task, emit=Nowhere())
    sys.settrace(None)
assert {"execute", "open", "shut"} <= seen
assert not wrong, wrong
"""


@pytest.mark.fault(27)
def test_no_interrupt_comes_in_our_own_code(tmp_path: Path) -> None:
    """Whatever line of offloop's is being executed around an item, none of them is one where an interrupt may be raised."""
    done = scripts.run(OWN_CODE, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


TRACED = """
import sys, anyio, offloop, stubborn, workloads as w

async def main(path):
    async with offloop.ParallelSession(strategy="serial") as session, anyio.create_task_group() as tasks:
        tasks.start_soon(session.run, stubborn.spin, path)
        await w.appears(path + ".began")
        tasks.cancel_scope.cancel()

anyio.run(main, sys.argv[1])
sys.settrace(lambda *_: None)
print(w.double(21))
"""


@pytest.mark.fault(27)
def test_an_interrupted_thread_leaves_the_interpreter_as_it_was(tmp_path: Path) -> None:
    """A debugger or a coverage tool may trace a program in which an item of a thread was interrupted."""
    done = scripts.run(TRACED, str(tmp_path / "run"), cwd=tmp_path, timeout_s=20)
    assert (done.stdout, done.stderr, done.returncode) == ("42\n", "", 0)
