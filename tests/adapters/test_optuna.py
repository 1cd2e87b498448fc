"""Studies whose objectives execute on workers: what is stored is what Optuna itself would have stored."""

from __future__ import annotations

import inspect
import math
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import FrozenTrial, TrialState

import offloop
import workloads as w
from offloop.adapters.optuna import TrialProxy, TrialView, optimize

from . import objectives as o

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet_optuna")]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The event loop that a test runs on: one is enough for what is stored; how trials end is tested on all."""
    return "asyncio"


@pytest.fixture(scope="module")
async def workers(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A session on processes that all tests of the module share, with everything started."""
    async with offloop.ParallelSession(strategy="processes", workers=2, idle_timeout_s=600) as session:
        await w.start_all(session, "processes")
        yield session


@pytest.fixture(scope="module")
async def auto(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A session that chooses for itself."""
    async with offloop.ParallelSession(workers=2, idle_timeout_s=600) as session:
        for strategy in ("serial", "threads", "processes"):
            await w.start_all(session, strategy)
        yield session


@pytest.fixture
def new_study() -> Callable[..., optuna.Study]:
    """Makes a study that draws by a seed."""

    def made(**options: Any) -> optuna.Study:
        return optuna.create_study(**{"sampler": TPESampler(seed=1, n_startup_trials=4), **options})

    return made


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[optuna.storages.RDBStorage]:
    """A storage in a SQLite file."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")
    yield storage
    storage.remove_session()
    storage.engine.dispose()


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


def stored(study: optuna.Study) -> list[tuple[object, ...]]:
    """What of each trial doesn't depend on when and where it was executed."""
    return [
        (trial.number, trial.state, trial.params, trial.distributions, trial.values, trial.intermediate_values)
        for trial in study.trials
    ]


def most_at_a_time(study: optuna.Study) -> int:
    spans = [trial.user_attrs["span"] for trial in study.trials]
    return max(sum(begun <= now < ended for begun, ended in spans) for now, _ in spans)


@pytest.mark.parametrize("kind", [optuna.trial.BaseTrial, optuna.Trial])
def test_a_proxy_has_all_that_trials_have(kind: type) -> None:
    """Every public name of Optuna's trials is there, and takes the same arguments."""
    for name in (name for name in dir(kind) if not name.startswith("_")):
        theirs, ours = inspect.getattr_static(kind, name), inspect.getattr_static(TrialProxy, name)
        assert isinstance(ours, property) is isinstance(theirs, property), name
        if not isinstance(theirs, property):
            assert str(inspect.signature(ours)).partition(" ->")[0].replace("T]", "") == str(
                inspect.signature(theirs)
            ).partition(" ->")[0].replace("CategoricalChoiceType]", ""), name
    assert issubclass(TrialProxy, optuna.trial.BaseTrial)


@pytest.mark.parametrize("strategy", ["serial", "processes"])
async def test_one_worker_draws_what_optuna_draws(
    auto: offloop.ParallelSession, new_study: Callable[..., optuna.Study], strategy: Any
) -> None:
    """With one worker and a seed all trials are those of `study.optimize`, pruned ones included, wherever they execute."""
    ours, theirs = new_study(), new_study()
    theirs.optimize(o.pruned, 12)
    await optimize(ours, o.pruned, 12, session=auto, strategy=strategy, workers=1)
    assert stored(ours) == stored(theirs)
    assert {"PRUNED", "COMPLETE"} == set(states(ours))


async def test_an_objective_has_its_whole_trial_in_a_worker(
    workers: offloop.ParallelSession, new_study: Callable[..., optuna.Study], sqlite: optuna.storages.RDBStorage
) -> None:
    """Suggestions, reports, attributes, constraints and the study are those of the storage, a SQLite file."""
    study = new_study(storage=sqlite, sampler=RandomSampler(seed=1))
    for _ in range(4):
        study.enqueue_trial({"k": 4}, user_attrs={"given": 1})
    await optimize(study, o.curious, 4, session=workers)
    assert states(study) == ["COMPLETE"] * 4
    assert {trial.params["k"] for trial in study.trials} == {4}
    assert {trial.user_attrs["said"]["pid"] for trial in study.trials} <= set(workers.statistics().workers)
    assert study.user_attrs["seen"] >= 3


async def test_with_distributions_nothing_is_asked(
    workers: offloop.ParallelSession, new_study: Callable[..., optuna.Study]
) -> None:
    """Given distributions, the objective gets a view, and what is drawn is what a seed draws, however many work."""
    ours, theirs = new_study(sampler=RandomSampler(seed=1)), new_study(sampler=RandomSampler(seed=1))
    theirs.optimize(lambda trial: o.value_of(o.suggested(trial)), 8)
    await optimize(ours, o.viewed, 8, session=workers, distributions=o.SPACE)
    assert stored(ours) == stored(theirs)


async def test_several_objectives(workers: offloop.ParallelSession, new_study: Callable[..., optuna.Study]) -> None:
    """An objective may return several values."""
    study = new_study(directions=["minimize", "maximize"])
    await optimize(study, o.two_values, 4, session=workers)
    assert [trial.values for trial in study.trials] == [[t.params["x"], 1 - t.params["x"]] for t in study.trials]


@pytest.mark.parametrize("value", [math.nan, None, "many", (1.0, 2.0)], ids=repr)
async def test_a_value_that_is_none_fails_its_trial(
    workers: offloop.ParallelSession, new_study: Callable[..., optuna.Study], value: object
) -> None:
    """What isn't a value fails its trial, without an error, as Optuna has it."""
    ours, theirs = new_study(), new_study()
    theirs.optimize(partial(o.returns, value), 2)
    await optimize(ours, partial(o.returns, value), 2, session=workers, workers=1)
    assert stored(ours) == stored(theirs)
    assert states(ours) == ["FAIL"] * 2


async def test_callbacks_are_called_one_at_a_time(
    workers: offloop.ParallelSession, new_study: Callable[..., optuna.Study]
) -> None:
    """Each callback gets the study and a trial of its own to change, in the one thread in which the study is used."""
    study, told, threads = new_study(), list[FrozenTrial](), set[int]()

    def spoil(study: optuna.Study, trial: FrozenTrial) -> None:
        trial.params.clear()
        threads.add(threading.get_ident())

    def tell(_: optuna.Study, trial: FrozenTrial) -> None:
        told.append(trial)
        threads.add(threading.get_ident())

    await optimize(study, o.pruned, 6, session=workers, callbacks=[spoil, tell])
    assert sorted(told, key=lambda trial: trial.number) == study.trials
    assert len(threads - {threading.get_ident()}) == 1


async def test_a_callback_stops_a_study(workers: offloop.ParallelSession, new_study: Callable[..., optuna.Study]) -> None:
    """`study.stop` in a callback, Optuna's own among them, lets trials under way end and begins no more."""
    study = new_study()
    stop = optuna.study.MaxTrialsCallback(3, states=None)
    await optimize(study, o.pruned, session=workers, callbacks=[stop])
    assert 3 <= len(study.trials) <= 4
    assert "RUNNING" not in states(study)


async def test_an_objective_stops_its_study(
    workers: offloop.ParallelSession, new_study: Callable[..., optuna.Study]
) -> None:
    """`trial.study.stop` does so from within an objective."""
    study = new_study()
    await optimize(study, partial(o.stops_at, 2), session=workers, workers=1)
    assert states(study) == ["COMPLETE"] * 3


async def test_no_trial_begins_after_the_time_is_over(
    workers: offloop.ParallelSession, new_study: Callable[..., optuna.Study]
) -> None:
    """Beyond timeout_s no trial begins, and those under way end as ever."""
    study = new_study()
    await optimize(study, o.timed, timeout_s=0.05, session=workers)
    assert states(study)
    assert set(states(study)) == {"COMPLETE"}
    n_trials = len(study.trials)
    await optimize(study, o.timed, timeout_s=0, session=workers)
    await optimize(study, o.timed, 0, session=workers)
    assert len(study.trials) == n_trials


@pytest.mark.parametrize("strategy", ["threads", "processes"])
async def test_so_many_are_under_way(
    auto: offloop.ParallelSession, new_study: Callable[..., optuna.Study], strategy: Any, tmp_path: Path
) -> None:
    """As many trials execute at a time as there are workers, or as `workers` says, no more."""
    wide, narrow = new_study(), new_study()
    await optimize(wide, partial(o.met, f"{tmp_path}/meeting"), 6, session=auto, strategy=strategy)
    assert most_at_a_time(wide) <= 2
    await optimize(narrow, o.timed, 4, session=auto, strategy=strategy, workers=1)
    assert most_at_a_time(narrow) == 1


async def test_two_optimise_one_study(workers: offloop.ParallelSession, new_study: Callable[..., optuna.Study]) -> None:
    """Two calls at once share a study and its workers."""
    study = new_study()
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(partial(optimize, study, o.pruned, 5, session=workers))
    assert [trial.number for trial in study.trials] == list(range(10))
    assert "RUNNING" not in states(study)


class Learner:
    """Has jobs of its own."""

    n_jobs = -1

    def __init__(self) -> None:
        self.n_jobs = -1


async def test_what_is_parallel_itself_is_not_nested(
    auto: offloop.ParallelSession, new_study: Callable[..., optuna.Study]
) -> None:
    """Trials of a learner that brings jobs of its own execute one after another."""
    study = new_study()
    await optimize(study, partial(o.timed_with, Learner()), 4, session=auto)
    assert most_at_a_time(study) == 1
    assert auto.decisions[-1].reason is offloop.Reason.INNER_PARALLELISM


async def test_an_objective_that_cant_travel_stays(
    auto: offloop.ParallelSession, new_study: Callable[..., optuna.Study]
) -> None:
    """Under `auto`, an objective that can't be pickled executes in this process, though workers would be the better place."""
    study = new_study()
    await optimize(study, partial(o.spins, threading.Lock()), 6, session=auto)
    assert states(study) == ["COMPLETE"] * 6


async def test_the_process_wide_session_is_the_default(new_study: Callable[..., optuna.Study]) -> None:
    """Without a session, trials execute on the process-wide one."""
    study = new_study()
    await optimize(study, o.pruned, 2)
    assert len(study.trials) == 2
    await offloop.close_default_session()


class Beating(InMemoryStorage, BaseHeartbeat):
    """A storage that wants to hear of trials under way."""

    def __init__(self) -> None:
        super().__init__()
        self.beats: list[int] = []
        self.heard = threading.Event()

    def record_heartbeat(self, trial_id: int) -> None:
        self.beats.append(trial_id)
        if len(self.beats) >= 4:
            self.heard.set()

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        return [trial._trial_id for trial in self.get_all_trials(study_id) if trial.state is TrialState.RUNNING]

    def get_heartbeat_interval(self) -> int | None:
        return 0

    def get_heartbeat_stale_trial_callback(self) -> Any:
        return None


async def test_a_storage_hears_of_trials_under_way(
    auto: offloop.ParallelSession, new_study: Callable[..., optuna.Study]
) -> None:
    """A storage with heartbeats gets them for as long as a trial executes, and trials of the dead are failed."""
    storage = Beating()
    study = new_study(storage=storage)
    storage.create_new_trial(study._study_id)  # by somebody who has died since
    await optimize(study, lambda trial: float(storage.heard.wait(20)), 1, session=auto, strategy="serial")
    assert states(study) == ["FAIL", "COMPLETE"]
    assert study.best_value == 1.0


async def test_what_cant_work_is_refused_before_any_trial(
    auto: offloop.ParallelSession, new_study: Callable[..., optuna.Study]
) -> None:
    """Async objectives and callbacks, options that don't exist, and values that can't work begin no trial."""

    async def objective(trial: Any) -> float:
        return 0.0

    async def callback(study: Any, trial: Any) -> None: ...

    study = new_study()
    wrong: list[tuple[type[Exception], Any, dict[str, Any]]] = [
        (offloop.AsyncFunctionError, objective, {}),
        (offloop.AsyncFunctionError, o.pruned, {"callbacks": [callback]}),
        (offloop.SettingTypeError, o.pruned, {"n_jobs": 2}),
        (offloop.SettingError, o.pruned, {"workers": 0}),
        (offloop.SettingError, o.pruned, {"timeout_s": -1}),
        (offloop.SettingTypeError, o.pruned, {"catch": "Exception"}),
        (offloop.SettingTypeError, o.pruned, {"callbacks": [3]}),
        (offloop.SettingTypeError, o.pruned, {"callbacks": o.pruned}),
        (offloop.SettingTypeError, o.viewed, {"distributions": {"x": FloatDistribution(0, 1), "y": (0, 1)}}),
        (TypeError, None, {}),
    ]
    for error, fn, options in wrong:
        with pytest.raises(error):
            await optimize(study, fn, 1, session=auto, **options)
    assert study.trials == []


def test_a_view_is_of_values_alone() -> None:
    """A view can't be written to, and survives a pickle."""
    view = TrialView(number=1, params={"x": 1})
    assert pickle.loads(pickle.dumps(view)) == view
    with pytest.raises(AttributeError):
        view.number = 2  # type: ignore[misc]
