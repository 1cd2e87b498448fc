"""Numbers and texts that can't work, in arguments, settings and the environment: refused at once, by name and value."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import AsyncIterator
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import offloop
import workloads as w
from offloop.options import BATCH_OPTIONS, MAP_OPTIONS, RUN_OPTIONS, STREAM_OPTIONS
from offloop.sensing.environment import VARIABLES

pytestmark = pytest.mark.anyio

NAN, INF = math.nan, math.inf

_SECONDS = [-1, -1e-9, NAN, INF, -INF, "1", b"1", True, [1], 1j, np.float64("nan"), np.float32("inf"), Decimal("NaN")]
_COUNTS = [0, -1, -(10**30), 2.5, 2.0, NAN, INF, 1e6, "2", "x", b"2", True, [2], (), np.float64(2), np.True_, Decimal(2), Fraction(2)]
BAD: dict[str, list[Any]] = {
    "workers": [value for value in _COUNTS if type(value) is not int] + [0, -2, -5, -(10**30)],
    "chunk_size": _COUNTS,
    "batch_size": _COUNTS,
    "max_items_per_worker": _COUNTS,
    "worker_max_rss_bytes": _COUNTS,
    "max_in_flight_bytes": _COUNTS,
    "max_pending": _COUNTS,
    "max_pending_bytes": _COUNTS,
    "window": _COUNTS,
    "item_bytes": [value for value in _COUNTS if value != 0 or type(value) is not int],
    "retries": [None, *(value for value in _COUNTS if value != 0 or type(value) is not int)],
    "seed": [value for value in _COUNTS if value != 0 or type(value) is not int],
    "item_timeout_s": [0, 0.0, *_SECONDS],
    "timeout_s": [0, 0.0, *_SECONDS],
    "item_cost_s": [0, 0.0, *_SECONDS],
    "idle_timeout_s": [None, 0, *_SECONDS],
    "grace_s": [None, *_SECONDS],
    "max_wait_s": _SECONDS,
}
SETTINGS = {field.name for field in fields(offloop.ParallelConfig)}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop will do: what is refused never reaches it."""
    return "asyncio"


@pytest.fixture(scope="module")
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(workers=2, idle_timeout_s=600) as session:
        await w.start_all(session, "processes")
        yield session


class Untouched:
    """Items that must not be read."""

    def __iter__(self) -> Any:
        raise AssertionError("the items were touched")


def named(name: str, value: object) -> str:
    return f"^{re.escape(f'{name}={value!r}: ')}"


def test_every_number_is_tried() -> None:
    """There is no setting and no option that takes a number and is not in the table."""
    words = {"strategy", "local", "transport", "on_error", "combine", "label", "thread_safe", "ordered", "priority", "progress"}
    others = {"worker_init", "worker_init_args", "min_speedup", "worker_nice"}
    assert {*BAD, *words, *others} == SETTINGS | RUN_OPTIONS | STREAM_OPTIONS | BATCH_OPTIONS


@pytest.mark.fault(43, 55, 56)
@pytest.mark.parametrize("name", BAD)
async def test_a_number_that_cannot_work(session: offloop.ParallelSession, name: str) -> None:
    """It is refused where it is given, before an item is read, with its name, its value and what to write."""
    calls: list[tuple[Any, Any]] = [
        (SETTINGS, offloop.ParallelSession),
        (SETTINGS, offloop.ParallelConfig),
        (RUN_OPTIONS, partial(session.run, w.double, 1)),
        (MAP_OPTIONS, partial(session.run_parallel, w.double, Untouched())),
        (MAP_OPTIONS, partial(offloop.run_parallel, w.double, Untouched())),
        (STREAM_OPTIONS, partial(session.stream, w.double, Untouched())),
        (BATCH_OPTIONS, partial(session.run_batches, w.double, Untouched())),
    ]
    for value in BAD[name]:
        with w.heard() as told:
            for call in [call for allowed, call in calls if name in allowed]:
                with pytest.raises(offloop.SettingError, match=named(name, value)) as caught:
                    await call(**{name: value})
                assert isinstance(caught.value, ValueError)
        assert not told


@pytest.mark.fault(43)
async def test_a_limit_of_draining_that_cannot_work(session: offloop.ParallelSession) -> None:
    """It is refused before anything is drained."""
    for value in (-1, NAN, INF, "1", True):
        with pytest.raises(offloop.SettingError, match=named("timeout_s", value)):
            await session.drain(timeout_s=value)
    assert await session.run(w.double, 2) == 4


# What is unusual and works: the least and the most, and whole numbers of other kinds.
GOOD: list[dict[str, Any]] = [
    {"grace_s": 0},
    {"grace_s": 1e300},
    {"grace_s": np.float32(0.5)},
    {"grace_s": Fraction(1, 2)},
    {"grace_s": 5e-324},
    {"retries": 10**30},
    {"retries": np.int64(2)},
    {"item_cost_s": 5e-324},
    {"item_cost_s": 1e300},
    {"item_cost_s": Decimal("0.001")},
    {"item_bytes": 10**30},
    {"item_bytes": np.uint8(200)},
    {"chunk_size": 10**30},
    {"chunk_size": np.int64(3)},
    {"workers": 10**30},
    {"workers": 10**6},
    {"workers": np.int64(1)},
    {"item_timeout_s": 1e300},
    {"item_timeout_s": np.float64(30)},
    {"item_timeout_s": Decimal(30)},
    {"label": "\0" * 10_000},
    {"max_wait_s": 1e300},
    {"priority": "Interactive"},
]


