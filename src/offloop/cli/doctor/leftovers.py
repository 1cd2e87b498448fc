"""The check for what dead runs have left behind: names in /dev/shm, orphaned worker processes, folders."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..amounts import counted
from .findings import Finding, Verdict
from .subject import Subject

if sys.platform != "win32":
    import fcntl

_CHECK = "leftovers"
_SHM = Path("/dev/shm")
_WITH_PID = re.compile(r"(sem\.loky-|joblib_memmapping_folder_)(\d+)[-_].*")
_FOLDER, _LOCK = "offloop-", ".offloop-lock"
_WORKERS = ("loky.backend.popen_loky_posix", "joblib.externals.loky.backend.popen_loky_posix")
_ADOPTERS = ("systemd", "init", "launchd", "tini", "dumb-init", "docker-init", "catatonit", "sh", "bash")


def leftovers(subject: Subject) -> Iterator[Finding]:
    """Look for what nobody uses any more and nobody will remove."""
    names, folders, orphans = _names(), _folders(Path(tempfile.gettempdir())), sorted(_orphans())
    if names:
        yield _left(f"{counted(len(names), 'name')} of dead processes in {_SHM}", f"rm -rf {_pattern(names)}", names=len(names))
    if folders:
        listed = " ".join(shlex.quote(str(folder)) for folder in folders)
        yield _left(f"{counted(len(folders), 'folder')} of dead sessions", f"rm -rf {listed}", folders=len(folders))
    if orphans:
        listed = " ".join(map(str, orphans))
        yield _left(f"{counted(len(orphans), 'worker')} of dead processes", f"kill {listed}", orphans=len(orphans))
    if not (names or folders or orphans):
        yield Finding(check=_CHECK, verdict=Verdict.OK, cause="nothing is left of dead runs")


def _left(cause: str, fix: str, **figures: int) -> Finding:
    return Finding(check=_CHECK, verdict=Verdict.WARNING, cause=cause, fix=fix, is_command=True, figures=figures)


def _names() -> list[str]:
    """Return names in /dev/shm that belong to processes of ours that are gone."""
    if sys.platform != "linux":
        return []
    try:
        entries = list(os.scandir(_SHM))
    except OSError:  # there is none
        return []
    return sorted(entry.name for entry in entries if _is_left(entry))


def _is_left(entry: os.DirEntry[str]) -> bool:
    matched = _WITH_PID.fullmatch(entry.name)
    if not matched or os.path.exists(f"/proc/{matched[2]}"):
        return False
    try:
        return bool(entry.stat(follow_symlinks=False).st_uid == os.getuid())
    except OSError:  # gone meanwhile
        return False


def _pattern(names: list[str]) -> str:
    """Return names by what those of a process have in common, as bash and zsh expand it."""
    pids: dict[str, set[str]] = {}
    for name in names:
        if matched := _WITH_PID.fullmatch(name):
            pids.setdefault(matched[1], set()).add(matched[2])
    stems = [f"{stem}{_alternatives(sorted(found, key=int))}[-_]*" for stem, found in pids.items()]
    return f"{_SHM}/{_alternatives(stems)}"


def _alternatives(words: list[str]) -> str:
    return f"{{{','.join(words)}}}" if len(words) > 1 else words[0]


def _folders(root: Path) -> list[Path]:
    """Return sessions' private folders whose owner no longer holds their lock."""
    if sys.platform == "win32":
        return []
    found = []
    for lock in root.glob(f"{_FOLDER}*/{_LOCK}"):
        try:
            file = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # somebody else's, or gone
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_uid == os.getuid():
                found.append(lock.parent)
        except OSError:  # its owner lives
            pass
        finally:
            os.close(file)
    return found


def _orphans() -> Iterator[int]:
    """Yield ids of worker processes that outlived the process which had started them.

    Such a one belongs to whoever adopts orphans here. Where that runs the same interpreter, as the first process of a
    container may, it may have started them itself, so nothing is said of them.
    """
    import psutil

    for process in psutil.process_iter(["pid", "ppid", "uids", "cmdline"]):
        facts: dict[str, Any] = process.info
        if not any(part in _WORKERS for part in facts["cmdline"] or ()):
            continue
        try:
            adopter = psutil.Process(facts["ppid"])
            is_adopted = facts["ppid"] == 1 or adopter.name() in _ADOPTERS
            is_own = facts["uids"] is None or facts["uids"].real == os.getuid()
            if is_adopted and is_own and "python" not in " ".join(adopter.cmdline()).lower():
                yield facts["pid"]
        except psutil.Error:  # gone meanwhile, or nothing that may be asked for
            continue
