"""How trials end: failed, crashed, timed out, cancelled, interrupted; none is left RUNNING."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import optuna
import pytest
import sniffio
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

import offloop
import scripts
import workloads as w
from cancelling import at_every_step
from offloop.adapters.optuna import optimize

from . import objectives as o

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet_optuna")]


@pytest.fixture(scope="module")
async def workers(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A session on processes that all tests of the module share, with everything started."""
    async with offloop.ParallelSession(strategy="processes", workers=2, idle_timeout_s=600, grace_s=10) as session:
        await w.start_all(session, "processes")
        yield session


@pytest.fixture
async def own() -> AsyncIterator[offloop.ParallelSession]:
    """A session for a test that has it lose workers, or start threads."""
    async with offloop.ParallelSession(workers=2, grace_s=10) as session:
        yield session


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


async def test_a_failure_ends_all_of_it(
    workers: offloop.ParallelSession, study: optuna.Study, tmp_path: Path
) -> None:
    """What an objective raises is raised as itself, once the trials beside it have stopped; all have failed."""
    with pytest.raises(o.Refused) as caught:
        await optimize(study, partial(o.fails_beside, f"{tmp_path}/run"), 10, session=workers)
    assert caught.value.args == (1,)
    assert states(study) == ["FAIL", "FAIL"]
    assert w.lines(tmp_path / "run.began") == w.lines(tmp_path / "run.stopped")


@pytest.mark.parametrize("catch", [o.Refused, (o.Refused,), [ValueError, Exception]], ids=repr)
async def test_a_failure_to_catch_fails_its_trial_alone(
    workers: offloop.ParallelSession, study: optuna.Study, catch: Any
) -> None:
    """With `catch` the others go on."""
    await optimize(study, o.fails, 4, session=workers, catch=catch)
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "FAIL"]


async def test_a_crash_is_a_failure(own: offloop.ParallelSession, study: optuna.Study) -> None:
    """A trial whose worker dies fails with WorkerCrashed, raised or caught like any exception; its neighbours don't notice."""
    await optimize(study, o.crashes, 4, session=own, strategy="processes", catch=offloop.WorkerCrashed, retries=0)
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    again = optuna.create_study()
    with pytest.raises(offloop.WorkerCrashed):
        await optimize(again, o.crashes, 4, session=own, strategy="processes", workers=1, retries=0)
    assert states(again) == ["COMPLETE", "FAIL"]


async def test_a_trial_whose_worker_died_once_goes_on(
    own: offloop.ParallelSession, study: optuna.Study, tmp_path: Path
) -> None:
    """It is executed again with the values that it had, and what it has reported before is no mistake."""
    path = f"{tmp_path}/died"
    await optimize(study, partial(o.crashes_once, path), 1, session=own, strategy="processes")
    [trial] = study.trials
    assert trial.state is TrialState.COMPLETE
    assert trial.intermediate_values == {0: trial.value, 1: trial.value}
    assert w.lines(Path(path)) == [str(trial.value)]


async def test_a_report_at_a_step_again_is_warned_of(workers: offloop.ParallelSession, study: optuna.Study) -> None:
    """Within one execution a step that was reported before is Optuna's warning, in the process that has the study."""
    with pytest.warns(UserWarning, match="already reported"):
        await optimize(study, o.reports_twice, 1, session=workers)
    assert study.trials[0].intermediate_values == {0: 1.0}


async def test_a_trial_that_takes_too_long_is_stopped(
    workers: offloop.ParallelSession, study: optuna.Study, tmp_path: Path
) -> None:
    """Beyond item_timeout_s a trial fails with ItemTimeout."""
    with pytest.raises(offloop.ItemTimeout):
        await optimize(study, partial(o.loops, f"{tmp_path}/run"), 1, session=workers, item_timeout_s=0.2)
    assert states(study) == ["FAIL"]


@pytest.mark.parametrize("strategy", ["threads", "processes"])
async def test_cancelling_fails_what_is_under_way(
    study: optuna.Study, own: offloop.ParallelSession, tmp_path: Path, strategy: Any
) -> None:
    """Cancelling returns when the trials under way have stopped and the study knows that they have failed."""
    path = f"{tmp_path}/run"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(optimize, study, partial(o.loops, path), 8, session=own, strategy=strategy))
        await w.appears(f"{path}.began", 2)
        tasks.cancel_scope.cancel()
    assert len(w.lines(tmp_path / "run.stopped")) == 2
    assert states(study) == ["FAIL", "FAIL"]


async def test_cancel_of_an_asyncio_task_does_too(
    study: optuna.Study, workers: offloop.ParallelSession, tmp_path: Path
) -> None:
    """So does `cancel` of an asyncio task, however often, which knows nothing of shields."""
    if sniffio.current_async_library() != "asyncio":
        return
    path = f"{tmp_path}/run"
    task = asyncio.create_task(optimize(study, partial(o.loops, path), 8, session=workers))
    await w.appears(f"{path}.began", 2)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    assert task.cancelled()
    assert states(study) == ["FAIL", "FAIL"]


async def test_cancelling_at_every_step(workers: offloop.ParallelSession) -> None:
    """Wherever it is cancelled, trials are told of, and the session executes the next."""
    made: list[optuna.Study] = []

    async def call() -> None:
        made.append(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)))
        await optimize(made[-1], o.fails, 2, session=workers, catch=o.Refused)

    async def after() -> None:
        assert "RUNNING" not in states(made[-1])
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("offloop-optuna")] == []

    n_cancelled = await at_every_step(call, after, stride=5)
    assert n_cancelled > 3
    assert states(made[-1]) == ["COMPLETE", "FAIL"]


