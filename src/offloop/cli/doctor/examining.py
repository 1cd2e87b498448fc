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

MOST_S = 5.0  # for all checks together
_THREAD = "offloop-doctor-"
LEAST_S = 0.1  # for each of them, though others have used up the time

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
    Check("workers", workers.workers, workers.LIMIT_S + workers.GRACE_S),
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
        limit_s = min(check.limit_s, max(LEAST_S, begun + MOST_S - monotonic()))
        found = _within(limit_s, check, subject)
        n_abandoned += found is None
        findings += [_abandoned(check, limit_s)] if found is None else found
    return Examination(
        version=__version__,
        findings=tuple(findings),
        settings=subject.settings,
        wall_s=monotonic() - begun,
        n_abandoned=n_abandoned,
    )


def _within(limit_s: float, check: Check, subject: Subject) -> list[Finding] | None:
    """Return what a check finds; None if that takes too long."""
    found: list[list[Finding]] = []
    thread = threading.Thread(target=lambda: found.append(_looked(check, subject)), name=f"{_THREAD}{check.name}", daemon=True)
    thread.start()
    thread.join(limit_s)
    return found[0] if found else None


def come_to_an_end(within_s: float) -> bool:
    """Wait for checks that were abandoned, and return whether all of them have ended."""
    end = monotonic() + within_s
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(_THREAD)]
    for thread in threads:
        thread.join(max(0.0, end - monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _looked(check: Check, subject: Subject) -> list[Finding]:
    try:
        return list(check.look(subject))
    except Exception as error:
        cause = f"could not be checked: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return [Finding(check=check.name, verdict=Verdict.WARNING, cause=cause)]


def _abandoned(check: Check, limit_s: float) -> Finding:
    cause = f"could not be checked within {limit_s:.2g} s"
    return Finding(check=check.name, verdict=Verdict.WARNING, cause=cause, fix="try again when the machine is less busy")
