"""Sensing whose pool this process works for, if another library's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Libraries by the module of the function that their worker processes run. Processes that merely were started through
# multiprocessing, such as a web server's, run a function of somebody else.
_POOLS = {
    "joblib.externals.loky.process_executor": "joblib",
    "loky.process_executor": "loky",
    "multiprocessing.pool": "multiprocessing",
    "concurrent.futures.process": "concurrent.futures",
    "distributed.process": "dask",
}


def foreign_pool(modules: Mapping[str, Any]) -> str | None:
    """Return the library whose worker this process is: joblib, loky, multiprocessing, concurrent.futures or dask.

    None for all other processes. offloop's own workers are loky's as well, so that is to be asked for first. A pool of
    threads makes no difference here: its process is as good as any, unless it is Dask's and this thread runs a task.

    Args:
        modules: What this process has imported, by name. Nothing is imported: a worker has its library already.
    """
    processes = modules.get("multiprocessing.process")
    if processes is not None:
        target = getattr(processes.current_process(), "_target", None)
        pool = _POOLS.get(getattr(target, "__module__", None) or "")
        if pool is not None:
            return pool
    return "dask" if _is_dask_task(modules) else None


def _is_dask_task(modules: Mapping[str, Any]) -> bool:
    """Whether this runs inside a task of Dask, which needs no process of its own (``--no-nanny``, ``processes=False``)."""
    worker = modules.get("distributed.worker")
    if worker is None:
        return False
    try:
        worker.get_worker()
    except (ValueError, AttributeError):  # what it raises outside of a task; early releases the latter
        return False
    return True