class Blocking(InMemoryStorage):
    """A storage that can be made to wait, or to fail, as it makes or ends a trial."""

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.goes_on = threading.Event(), threading.Event()
        self.blocks_at: str | None = None
        self.fails_at: str | None = None

    def _at(self, step: str) -> None:
        if step == self.blocks_at:
            self.waits.set()
            assert self.goes_on.wait(20)
        if step == self.fails_at:
            raise OSError(step)

    def create_new_trial(self, *args: Any, **kwargs: Any) -> int:
        number = super().create_new_trial(*args, **kwargs)
        self._at("ask")
        return number

    def set_trial_state_values(self, *args: Any, **kwargs: Any) -> bool:
        self._at("tell")
        return super().set_trial_state_values(*args, **kwargs)


@pytest.mark.parametrize(("step", "state"), [("ask", "FAIL"), ("tell", "COMPLETE")])
async def test_cancelling_while_the_storage_works(workers: offloop.ParallelSession, step: str, state: str) -> None:
    """A trial that was being made then has failed, one that had its value has it, and the loop turns meanwhile."""
    storage = Blocking()
    study, storage.blocks_at = optuna.create_study(storage=storage), step
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(optimize, study, partial(o.returns, 1.0), 8, session=workers, workers=1))
        assert await anyio.to_thread.run_sync(storage.waits.wait, 20)
        tasks.cancel_scope.cancel()
        storage.blocks_at = None
        storage.goes_on.set()
    assert states(study) == [state]


@pytest.mark.parametrize("error", [o.Refused("callback"), SystemExit(3)], ids=lambda error: type(error).__name__)
async def test_what_a_callback_raises_is_raised(
    workers: offloop.ParallelSession, study: optuna.Study, error: BaseException
) -> None:
    """It ends all, and its own trial has its value."""

    def refuse(*_: object) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await optimize(study, o.fails, 8, session=workers, workers=1, callbacks=[refuse])
    assert caught.value is error
    assert states(study) == ["COMPLETE"]


async def test_a_storage_that_fails(
    workers: offloop.ParallelSession, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the storage raises is raised as itself, and a trial that it can't be told of is named in the log."""
    storage = Blocking()
    study, storage.fails_at = optuna.create_study(storage=storage), "tell"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    monkeypatch.setattr(logging.getLogger("optuna"), "propagate", True)
    optuna.logging.disable_default_handler()
    try:
        with pytest.raises(OSError, match="tell"):
            await optimize(study, o.fails, 1, session=workers)
    finally:
        optuna.logging.enable_default_handler()
    assert "Trial 0 was broken off" in caplog.text


@pytest.mark.parametrize(("objective", "distributions"), [(o.fails, None), (o.viewed, o.SPACE)], ids=["asked", "drawn"])
async def test_what_a_sampler_raises_is_raised(
    workers: offloop.ParallelSession, study: optuna.Study, objective: Any, distributions: Any
) -> None:
    """An error of the sampler comes up in the objective that asked, or as the trial begins, and ends all."""

    class Broken(optuna.samplers.RandomSampler):
        def sample_independent(self, *args: Any, **kwargs: Any) -> Any:
            raise o.Refused("sampler")

    study.sampler = Broken()
    with pytest.raises(o.Refused, match="sampler"):
        await optimize(study, objective, 8, session=workers, workers=1, distributions=distributions)
    assert states(study) == ["FAIL"]


@pytest.mark.parametrize("fn", [partial(o.returns, 1.0), o.fails], ids=["returns", "raises"])
async def test_nothing_of_it_is_kept(workers: offloop.ParallelSession, fn: Any) -> None:
    """Objective and study are gone with their last names, without waiting for the garbage collector."""
    if sniffio.current_async_library() != "trio":
        pytest.skip("asyncio keeps the frames of what is cancelled")
    objective, study = partial(fn), optuna.create_study()
    gone = [weakref.ref(objective), weakref.ref(study)]
    gc.collect()
    gc.disable()
    try:
        with suppress(o.Refused):
            await optimize(study, objective, 4, session=workers)
        del objective, study
        while any(ref() is not None for ref in gone):  # a thread that answered may be about to let go
            await anyio.sleep(0.001)
    finally:
        gc.enable()


PROGRAM = """
import anyio, optuna, offloop
from adapters.objectives import interrupts_parent
from offloop.adapters.optuna import optimize

async def main():
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        await optimize(study, interrupts_parent, 5, session=session)

optuna.logging.set_verbosity(optuna.logging.CRITICAL)
study = optuna.create_study()
try:
    anyio.run(main)
except BaseException as error:
    while isinstance(error, BaseExceptionGroup):
        [error] = error.exceptions
    print(type(error).__name__)
print([trial.state.name for trial in study.trials])
"""


async def test_ctrl_c_fails_what_is_under_way(tmp_path: Path) -> None:
    """An interrupted program leaves no trial RUNNING."""
    program = PROGRAM.replace("anyio.run(main)", f"anyio.run(main, backend={sniffio.current_async_library()!r})")
    done = await anyio.to_thread.run_sync(partial(scripts.run, program, cwd=tmp_path))
    assert done.stdout.splitlines() == ["KeyboardInterrupt", "['FAIL']"], done.stderr
