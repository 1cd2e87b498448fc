"""Workers are started only while memory has room for them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import pytest

import offloop
import workloads as w
from offloop.pool import pool
from offloop.sensing.meter import meter
from offloop.sensing.system import System

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

HELD = 300 << 20  # of its own, by each worker


class Scarce(System):
    """This machine, but for how much memory it has available and for its control groups."""

    def __init__(self, available: int) -> None:
        super().__init__()
        self.available = available

    def read(self, path: str) -> str | None:
        if path == "/proc/meminfo":
            return f"MemTotal: 99999999 kB\nMemAvailable: {self.available >> 10} kB\n"
        return super().read(path) if "/smaps" in path else None


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop will do: what is proved here knows nothing of it."""
    return "trio"


@pytest.fixture(autouse=True)
def meter_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured here is of a made machine, and nothing that other tests may know of."""
    monkeypatch.setattr(meter, "_figures", {})
    monkeypatch.setattr(meter, "_told", {})
    monkeypatch.setattr(meter, "version", meter.version + 1)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Scarce:
    made = Scarce(200 << 20)
    monkeypatch.setattr("offloop.lifetime.this_system", lambda: made)
    monkeypatch.setattr(pool, "_FULL_S", 0.0)
    return made


@pytest.fixture
async def session(anyio_backend: object, system: Scarce) -> AsyncIterator[offloop.ParallelSession]:
    """A session of two workers, one of which is up, on a machine that has no room for the other."""
    async with offloop.ParallelSession(
        workers=2, strategy="processes", worker_init=w.hold_memory, worker_init_args=(HELD,)
    ) as session:
        await session.warm(1)
        yield session


async def test_where_there_is_no_room_no_other_worker_starts(session: offloop.ParallelSession) -> None:
    """The one that is up does all of it, whatever is asked for, and one event says why."""
    with w.heard("parallel.guidance") as told:
        for _ in range(2):
            results = await session.run_parallel(w.sleep_and_tell, [0.01] * 20)
            assert len({pid for pid, _ in results}) == 1
        await session.warm()
    assert session.statistics().workers_started == 1
    assert [event.topic for event in told] == ["memory"]
    assert "1 workers" in told[0].advice


async def test_where_there_is_room_both_start(session: offloop.ParallelSession, system: Scarce) -> None:
    """With memory for another as large as the first, another is started."""
    system.available = 5 << 30
    with w.heard("parallel.guidance") as told:
        await session.warm()
    assert session.statistics().workers_started == 2
    assert not told


async def test_room_that_comes_back_is_used(session: offloop.ParallelSession, system: Scarce) -> None:
    """That there was no room once is not for ever: later runs get their workers, under `auto` too."""
    await session.run_parallel(w.sleep_and_tell, [0.01] * 20)
    assert session.statistics().workers_started == 1
    system.available = 5 << 30
    for _ in range(15):
        await session.run_parallel(w.sleep_and_tell, [0.01] * 20, strategy="auto", item_cost_s=0.01)
    assert session.statistics().workers_started == 2
