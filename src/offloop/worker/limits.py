"""Inner threads: how many of them the libraries in a worker may use, and how many cores it tells them of."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from ..inner_threads import ALL_CORES, JOBLIB_CORES, PYTHON_CORES, THREAD_VARIABLES, USER_THREADS

# Whoever brings a BLAS or an OpenMP into a process is nearly always one of these, or has imported one of them.
_BRINGERS = ("numpy", "scipy", "sklearn", "torch", "lightgbm", "xgboost", "faiss", "cv2")

_COUNTS = ("cpu_count", "process_cpu_count")  # of os; the latter from Python 3.13 on
_told_by: dict[str, Callable[[], int | None]] = {}  # what stands in their place


def limit_loaded() -> None:
    """Bring libraries that are in this process already down to the worker's share; those to come find it in their variables.

    From now on ``os.cpu_count`` tells them the share too, as Python 3.13 has it tell PYTHON_CPU_COUNT: what makes a thread or a
    process for each core (``multiprocessing.Pool()``, Optuna's ``n_jobs=-1``) then makes so many. Where no library is loaded it
    takes 0.1 ms once, then 10 µs. Raises no count that is lower.
    """
    share = _share()
    if share is None:
        return
    for name in _COUNTS:
        if hasattr(os, name) and name not in _told_by:
            _tell_share(name)
    for pool in _pools():
        if pool.count > share:
            pool.set(share)


@contextmanager
def inner_threads(n: int) -> Iterator[None]:
    """Let libraries in this worker use n threads, or processes, as if it were alone on its host.

    Loaded libraries get n threads, or as many as the user's own ``OMP_NUM_THREADS`` if that is lower; ``os.cpu_count`` says n,
    or the user's own ``PYTHON_CPU_COUNT``, likewise. Of the variables those that the user has set are as they set them and the
    others are gone, so that what is started meanwhile decides as it would without us; with them at n, joblib would give n
    threads to each of n processes. Afterwards all is as it was, and what was loaded meanwhile is at the worker's share.

    Measured: 14 µs each way where no such library is loaded, 0.2 ms with numpy, 2 ms with scikit-learn, and once in a
    worker 20 ms for importing threadpoolctl. Processes that joblib has started stay for its own idle time.

    Args:
        n: How many cores the work may use.
    """
    users = _users_variables()
    share = _share()
    before = {name: os.environ.get(name) for name in (*THREAD_VARIABLES, JOBLIB_CORES)}
    counts: dict[str, int] = {}
    own = users.get("OMP_NUM_THREADS", "").partition(",")[0]  # a list is one for each level of nesting
    allowed = min(n, int(own)) if own.isdecimal() and int(own) else n
    try:
        _set_variables({**dict.fromkeys(THREAD_VARIABLES), **users, JOBLIB_CORES: str(n)})
        for pool in _pools():
            counts[pool.name] = pool.count
            pool.set(allowed)
        yield
    finally:
        _set_variables(before)
        for pool in _pools():
            count = counts.get(pool.name, share)
            if count is not None and count != pool.count:
                pool.set(count)


def all_cores() -> int:
    """Return how many cores a chunk that runs alone in this worker may use."""
    return int(os.environ.get(ALL_CORES, "1"))


def _share() -> int | None:
    """Return how many cores work in this worker may use at the moment; None outside of a worker."""
    return _number(JOBLIB_CORES)


def _tell_share(name: str) -> None:
    """Have one of `_COUNTS` tell how many cores work may use at the moment; its ``__wrapped__`` counts those of the machine."""
    real = getattr(os, name)

    @wraps(real)
    def cpu_count() -> int | None:
        """Return how many cores this worker may use."""
        told = [count for variable in (JOBLIB_CORES, PYTHON_CORES) if (count := _number(variable)) is not None]
        return min(told) if told else real()

    setattr(os, name, cpu_count)
    setattr(sys.modules[real.__module__], name, cpu_count)  # where it is pickled from
    _told_by[name] = cpu_count


def _number(variable: str) -> int | None:
    """Return the number above 0 that a variable holds; None if it holds none."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() and int(text) else None


def _users_variables() -> dict[str, str]:
    pairs = (pair.partition("=") for pair in os.environ.get(USER_THREADS, "").split())
    return {name: value for name, _, value in pairs}


def _set_variables(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


class _Library:
    """The threads of one BLAS or OpenMP, by way of threadpoolctl."""

    def __init__(self, controller: Any) -> None:
        self.name: str = controller.filepath
        self.count: int = controller.num_threads or 1
        self.set = controller.set_num_threads


class _Torch:
    """The threads of torch, which has a count of its own besides OpenMP's."""

    name = "torch"

    def __init__(self, torch: Any) -> None:
        self.count: int = torch.get_num_threads()
        self.set = torch.set_num_threads


def _pools() -> list[_Library | _Torch]:
    """Return what can be told how many threads to use."""
    if not any(name in sys.modules for name in _BRINGERS):
        return []
    # 20 ms, and of no use before
    import threadpoolctl  # type: ignore[import-untyped, unused-ignore]

    pools: list[_Library | _Torch] = [_Library(one) for one in threadpoolctl.ThreadpoolController().lib_controllers]
    torch = sys.modules.get("torch")
    if hasattr(torch, "set_num_threads"):  # not while it is still being imported
        pools.append(_Torch(torch))
    return pools
