"""Instructions counted by ``perf stat``, where the machine can."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..entrants import Assignment
from ..hosting import Guest

EVENT = "instructions:u"
COMMAND = ("perf", "stat", "-x", ",", "-e", EVENT, "-o")
FEW, MANY = 2, 7  # turns; what they differ by is without start and end


def is_there() -> bool:
    """Whether there is such a command, and a counter for it: virtual machines often have none."""
    if not shutil.which(COMMAND[0]):
        return False
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run([*COMMAND, file.name, "true"], capture_output=True, check=False)
        return bool(_count(Path(file.name)))


def counted(assignment: Assignment, folders: Sequence[Path]) -> int:
    """Return the instructions that one turn takes, the program's own and its workers'."""
    few, many = (_of_turns(assignment, folders, turns) for turns in (FEW, MANY))
    return (many - few) // (MANY - FEW)


def _of_turns(assignment: Assignment, folders: Sequence[Path], turns: int) -> int:
    with tempfile.NamedTemporaryFile() as file:
        guest = Guest(assignment, folders=folders, under=(*COMMAND, file.name))
        try:
            for _ in range(turns):
                guest.sample()
        finally:
            guest.close()
        return _count(Path(file.name)) or 0


def _count(path: Path) -> int | None:
    """Read the counter out of ``perf stat``'s table; None where it says something else than a number."""
    for line in path.read_text().splitlines():
        value, *_ = line.split(",")
        if EVENT in line and value.replace(".", "", 1).isdecimal():
            return round(float(value))
    return None
