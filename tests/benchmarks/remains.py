"""What a killed program has left: processes, memory files, names in shared memory, temporary files."""

import os
import re
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from .families import kill_all
from .hosting import PYTHONPATH

NUMBER = r"(?<![0-9a-zA-Z])\d+(?![0-9a-zA-Z])"
MARK = "BENCHMARK_MARK"  # every process that a program starts inherits it
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Remains:
    """What was there at one moment.

    Attributes:
        processes: Those that run.
        commands: Their command lines, without numbers.
        memory_files: How many memory files these processes have open or mapped.
        names: New names in shared memory.
        files: Temporary files.
    """

    processes: list[psutil.Process]
    commands: list[str]
    memory_files: int
    names: list[str]
    files: list[Path]

    def __bool__(self) -> bool:
        """Whether anything was left."""
        return bool(self.processes or self.names or self.files)

    @property
    def kinds_of_names(self) -> list[str]:
        """The names without what is their very own."""
        return [_kind(name) for name in self.names]

    @property
    def kinds_of_files(self) -> list[str]:
        """The temporary files' names without what is their very own."""
        return [_kind(path.name) for path in self.files]


class Scene:
    """Where one program is started, watched and killed.

    Attributes:
        members: The program's processes as they were seen last before its death.
    """

    def __init__(self, temporary: Path) -> None:
        self.members: list[psutil.Process] = []
        self._temporary = temporary
        self._mark = uuid.uuid4().hex
        self._names_before = set(os.listdir(MEMORY))

    def environment(self) -> dict[str, str]:
        """Return the program's environment: it marks all processes, and says where temporary files go."""
        own = {"PYTHONPATH": PYTHONPATH, "TMPDIR": str(self._temporary), MARK: self._mark}
        return os.environ | own

    def remains(self) -> Remains:
        """Return what is left now."""
        processes = self._running()
        names = set(os.listdir(MEMORY)) - self._names_before
        return Remains(
            processes=processes,
            commands=[re.sub(NUMBER, "N", command(process)) for process in processes],
            memory_files=sum(map(_memory_files, processes)),
            names=[name for name in names if not _is_anothers(name, self.members)],
            files=[path for path in self._temporary.rglob("*") if path.is_file()],
        )

    def clear(self, remains: Remains) -> None:
        """End what runs, and remove the names that are this program's for sure."""
        kill_all(remains.processes)
        pids = {process.pid for process in self.members}
        for name in remains.names:
            if pids & _numbers(name):  # what may be anybody's stays
                path = MEMORY / name
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _running(self) -> list[psutil.Process]:
        """Return what runs of the program: the family seen last, and whoever bears its mark."""
        found = {process.pid: process for process in self.members if runs(process)}
        for pid in psutil.pids():
            with suppress(OSError, psutil.NoSuchProcess):
                if f"{MARK}={self._mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                    found[pid] = psutil.Process(pid)
        return list(found.values())


def runs(process: psutil.Process) -> bool:
    """Whether it is there, and more than an exit code that nobody has asked for."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command(process: psutil.Process) -> str:
    """Return the beginning of its command line."""
    try:
        return " ".join(process.cmdline())[:100]
    except psutil.Error:
        return "that is gone"


def _is_anothers(name: str, members: Iterable[psutil.Process]) -> bool:
    """Whether a name in shared memory says the number of a process, and none of this program's."""
    numbers = _numbers(name)
    return bool(numbers) and not numbers & {member.pid for member in members}


def _numbers(name: str) -> set[int]:
    return {int(digits) for digits in re.findall(NUMBER, name)}


def _kind(name: str) -> str:
    return f"{re.split('[0-9]', name)[0]}…"


def _memory_files(process: psutil.Process) -> int:
    """Count the memory files that a process has open or mapped."""
    found: set[str] = set()
    with suppress(OSError):
        for name in os.listdir(f"/proc/{process.pid}/fd"):
            with suppress(OSError):
                target = os.stat(f"/proc/{process.pid}/fd/{name}")
                if os.readlink(f"/proc/{process.pid}/fd/{name}").startswith("/memfd:"):
                    found.add(str(target.st_ino))
    with suppress(OSError):
        for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
            if "memfd:" in line:
                found.add(line.split(maxsplit=5)[4])
    return len(found)
