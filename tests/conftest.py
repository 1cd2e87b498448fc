"""What every test gets: the event loops, a neutral environment, and proof that nothing is left behind.

With ALL_LOOPS=1 in the environment everything runs on every loop. Otherwise what no loop sees runs on asyncio alone, and on
uvloop, which is asyncio to all else, runs what waits, wakes and cancels, as far as workers take part.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import sys
from collections.abc import Iterator

import hypothesis  # noqa: F401  since what it registers as it is imported must not be frozen by then
import pytest
import uvloop

import leftovers
from offloop.sensing.host import _CI_VARIABLES

sys.modules["tblib"] = None  # type: ignore[assignment]  # dask would have it change how all exceptions are pickled

_BACKENDS = {"asyncio": "asyncio", "uvloop": ("asyncio", {"use_uvloop": True}), "trio": "trio"}
_ON_UVLOOP = {"test_cancellation", "test_lifecycle", "test_drain", "test_concurrency"}
_FIRST = {"test_documents", "test_type_checkers"}  # begun last, they would leave the other processes with nothing to do

# What there was at the end of a test is what there is at the start of the next, unless something came or went that
# tests share. To look costs milliseconds, and there are ten thousand tests.
_LAST = pytest.StashKey[leftovers.Inventory | None]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what would differ in nothing from the same test on asyncio, and begin with what takes long."""
    items.sort(key=lambda item: item.path.stem not in _FIRST)
    if os.environ.get("ALL_LOOPS"):
        return
    left_out = {item for item in items if _is_told_on_asyncio(item)}
    config.hook.pytest_deselected(items=[*left_out])
    items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """Have tests that collect garbage look through what they made, and not through all tests and libraries."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let the end be as anywhere."""
    gc.unfreeze()


def _is_told_on_asyncio(item: pytest.Item) -> bool:
    said = re.split(r"[-\[\]]", item.name)
    if "uvloop" in said and (item.path.stem not in _ON_UVLOOP or "serial" in said or "threads" in said):
        return True
    return ("uvloop" in said or "trio" in said) and item.get_closest_marker("one_loop") is not None


@pytest.fixture(scope="module", params=_BACKENDS.values(), ids=_BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """The event loop that a test runs on."""
    return request.param


@pytest.fixture(scope="session", autouse=True)
def neutral_environment() -> Iterator[None]:
    """Take out what would decide for `auto`: CI's variables and offloop's own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in _CI_VARIABLES or name.startswith("OFFLOOP_"):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def loop_caches() -> None:
    """Have libuv open the pipe for signals that it keeps for as long as the process lives."""
    loop = uvloop.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.fixture(scope="module", autouse=True)
def nothing_left_of_the_module() -> Iterator[None]:
    """Fail where what a module's tests share is left behind."""
    before = leftovers.take()
    yield
    _check(before)


@pytest.fixture(autouse=True)
def nothing_left(nothing_left_of_the_module: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where a test leaves a process, a thread, a descriptor, a mapping or a name behind."""
    before = request.config.stash.get(_LAST, None) or leftovers.take()
    yield
    request.config.stash[_LAST] = None
    request.config.stash[_LAST] = _check(before)


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> None:
    """Look again after what tests share has been set up."""
    if fixturedef.scope != "function":
        request.config.stash[_LAST] = None


def pytest_fixture_post_finalizer(fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> None:
    """Look again after what tests share has been torn down."""
    if fixturedef.scope != "function":
        request.config.stash[_LAST] = None


def _check(before: leftovers.Inventory) -> leftovers.Inventory:
    now = leftovers.take_after(before)
    if left := leftovers.new_in(now, before):
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)
    return now
