"""Examining: every check by itself, within its time, whatever the others do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import NamedTuple

from ... import ParallelSession, SyncSession, __version__
from . import leftovers, machine, packages, pools, storage, threads, workers
from .findings import Examination, Finding, Verdict
from .subject import Subject, settings, subject_of

Look = Callable[[Subject], Iterable[Finding]]


class Check(NamedTuple):
    """One look at the subject.

    Attributes:
        name: What is looked at.
        look: Yields what it finds.
        limit_s: How long it may take; then it is told of and left to itself.
    """

    name: str
    look: Look
    limit_s: float = 1.0


# Leftovers before workers: to start one sweeps some of them.
CHECKS = (
    Check("cores", machine.cores),
    Check("memory", machine.memory),
    Check("platform", machine.platform),
    Check("shared memory", storage.shared_memory),
    Check("open files", storage.open_files),
    Check("leftovers", leftovers.leftovers),
    Check("workers", workers.workers, workers.LIMIT_S + 0.5),
    Check("inner threads", threads.inner_threads, 2.0),
    Check("parallelism", pools.parallelism),
    Check("other pools", pools.other_pools),
    Check("web workers", pools.web_workers),
    Check("packages", packages.packages),
    Check("settings", settings),
)


def examine(session: ParallelSession | SyncSession | None = None, *, checks: Iterable[Check] = CHECKS) -> Examination:
    """Look at this machine, this environment and this process, and return what stands in the way.

    It takes about a second, 5 at most, and blocks: on an event loop call it by ``anyio.to_thread.run_sync(examine)``. It
    starts two worker processes of its own and ends them. A check that raises or hangs is told of like anything else that is found.

    Args:
        session: The one whose settings are told; as a new one would have them if None.
        checks: What to look at.
    """
    begun = monotonic()
    subject = subject_of(session)
    findings: list[Finding] = []
    n_abandoned = 0
    for check in checks:
        found = _within_limit(check, subject)
        n_abandoned += found is None
        findings += [_abandoned(check)] if found is None else found
    return Examination(
        version=__version__,
        findings=tuple(findings),
        settings=subject.settings,
        wall_s=monotonic() - begun,
        n_abandoned=n_abandoned,
    )


def _within_limit(check: Check, subject: Subject) -> list[Finding] | None:
    """Return what a check finds; None if that takes too long."""
    found: list[list[Finding]] = []
    thread = threading.Thread(target=lambda: found.append(_looked(check, subject)), name=f"offloop-{check.name}", daemon=True)
    thread.start()
    thread.join(check.limit_s)
    return found[0] if found else None


def _looked(check: Check, subject: Subject) -> list[Finding]:
    try:
        return list(check.look(subject))
    except Exception as error:
        cause = f"could not be checked: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return [Finding(check=check.name, verdict=Verdict.WARNING, cause=cause)]


def _abandoned(check: Check) -> Finding:
    cause = f"could not be checked within {check.limit_s:g} s"
    return Finding(check=check.name, verdict=Verdict.WARNING, cause=cause, fix="try again when the machine is less busy")