@pytest.mark.fault(43, 55, 56)
@pytest.mark.parametrize("strategy", ["auto", "processes"])
@pytest.mark.parametrize("options", GOOD, ids=lambda options: repr(options)[:60])
async def test_extremes_work(session: offloop.ParallelSession, options: dict[str, Any], strategy: Any) -> None:
    """What is not refused works, however far from the usual it is."""
    with anyio.fail_after(30):
        results = await session.run_parallel(w.double, range(50), strategy=strategy, **options)
    assert results == list(range(0, 100, 2))


@pytest.mark.fault(43, 55)
@pytest.mark.parametrize(
    "settings",
    [{"idle_timeout_s": 1e300}, {"workers": 10**30}, {"worker_nice": 10**30}, {"min_speedup": 1e300}, {"max_in_flight_bytes": 1}, {"max_pending": 10**30},
     {"max_pending": 1}, {"max_pending_bytes": 1}, {"max_wait_s": 1e300}],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore")
async def test_extreme_settings_work(anyio_backend: object, settings: dict[str, Any]) -> None:
    """So do settings of a session, or they are refused as it is made."""
    try:
        made = offloop.ParallelSession(strategy="processes", **settings)
    except offloop.SettingError:
        return
    async with made as session:
        with anyio.fail_after(30):
            assert await session.run_parallel(w.double, range(10)) == list(range(0, 20, 2))


# --- the environment ---------------------------------------------------------------------------------------------------

GARBAGE = [
    "x", "-", "--1", "1 2", "1,5", "0x10", "1_0_", "∞", "nan", "inf", "-inf", "1e999", "9" * 5000, "None", "\x1b[31m", "a\nb",
    "$(id)", "__import__('os').getpid()", "[1]", "'1'", "\udcff",
]  # fmt: skip


@pytest.mark.fault(54)
@pytest.mark.parametrize("variable", VARIABLES)
def test_garbage_in_a_variable(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """No session is made of it: the error names the variable and what it says, in one line without control characters."""
    for text in GARBAGE:
        monkeypatch.setenv(variable, text)
        with pytest.raises(offloop.SettingError, match=f"^{variable}=") as caught:
            offloop.ParallelSession()
        assert repr(text) in str(caught.value)
        assert str(caught.value).isprintable()
        assert caught.value.__cause__ is None


@pytest.mark.fault(54)
@pytest.mark.parametrize("variable", ["LOKY_MAX_CPU_COUNT", "OMP_NUM_THREADS", "CI"])
async def test_garbage_in_variables_of_others(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """What other libraries' variables say is taken where it makes sense, and stops nobody."""
    for text in GARBAGE:
        monkeypatch.setenv(variable, text)
        async with offloop.ParallelSession() as session:
            assert (await session.decide(w.double, range(10))).workers >= 1


@pytest.mark.fault(54)
def test_a_variable_with_a_strange_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is warned of in one line without control characters."""
    for name in ("OFFLOOP_A\nB", "OFFLOOP_\x1b[31m", "offloop_" + "x" * 10_000, "OFFLOOP_ü\udcff"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, "1")
            with pytest.warns(UserWarning, match="is no setting of offloop") as warned:
                offloop.ParallelSession()
        assert str(warned[0].message).isprintable()


# --- texts are never code ----------------------------------------------------------------------------------------------

CODE = "__import__('os').mkdir('harm')"


@pytest.mark.fault(80)
async def test_texts_are_never_evaluated(
    session: offloop.ParallelSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that is code stays a text, in every option and in every variable."""
    monkeypatch.chdir(tmp_path)
    for name in sorted(SETTINGS - {"worker_init_args"}):
        with pytest.raises(offloop.SettingError):
            offloop.ParallelSession(**{name: CODE})
    for name in sorted(MAP_OPTIONS - {"label"}):
        with pytest.raises(offloop.SettingError):
            await session.run_parallel(w.double, Untouched(), **{name: CODE})  # type: ignore[misc]
    for name in sorted(STREAM_OPTIONS - {"label"}):
        with pytest.raises(offloop.SettingError):
            session.stream(w.double, Untouched(), **{name: CODE})  # type: ignore[misc]
    for name in sorted(BATCH_OPTIONS - {"label"}):
        with pytest.raises(offloop.SettingError):
            await session.run_batches(w.double, Untouched(), **{name: CODE})  # type: ignore[misc]
    assert await session.run_parallel(w.double, [1], label=CODE) == [2]
    for variable in VARIABLES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(variable, CODE)
            with pytest.raises(offloop.SettingError):
                offloop.ParallelSession()
    assert not list(tmp_path.iterdir())


HARMLESS = {"re.compile", "platform.system", "platforms.system"}


@pytest.mark.fault(80)
def test_no_text_becomes_code() -> None:
    """Nothing in the package evaluates a text, runs a shell, or reads YAML or a pickle out of a file."""
    forbidden = {"eval", "exec", "compile", "system", "popen", "Popen", "run_path", "literal_eval", "load_module", "execfile"}
    package = Path(offloop.__file__).parent
    found = [
        f"{path.relative_to(package)}:{node.lineno} {ast.unparse(node.func)}"
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in forbidden
    ]
    assert [place for place in found if place.partition(" ")[2] not in HARMLESS] == []
