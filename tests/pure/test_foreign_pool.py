"""sensing/foreign_pool.py: whose pool this process works for, told by made facts.

Dask isn't installed where these tests run: what it is like is made after distributed's source.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import pytest

from offloop.sensing.foreign_pool import foreign_pool
from offloop.sensing.host import sense_host
from systems import MadeSystem


def running(target: Any) -> dict[str, Any]:
    """Return the modules of a process that multiprocessing started to call target."""
    process = SimpleNamespace(_target=target)
    return {"multiprocessing.process": SimpleNamespace(current_process=lambda: process)}


def function_of(module: str | None) -> Any:
    """Return a function of a module of that name."""

    def target() -> None: ...

    target.__module__ = module  # type: ignore[assignment]
    return target


def distributed(*, worker: Any = None, error: Exception | None = None) -> dict[str, Any]:
    """Return the modules of a process that has imported Dask's worker, and what that says of the task under way."""

    def get_worker() -> Any:
        if error is not None:
            raise error
        return worker

    return {"distributed.worker": SimpleNamespace(get_worker=get_worker)}


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("joblib.externals.loky.process_executor", "joblib"),
        ("loky.process_executor", "loky"),
        ("multiprocessing.pool", "multiprocessing"),
        ("concurrent.futures.process", "concurrent.futures"),
        ("distributed.process", "dask"),
    ],
)
def test_a_worker_is_known_by_what_it_runs(module: str, library: str) -> None:
    """A process that runs the work loop of a known pool is that library's worker."""
    assert foreign_pool(running(function_of(module))) == library


@pytest.mark.parametrize("module", ["uvicorn._subprocess", "gunicorn.workers", "__main__", "multiprocessing", "loky", "", None])
def test_a_process_that_runs_something_else_is_nobodys(module: str | None) -> None:
    """A web server's process, or one that a user started, belongs to no pool although multiprocessing started it."""
    assert foreign_pool(running(function_of(module))) is None


@pytest.mark.parametrize(
    "target", [None, functools.partial(print), print, 3, object()], ids=["none", "partial", "builtin", "number", "object"]
)
def test_odd_targets_are_nobodys(target: Any) -> None:
    """A process whose target is missing, or no function at all, belongs to no pool."""
    assert foreign_pool(running(target)) is None


def test_a_main_process_is_nobodys() -> None:
    """A process without multiprocessing, or with one that started nothing, belongs to no pool."""
    assert foreign_pool({}) is None
    assert foreign_pool({"multiprocessing.process": SimpleNamespace(current_process=lambda: SimpleNamespace())}) is None


def test_a_method_counts_by_its_class() -> None:
    """A work loop that is a method, as Dask's is, is known by the module of its class."""

    class AsyncProcess:
        @classmethod
        def _run(cls) -> None: ...

    AsyncProcess.__dict__["_run"].__func__.__module__ = "distributed.process"
    assert foreign_pool(running(AsyncProcess._run)) == "dask"


def test_a_task_of_dask_needs_no_process_of_its_own() -> None:
    """Inside a task of Dask, whatever process it is in, this is Dask's; beside one it isn't."""
    assert foreign_pool(distributed(worker=object())) == "dask"
    assert foreign_pool(distributed(error=ValueError("No worker found"))) is None
    assert foreign_pool(distributed(error=AttributeError("execution_state"))) is None


def test_our_own_workers_are_not_foreign() -> None:
    """A worker of offloop is a process of loky, and still nobody else's."""
    system = MadeSystem(modules=running(function_of("loky.process_executor")))
    assert sense_host(system, is_worker=False, is_off=False, lifts_ci=False).foreign_pool == "loky"
    assert sense_host(system, is_worker=True, is_off=False, lifts_ci=False).foreign_pool is None
