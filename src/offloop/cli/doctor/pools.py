"""Checks of what decides over workers besides the work: rules, other pools, web servers."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

from ... import Reason, SettingSource, Strategy
from ..amounts import counted
from .findings import Finding, Verdict
from .subject import Subject

_CHECK = "parallelism"


def parallelism(subject: Subject) -> Iterator[Finding]:
    """Tell of what keeps all work in the local thread, whatever it costs."""
    host, config, n = subject.host, subject.config, 0
    kept = {
        Reason.OPERATOR_OFF: (host.is_off, "unset OFFLOOP_PARALLEL"),
        Reason.NESTED: (host.is_worker, "call it outside of the worker"),
        Reason.FOREIGN_POOL: (host.foreign_pool is not None, f"call it outside of {host.foreign_pool}'s pool"),
        Reason.CI: (host.is_ci and not host.lifts_ci and config.strategy is Strategy.AUTO, "export OFFLOOP_PARALLEL=on"),
        Reason.SINGLE_WORKER: (subject.workers == 1 and host.cores > 1, "allow more, as by OFFLOOP_WORKERS=-1"),
        Reason.THREADS_NEED_CONSENT: (
            config.strategy is Strategy.THREADS and subject.sources["strategy"] is SettingSource.ENVIRONMENT,
            "write strategy=\"threads\" at the call, or unset OFFLOOP_PARALLEL",
        ),
    }
    for reason, (holds, fix) in kept.items():
        if holds:
            n += 1
            yield Finding(check=_CHECK, verdict=Verdict.WARNING, cause=reason.sentence.rstrip("."), fix=fix, figures={"reason": reason.value})
    if config.strategy is Strategy.SERIAL and not host.is_off:
        n += 1
        yield Finding(check=_CHECK, verdict=Verdict.WARNING, cause="the strategy is serial by a setting", fix="use auto")
    if not n:
        asked = config.strategy.value
        yield Finding(check=_CHECK, verdict=Verdict.OK, cause=f"nothing keeps work serial; strategy {asked}, {counted(subject.workers, 'worker')}")


def other_pools(subject: Subject) -> Iterator[Finding]:
    """Tell of worker processes of other libraries in this process, which compute beside those of offloop."""
    found = {name: n for name, n in _pools(subject.system.modules) if n}
    figures = {"pools": found}
    if not found:
        installed = [name for name in ("joblib", "dask", "ray", "mpire") if find_spec(name) is not None]
        about = f"none in this process; installed: {', '.join(installed)}" if installed else "none in this process"
        yield Finding(check="other pools", verdict=Verdict.OK, cause=about, figures={**figures, "installed": installed})
        return
    listed = ", ".join(f"{counted(n, 'worker')} of {name}" for name, n in found.items())
    total = sum(found.values()) + subject.workers
    is_joblib = "joblib" in found
    fix = "have offloop's workers do it: await session.run_joblib(fn)" if is_joblib else "use session.executor() in its place"
    cause = f"{listed} beside {subject.workers} of offloop, on {counted(subject.host.cores, 'usable core')}"
    is_much = total > subject.host.cores
    yield Finding(check="other pools", verdict=Verdict.WARNING if is_much else Verdict.OK, cause=cause, fix=fix if is_much else None, figures=figures)


def _pools(modules: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield libraries with how many worker processes each has in this process; imports none of them."""
    for name in ("joblib.externals.loky.process_executor", "loky.process_executor", "concurrent.futures.process"):
        managers = list(getattr(modules.get(name), "_threads_wakeups", ()))
        library = "joblib" if name.startswith("joblib") else name.removesuffix(".process_executor").removesuffix(".process")
        yield library, sum(_n_processes(manager) for manager in managers if manager.is_alive() and not _is_ours(manager))
    processes = modules.get("multiprocessing.process")
    children = processes.active_children() if processes is not None else []
    yield "multiprocessing", sum("PoolWorker" in child.name for child in children)
    yield "dask", sum(child.name.startswith("Dask Worker") for child in children)


def _n_processes(manager: Any) -> int:
    return len(getattr(manager, "processes", None) or ())


def _is_ours(manager: Any) -> bool:
    """Whether this thread manages a worker of offloop, which has offloop's initializer."""
    executor = getattr(manager, "executor_reference", lambda: None)()
    return str(getattr(getattr(executor, "_initializer", None), "__module__", "")).startswith("offloop.")


def web_workers(subject: Subject) -> Iterator[Finding]:
    """Tell how many processes a web server is told to have, and what that is times the workers."""
    environ, cores = subject.system.environ, subject.host.cores
    web = _number(environ.get("WEB_CONCURRENCY"))
    others = {
        "UVICORN_WORKERS": _number(environ.get("UVICORN_WORKERS")),
        "GUNICORN_CMD_ARGS": _gunicorn_workers(environ.get("GUNICORN_CMD_ARGS", "")),
    }
    other = next(((name, n) for name, n in others.items() if n is not None and n > 1), None)
    figures = {"web_workers": web, "others": {name: n for name, n in others.items() if n is not None}}
    verdict, fix = Verdict.OK, None
    if web is None and other is not None:
        name, n = other
        verdict, fix = Verdict.WARNING, f"export WEB_CONCURRENCY={n}"
        cause = f"{n} by {name}, which the web adapter doesn't read: each takes all cores"
    elif web is None or web == 1:
        cause = "one, as far as WEB_CONCURRENCY says"
    else:
        is_set = subject.sources["workers"] is not SettingSource.DEFAULT
        each = subject.workers if is_set else max(1, cores // web)
        cause = f"{web} with {counted(each, 'worker')} each, on {counted(cores, 'usable core')}"
        if web * each > cores:
            verdict = Verdict.WARNING
            fix = f"export WEB_CONCURRENCY={max(1, cores // each)}" + (f" or OFFLOOP_WORKERS={max(1, cores // web)}" if each > 1 else "")
    yield Finding(check="web workers", verdict=verdict, cause=cause, fix=fix, figures=figures)


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None


def _gunicorn_workers(text: str) -> int | None:
    try:
        words = shlex.split(text.replace("=", " "))
    except ValueError:
        return None
    return next((_number(after) for word, after in pairwise(words) if word in ("-w", "--workers")), None)


