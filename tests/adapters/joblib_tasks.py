"""What joblib is to do in workers; a module that a worker imports in no time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import joblib
from joblib import Parallel, delayed


def fail_at(bad: int, item: int) -> int:
    if item == bad:
        raise LookupError(f"no {item}")
    return item


def fail_or_spin(folder: Path, item: int) -> None:
    """Fail once another worker is in an endless loop."""
    if item:
        (folder / f"{os.getpid()}").touch()
        while True:
            pass
    while not list(folder.iterdir()):
        time.sleep(0.001)
    raise LookupError("enough")


def spin(folder: Path) -> None:
    (folder / f"{os.getpid()}").touch()
    while True:
        pass


def nested(n_jobs: int, backend: str | None) -> tuple[set[int], int, int]:
    pids = Parallel(n_jobs=n_jobs, backend=backend)(delayed(os.getpid)() for _ in range(4))
    return set(pids), os.getpid(), joblib.effective_n_jobs(n_jobs)


def write_to(values: Any) -> float:
    values[0] = -1.0
    return float(values.sum())
