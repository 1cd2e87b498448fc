"""OFFLOOP_* variables and CI: each does what it says, the operator's word comes first, and a session tells its sources."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import anyio
import numpy as np
import pytest

import offloop
import workloads as w
from offloop import Reason, Strategy
from offloop.sensing.environment import VARIABLES
from offloop.settings import SettingSource

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop will do: variables know nothing of it."""
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
def transport() -> None:
    """No transport but the default: which one it is, is among what variables say."""


# --- what each variable does: True with it, False without ----------------------------------------------------------------


async def has_one_worker(session: offloop.ParallelSession, _: Path) -> bool:
    await session.run_parallel(w.double, range(10), strategy="processes")
    return session.decisions[-1].workers == 1 == len(session.statistics().workers)


async def runs_here(session: offloop.ParallelSession, _: Path) -> bool:
    return await session.run(w.pid_of, strategy="processes") == os.getpid()


async def chooses_under_ci(session: offloop.ParallelSession, _: Path) -> bool:
    return (await session.decide(w.double, range(50), item_cost_s=0.1)).reason is not Reason.CI


async def is_on_processes(session: offloop.ParallelSession, _: Path) -> bool:
    pid = await session.run(w.pid_of)
    return pid != os.getpid() and session.decisions[-1].reason is Reason.EXPLICIT


async def has_chunks_of_7(session: offloop.ParallelSession, _: Path) -> bool:
    pids = await session.run_parallel(w.pid_of, range(7), strategy="processes")
    return session.decisions[-1].chunk_size == 7 and len(set(pids)) == 1


async def wants_much_speedup(session: offloop.ParallelSession, _: Path) -> bool:
    return (await session.decide(w.double, range(1000), item_cost_s=0.004)).reason is Reason.TOO_SMALL


async def never_runs_twice(session: offloop.ParallelSession, folder: Path) -> bool:
    fn = offloop.call(w.die_once, str(folder / "died"))
    try:
        await session.run(fn, 5, strategy="processes")
    except offloop.WorkerCrashed:
        return True
    return False


async def has_little_grace(session: offloop.ParallelSession, _: Path) -> bool:
    return (await session.decide(w.double, range(5), item_cost_s=0.1)).reason is Reason.ABOVE_GRACE


async def uses_fresh_workers(session: offloop.ParallelSession, _: Path) -> bool:
    pids = [await session.run(w.pid_of, strategy="processes") for _ in range(5)]
    return len(set(pids)) > 2


async def loses_idle_workers(session: offloop.ParallelSession, _: Path) -> bool:
    await session.warm(1)
    with anyio.move_on_after(0.6):
        while session.statistics().workers:
            await anyio.sleep(0.01)
    return not session.statistics().workers


async def is_not_nice(session: offloop.ParallelSession, _: Path) -> bool:
    return await session.run(w.niceness, strategy="processes") == os.nice(0)


async def keeps_out(session: offloop.ParallelSession, _: Path) -> bool:
    return await session.run(w.pid_of) != os.getpid() and session.decisions[-1].reason is Reason.LOCAL_NEVER


async def has_names(session: offloop.ParallelSession, _: Path) -> bool:
    where = await session.run(w.mapped_from, np.zeros(1 << 18), strategy="processes")
    return "/offloop-" in where


async def sends_one_at_a_time(session: offloop.ParallelSession, _: Path) -> bool:
    await session.warm()
    items = [np.full(1 << 15, 0.1) for _ in range(4)]
    spans = sorted(await session.run_parallel(w.nap_of_an_array, items, strategy="processes", chunk_size=1))
    return all(ends <= begins for (_, ends), (begins, _) in pairwise(spans))


async def refuses_some(session: offloop.ParallelSession, _: Path) -> bool:
    refused: list[offloop.Overloaded] = []

    async def call() -> None:
        try:
            await session.run(w.nap_of_an_array, np.full(1 << 10, 0.05), strategy="processes")
        except offloop.Overloaded as error:
            refused.append(error)

    await call()  # so that its cost is known
    async with anyio.create_task_group() as tasks:
        for _number in range(8):
            tasks.start_soon(call)
    return bool(refused)


TABLE: dict[tuple[str, str], Callable[[offloop.ParallelSession, Path], Awaitable[bool]]] = {
    ("OFFLOOP_WORKERS", "1"): has_one_worker,  # on a machine of one core it would have one anyway
    ("OFFLOOP_PARALLEL", "off"): runs_here,
    ("OFFLOOP_PARALLEL", " Off "): runs_here,
    ("OFFLOOP_PARALLEL", "PROCESSES"): is_on_processes,
    ("OFFLOOP_PARALLEL", "on"): chooses_under_ci,
    ("OFFLOOP_CHUNK_SIZE", "7"): has_chunks_of_7,
    ("OFFLOOP_MIN_SPEEDUP", "50"): wants_much_speedup,
    ("OFFLOOP_RETRIES", "0"): never_runs_twice,
    ("OFFLOOP_GRACE_S", "0.01"): has_little_grace,
    ("OFFLOOP_MAX_ITEMS_PER_WORKER", "2"): uses_fresh_workers,
    ("OFFLOOP_WORKER_MAX_RSS_BYTES", "1"): uses_fresh_workers,
    ("OFFLOOP_IDLE_TIMEOUT_S", "0.1"): loses_idle_workers,
    ("OFFLOOP_WORKER_NICE", "0"): is_not_nice,
    ("OFFLOOP_LOCAL", "never"): keeps_out,
    ("OFFLOOP_TRANSPORT", "portable"): has_names,
    ("OFFLOOP_MAX_IN_FLIGHT_BYTES", "1"): sends_one_at_a_time,
    ("OFFLOOP_MAX_PENDING", "1"): refuses_some,
    ("OFFLOOP_MAX_PENDING_BYTES", "1"): refuses_some,
    ("OFFLOOP_MAX_WAIT_S", "0.01"): refuses_some,
}


