"""The check of inner threads: those of BLAS, OpenMP and the like, beside or times the workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...inner_threads import THREAD_VARIABLES
from ...sensing.host import worker_environment
from ..amounts import counted
from .findings import Finding, Verdict
from .subject import Subject


def inner_threads(subject: Subject) -> Iterator[Finding]:
    """Tell how many threads libraries use in this process and in each worker, and whether the cores suffice."""
    import numpy  # noqa: F401  # it brings the BLAS that most work uses
    import threadpoolctl  # type: ignore[import-untyped, unused-ignore]

    cores, environ = subject.host.cores, subject.system.environ
    pools: list[dict[str, Any]] = threadpoolctl.threadpool_info()
    most = max((pool["num_threads"] for pool in pools), default=0)
    names = sorted({str(pool["internal_api"]) for pool in pools})
    asked = {name: environ[name] for name in THREAD_VARIABLES if environ.get(name)}
    each = int(worker_environment(cores, subject.workers, environ)["OMP_NUM_THREADS"])
    figures = {"here": most, "each_worker": each, "workers": subject.workers, "libraries": names, "variables": asked}
    here = f"{counted(most, 'thread')} here ({', '.join(names)})" if pools else "no library with threads here"
    cause = f"{here}, {each} in each of {counted(subject.workers, 'worker')}"
    verdict, fix = Verdict.OK, None
    if most > cores:
        verdict = Verdict.WARNING
        cause = f"{counted(most, 'thread')} here ({', '.join(names)}) and {counted(cores, 'usable core')}: work in this process slows down"
        fix = f"export OMP_NUM_THREADS={cores}"
    yield Finding(check="inner threads", verdict=verdict, cause=cause, fix=fix, figures=figures)
