"""What every test gets: the event loops, a neutral environment, and proof that nothing is left behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
import uvloop

import leftovers
from offloop.sensing.host import _CI_VARIABLES

_BACKENDS = {"asyncio": "asyncio", "uvloop": ("asyncio", {"use_uvloop": True}), "trio": "trio"}


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
    yield from _checked()


@pytest.fixture(autouse=True)
def nothing_left(nothing_left_of_the_module: None) -> Iterator[None]:
    """Fail where a test leaves a process, a thread, a descriptor, a mapping or a name behind."""
    yield from _checked()


def _checked() -> Iterator[None]:
    before = leftovers.take()
    yield
    left = leftovers.found_since(before)
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)
