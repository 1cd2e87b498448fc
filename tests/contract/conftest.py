"""Sessions over every strategy; those that tests share stay open for a module, since workers take time to start."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import offloop
import workloads as w
from offloop.sensing.meter import meter

STRATEGIES = ("serial", "threads", "processes")


@pytest.fixture(scope="module", params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> str:
    """Where items execute."""
    return request.param


@pytest.fixture(scope="module")
async def session(anyio_backend: object, strategy: str) -> AsyncIterator[offloop.ParallelSession]:
    """A session that all tests of a module share, with everything started."""
    async with offloop.ParallelSession(strategy=strategy, workers=2, idle_timeout_s=600) as session:
        await w.start_all(session, strategy)
        yield session


@pytest.fixture(scope="module")
async def workers(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A session on processes that all tests of a module share, with everything started."""
    async with offloop.ParallelSession(strategy="processes", workers=2, idle_timeout_s=600) as session:
        await w.start_all(session, "processes")
        yield session


@pytest.fixture
def usual_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what starting workers has taken so far: on a busy machine it would keep runs where they are."""
    monkeypatch.setattr(meter, "_figures", {})
    monkeypatch.setattr(meter, "_told", {})
    monkeypatch.setattr(meter, "version", meter.version + 1)
