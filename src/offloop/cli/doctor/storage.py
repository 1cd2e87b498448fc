"""Checks of what large arrays travel in, by real attempts."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator

from ..amounts import sized
from .findings import Finding, Verdict
from .subject import Subject

if sys.platform != "win32":
    import fcntl
    import resource

_SHM = "/dev/shm"
_FEW_FILES = 1024  # what Linux gives a login shell; a worker takes about 10 descriptors of this process
_ATTEMPT = b"offloop"
_BYTES_PER_WORKER = 40_000  # of /dev/shm: a page for each of its semaphores, of which loky makes 7, and some more


def shared_memory(subject: Subject) -> Iterator[Finding]:
    """Make a memory file without a name, and a file in /dev/shm."""
    no_memfd = _problem_of_memfd()
    no_shm = _problem_of_folder(_SHM) if sys.platform == "linux" else "this platform has no /dev/shm"
    free_bytes = _free_bytes(_SHM) if no_shm is None else None
    if free_bytes is not None and free_bytes < _BYTES_PER_WORKER * subject.workers:
        no_shm = f"{sized(free_bytes)} free"
    figures = {"has_memfd": no_memfd is None, "has_shm": no_shm is None, "shm_free_bytes": free_bytes}
    there = f"{_SHM} can't be used ({no_shm})" if no_shm or free_bytes is None else f"{_SHM} has {sized(free_bytes)} free"
    if no_memfd is None:
        verdict = Verdict.OK if no_shm is None else Verdict.WARNING
        cause, fix = f"memfd works, {there}", None if no_shm is None else f"mount a tmpfs with room at {_SHM}: workers' semaphores are made there"
    elif no_shm is None:
        verdict, cause = Verdict.WARNING, f"memfd is refused ({no_memfd}), so arrays travel in unlinked files; {there}"
        fix = "allow memfd_create in the sandbox's seccomp profile, or give /dev/shm room: docker run --shm-size=1g"
    else:
        verdict, cause = Verdict.WARNING, f"memfd is refused ({no_memfd}) and {there}: arrays travel by {tempfile.gettempdir()}"
        fix = f"allow memfd_create, or mount a tmpfs at {_SHM}"
    yield Finding(check="shared memory", verdict=verdict, cause=cause, fix=fix, figures=figures)


def _problem_of_memfd() -> str | None:
    """Return why there is no memory file that can be sealed; None if there is."""
    if not hasattr(os, "memfd_create"):
        return "this platform has none"
    try:
        file = os.memfd_create("offloop-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        return str(error.strerror)
    try:
        os.write(file, _ATTEMPT)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
        return None if os.pread(file, len(_ATTEMPT), 0) == _ATTEMPT else "it doesn't keep what is written"
    except OSError as error:
        return str(error.strerror)
    finally:
        os.close(file)


def _problem_of_folder(folder: str) -> str | None:
    """Return why no file can be made in a folder; None if one can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # of no name, so that nothing can be left of it
            file.write(_ATTEMPT)
            file.flush()
    except OSError as error:
        return str(error.strerror)
    return None


def _free_bytes(folder: str) -> int | None:
    try:
        facts = os.statvfs(folder)
    except OSError:
        return None
    return facts.f_bavail * facts.f_frsize


def open_files(subject: Subject) -> Iterator[Finding]:
    """Tell how many files this process may have open."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_unlimited = soft == resource.RLIM_INFINITY
    is_few = not is_unlimited and soft < _FEW_FILES
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    fix = f"ulimit -n {most}" if most > soft else "raise the hard limit, as by docker run --ulimit nofile=65536"
    yield Finding(
        check="open files",
        verdict=Verdict.WARNING if is_few else Verdict.OK,
        cause="any number of them" if is_unlimited else f"{soft:,} at a time" + (": streams of many arrays need more" if is_few else ""),
        fix=fix if is_few else None,
        is_command=is_few and most > soft,
        figures={"soft": soft, "hard": hard},
    )
