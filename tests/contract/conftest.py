"""Sessions over every strategy; those that tests share stay open for a module, since workers take time to start.

With ALL_TRANSPORTS=1 in the environment the whole suite runs once more over each of the other transports, otherwise a part
of it: as far as workers take part, and on asyncio alone, since what differs is below the event loop.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from typing import get_args

import pytest

import offloop
import workloads as w
from offloop.sensing.meter import meter
from offloop.settings import TransportName

STRATEGIES = ("serial", "threads", "processes")


_TELLING_BYTES = 300 << 10  # of the sizes that things of each kind are sent in: large enough for a file

# What the other transports run by default, to keep the whole within minutes; with ALL_TRANSPORTS=1 it is everything.
_TELLING = {
    "file": {"test_order", "test_snapshots", "test_faithful_loops"},
    "portable": {
        *("test_order", "test_snapshots", "test_faithful_loops", "test_cancellation", "test_lifecycle"),
        "test_unpicklable",
    },
}

DEFAULT, *OTHERS = get_args(TransportName)


@pytest.fixture(scope="module", autouse=True)
def transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """How large buffers travel in the sessions of a module."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != DEFAULT:
            patch.setenv("OFFLOOP_TRANSPORT", request.param)
        yield request.param


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a module over those transports that may tell something new."""
    if "transport" in metafunc.fixturenames and not hasattr(metafunc.module, "transport"):  # a module may have its own
        kinds = [kind for kind in OTHERS if _is_telling(metafunc.definition.path.stem, kind)]
        metafunc.parametrize("transport", [DEFAULT, *kinds], ids=["", *kinds], indirect=True, scope="module")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what would differ in nothing from the same test over the default transport."""
    kept = [item for item in items if _differs(item)]
    config.hook.pytest_deselected(items=[item for item in items if not _differs(item)])
    items[:] = kept


def _is_telling(name: str, transport: str) -> bool:
    return bool(os.environ.get("ALL_TRANSPORTS")) or name in _TELLING[transport]


def _differs(item: pytest.Item) -> bool:
    """Whether a test would find something that others don't."""
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    is_on_asyncio = "asyncio" in re.split(r"[-\[\]]", item.name) or "anyio_backend" not in params
    has_workers = params.get("strategy", "processes") == "processes"
    if item.get_closest_marker("on_workers") is not None and not has_workers:
        return False
    transport = params.get("transport", DEFAULT)
    if transport == DEFAULT:
        return True
    if not _is_telling(item.path.stem, transport):
        return False
    return has_workers and is_on_asyncio and params.get("n_bytes", _TELLING_BYTES) == _TELLING_BYTES


@pytest.fixture(scope="module", params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> str:
    """Where items execute."""
    return request.param


@pytest.fixture(scope="module")
async def session(anyio_backend: object, transport: str, strategy: str) -> AsyncIterator[offloop.ParallelSession]:
    """A session that all tests of a module share, with everything started."""
    async with offloop.ParallelSession(strategy=strategy, workers=2, idle_timeout_s=600) as session:
        await w.start_all(session, strategy)
        yield session


@pytest.fixture(scope="module")
async def workers(anyio_backend: object, transport: str) -> AsyncIterator[offloop.ParallelSession]:
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