def test_the_table_is_complete() -> None:
    """There is a case for every variable that is documented."""
    assert {variable for variable, _ in TABLE} == set(VARIABLES)


@pytest.mark.parametrize(("variable", "value"), TABLE)
async def test_a_variable_changes_what_happens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str
) -> None:
    """With the variable something is so that isn't without it, and the session says where the setting comes from."""
    has_effect = TABLE[variable, value]
    if has_effect is chooses_under_ci:
        monkeypatch.setenv("CI", "true")
    without, with_it = tmp_path / "without", tmp_path / "with"
    without.mkdir()
    with_it.mkdir()
    async with offloop.ParallelSession() as session:
        assert not await has_effect(session, without)
    monkeypatch.setenv(variable, value)
    async with offloop.ParallelSession() as session:
        assert await has_effect(session, with_it)
        setting = VARIABLES[variable].setting
        is_word = value.strip().lower() in ("on", "off")
        assert session.sources[setting] is (SettingSource.DEFAULT if is_word else SettingSource.ENVIRONMENT)


async def test_off_beats_every_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's "off" keeps all in the local thread, says so, and counts it as not what was asked for."""
    monkeypatch.setenv("OFFLOOP_PARALLEL", "off")
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        with w.heard("parallel.fallback") as told:
            threads = await session.run_parallel(w.thread_of, range(10), strategy="processes", chunk_size=1)
            threads += await session.run_parallel(w.thread_of, range(10), strategy="threads", chunk_size=1)
            threads += [await session.run(w.thread_of, strategy="processes")]
        assert len(set(threads)) == 1
        assert threads[0][0] == os.getpid()
        assert {(one.strategy, one.reason) for one in session.decisions} == {(Strategy.SERIAL, Reason.OPERATOR_OFF)}
        assert [(event.from_strategy, event.to_strategy, event.reason) for event in told] == [
            ("processes", "serial", "operator_off"),
            ("threads", "serial", "operator_off"),
            ("processes", "serial", "operator_off"),
        ]
        assert session.statistics().fallbacks == {Reason.OPERATOR_OFF: 3}
        assert session.statistics().workers_started == 0


@pytest.mark.parametrize("value", ["false", "0", "", "False"])
async def test_a_ci_that_is_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """CI=false and the like are not CI."""
    monkeypatch.setenv("CI", value)
    async with offloop.ParallelSession(workers=2) as session:
        assert (await session.decide(w.double, range(50), item_cost_s=0.1)).strategy is Strategy.PROCESSES


async def test_under_ci_auto_is_serial(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` stays in the local thread under CI; who asks for processes gets them."""
    monkeypatch.setenv("CI", "true")
    async with offloop.ParallelSession(workers=2) as session:
        pids = await session.run_parallel(w.pid_of, range(20), item_cost_s=0.1)
        assert set(pids) == {os.getpid()}
        assert (session.decisions[-1].strategy, session.decisions[-1].reason) == (Strategy.SERIAL, Reason.CI)
        assert os.getpid() not in await session.run_parallel(w.pid_of, range(20), strategy="processes")


@pytest.mark.fault(54)
async def test_a_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no setting is warned of, with the nearest that is."""
    monkeypatch.setenv("OFFLOOP_WORKRES", "3")
    with pytest.warns(UserWarning, match=r"OFFLOOP_WORKRES.*did you mean OFFLOOP_WORKERS"):
        offloop.ParallelSession()


@pytest.mark.fault(54)
async def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that can't work is an error that names the variable."""
    monkeypatch.setenv("OFFLOOP_WORKERS", "many")
    with pytest.raises(offloop.SettingError, match="OFFLOOP_WORKERS"):
        offloop.ParallelSession()


async def test_every_source_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keyword before config before environment before default, and the session knows which it was."""
    monkeypatch.setenv("OFFLOOP_RETRIES", "5")
    monkeypatch.setenv("OFFLOOP_CHUNK_SIZE", "9")
    monkeypatch.setenv("OFFLOOP_GRACE_S", "3")
    session = offloop.ParallelSession(offloop.ParallelConfig(chunk_size=4, retries=2), retries=7)
    assert (session.config.retries, session.config.chunk_size, session.config.grace_s) == (7, 4, 3.0)
    assert session.sources["retries"] is SettingSource.KEYWORD
    assert session.sources["chunk_size"] is SettingSource.CONFIG
    assert session.sources["grace_s"] is SettingSource.ENVIRONMENT
    assert session.sources["workers"] is SettingSource.DEFAULT
    assert set(session.sources) == set(offloop.ParallelConfig.__dataclass_fields__)
