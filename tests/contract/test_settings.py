"""Settings that can't work: refused at once, by name and value, with what to write instead."""

from __future__ import annotations

import logging
import os
import re
from typing import Any

import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

NAN = float("nan")
WORKERS = [0, -2, 2.9, "auto", True, NAN, float("inf"), b"2", [2]]
CHUNK_SIZES = [0, -1, 2.5, "10", True, NAN]


@pytest.mark.parametrize("value", WORKERS, ids=repr)
@pytest.mark.fault(55)
def test_bad_workers_of_a_session(value: Any) -> None:
    """The value is named, and the error is one that users already catch."""
    kind = ValueError if type(value) is int else TypeError
    with pytest.raises(kind, match=re.escape(f"workers={value!r}")) as caught:
        offloop.ParallelSession(workers=value)
    assert isinstance(caught.value, offloop.SettingError)


def test_zero_workers_come_with_what_to_write_instead() -> None:
    """Who wants no workers is told how to say that."""
    with pytest.raises(ValueError, match="serial"):
        offloop.ParallelSession(workers=0)


@pytest.mark.parametrize("value", CHUNK_SIZES, ids=repr)
@pytest.mark.fault(56)
def test_bad_chunk_sizes_of_a_session(value: Any) -> None:
    """The value is named."""
    with pytest.raises((ValueError, TypeError), match=re.escape(f"chunk_size={value!r}")):
        offloop.ParallelSession(chunk_size=value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"strategy": "procesess"}, "procesess.*processes"),
        ({"strategy": 5}, "strategy=5"),
        ({"strategy": None}, "strategy=None"),
        ({"worker": 2}, "worker=2.*workers"),
        ({"retries": -1}, "retries=-1"),
        ({"retries": 1.5}, "retries=1.5"),
        ({"grace_s": -0.1}, "grace_s=-0.1"),
        ({"grace_s": NAN}, "grace_s=nan"),
        ({"grace_s": "1"}, "grace_s='1'"),
        ({"idle_timeout_s": 0}, "idle_timeout_s=0"),
        ({"idle_timeout_s": float("inf")}, "idle_timeout_s=inf"),
        ({"min_speedup": 0.5}, "min_speedup=0.5"),
        ({"worker_init": 5}, "worker_init=5"),
    ],
    ids=str,
)
def test_bad_settings_of_a_session(settings: dict[str, Any], told: str) -> None:
    """Setting and value are named, and the nearest that there is."""
    with pytest.raises((ValueError, TypeError), match=told):
        offloop.ParallelSession(**settings)


class Untouched:
    """Items that must not be read."""

    def __iter__(self) -> Any:
        raise AssertionError("the items were touched")


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("options", "told"),
    [
        *(({"workers": value}, re.escape(f"workers={value!r}")) for value in WORKERS),
        *(({"chunk_size": value}, re.escape(f"chunk_size={value!r}")) for value in CHUNK_SIZES),
        ({"strategy": "procesess"}, "procesess.*processes"),
        ({"chunksize": 3}, "chunksize=3.*chunk_size"),
        ({"on_error": "ignore"}, "on_error='ignore'.*collect"),
        ({"on_error": None}, "on_error=None"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": "x"}, "seed='x'"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"retries": -1}, "retries=-1"),
        ({"grace_s": NAN}, "grace_s=nan"),
        ({"grace_s": float("inf")}, "grace_s=inf"),
        ({"label": 5}, "label=5"),
    ],
    ids=str,
)
@pytest.mark.fault(55, 56)
async def test_bad_options_of_a_map(session: offloop.ParallelSession, options: dict[str, Any], told: str) -> None:
    """They are refused before an item is read."""
    with pytest.raises((ValueError, TypeError), match=told):
        await session.run_parallel(w.double, Untouched(), **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"strategy": "x"}, "strategy='x'"), ({"workers": 2}, "workers=2"), ({"seed": 2}, "seed=2"), ({"retries": NAN}, "retries=nan")],
    ids=str,
)
async def test_bad_options_of_a_call(session: offloop.ParallelSession, options: dict[str, Any], told: str) -> None:
    """They are refused before anything runs."""
    with pytest.raises((ValueError, TypeError), match=told):
        await session.run(w.double, 1, **options)


@pytest.mark.fault(55)
async def test_asking_for_too_many_workers_is_capped_with_one_warning(
    anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    """No more run than there are usable cores; one warning carries both numbers."""
    cores = len(os.sched_getaffinity(0))
    with caplog.at_level(logging.WARNING, logger="offloop"):
        async with offloop.ParallelSession(strategy="processes", workers=cores + 50) as session:
            for _ in range(2):
                await session.run_parallel(w.double, range(50))
            assert len(session.statistics().workers) <= cores
    warned = [record.getMessage() for record in caplog.records if str(cores + 50) in record.getMessage()]
    assert len(warned) == 1
    assert re.search(rf"usable_cores={cores}\b", warned[0])


async def test_a_call_may_ask_for_more_than_there_are(workers: offloop.ParallelSession) -> None:
    """`workers` of a call caps; it never resizes the pool."""
    before = workers.statistics().workers_started
    assert await workers.run_parallel(w.double, range(20), workers=1000) == list(range(0, 40, 2))
    assert workers.statistics().workers_started == before


@pytest.mark.fault(56)
async def test_numpy_integers_are_integers(session: offloop.ParallelSession) -> None:
    """A count may be any kind of whole number."""
    import numpy

    results = await session.run_parallel(w.double, range(4), workers=numpy.int64(1), chunk_size=numpy.int32(2))
    assert results == [0, 2, 4, 6]
