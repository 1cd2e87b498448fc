"""Functions that travel by name, and workers that know another function of that name, or have forgotten it."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import pytest

import offloop
from offloop.pool import lane

pytestmark = pytest.mark.anyio


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "edited_module.py"
    path.write_text("def version():\n    return 'first'\n\n\ndef version_of(_):\n    return 'first'\n")
    return path


async def test_a_reloaded_function_replaces_the_worker(anyio_backend: object, module: Path) -> None:
    """After an edit and a reload the new code runs, in a worker that has imported it anew."""
    import edited_module

    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        assert await session.run(edited_module.version) == "first"
        (before,) = session.statistics().workers
        module.write_text("def version():\n    return 'second'\n")
        importlib.reload(edited_module)
        assert await session.run(edited_module.version) == "second"
        assert session.statistics().workers != (before,)
    del sys.modules["edited_module"]


async def test_a_function_that_differs_from_its_file_travels_by_value(anyio_backend: object, module: Path) -> None:
    """Where the file was edited but not reloaded, what runs is what this process has."""
    import edited_module

    module.write_text("def version():\n    return 'second'\n\n\ndef version_of(_):\n    return 'second'\n")
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        assert await session.run(edited_module.version) == "first"
        assert await session.run_parallel(edited_module.version_of, range(50)) == ["first"] * 50
        assert await session.run_parallel(lambda _: edited_module.version(), [0]) == ["second"]
    del sys.modules["edited_module"]


async def test_functions_that_a_worker_dropped_are_sent_again(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker keeps a bounded number of functions, and none is missed when it is needed again."""
    monkeypatch.setattr(lane, "_MAX_FUNCTIONS", 2)
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        for _ in range(2):
            for fn in (math.sqrt, math.floor, math.ceil, math.sqrt):
                assert await session.run(fn, 4.0) == fn(4.0)
