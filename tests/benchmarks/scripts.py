"""Whole processes timed from outside: a cold script, an import."""

import os
import random
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import perf_counter
from typing import IO

from .entrants import Assignment, Sample
from .families import kill_family
from .hosting import PYTHONPATH, ROOT
from .sampling import NoSample

COLD = Path(__file__).with_name("cold")
LIMIT_S = 60.0


class ColdScript:
    """From start to exit of a script in ``cold/``, named after its entrant."""

    remark = ""

    def __init__(self, assignment: Assignment) -> None:
        entrant = assignment.entrant
        name = "_".join(filter(None, [entrant.contender, entrant.variant]))
        self._script = COLD / f"{name.replace('.', '_')}.py"

    def sample(self) -> Sample:
        return {"wall_s": [_wall_s(str(self._script))]}

    def close(self) -> int:
        return 0


class Import:
    """What an import adds to the start and exit of a bare interpreter, the two run in random order."""

    remark = ""

    def __init__(self, assignment: Assignment) -> None:
        module, name = assignment.entrant.contender, assignment.entrant.variant
        self._source = f"from {module} import {name}" if name else f"import {module}"
        self._chance = random.Random(self._source)

    def sample(self) -> Sample:
        sources = ["pass", self._source]
        self._chance.shuffle(sources)
        walls_s = {source: _wall_s("-c", source) for source in sources}
        bare_s = walls_s["pass"]
        return {"wall_s": [walls_s[self._source] - bare_s], "bare_s": [bare_s]}

    def close(self) -> int:
        return 0


# Installed packages come with their code compiled; one that runs from a checkout is compiled by its first run.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
_ENVIRONMENT["PYTHONPATH"] = PYTHONPATH


def _wall_s(*arguments: str) -> float:
    return run_python(*arguments)[0]


def run_python(*arguments: str) -> tuple[float, str]:
    """Run this interpreter once; return its time from start to exit, and what it printed.

    Its output goes to files, for a pipe would wait for its workers too.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began_s = perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=ROOT,
            env=_ENVIRONMENT,
        )
        # Not `wait(timeout)`, which looks only every 50 ms.
        overdue = threading.Timer(LIMIT_S, kill_family, [process.pid])
        overdue.start()
        try:
            code = process.wait()
            wall_s = perf_counter() - began_s
        finally:
            overdue.cancel()
        if wall_s >= LIMIT_S:
            raise NoSample(f"killed after {LIMIT_S:.0f} s")
        if code != 0:
            lines = _text(errors).strip().splitlines()
            raise NoSample(lines[-1] if lines else f"exit code {code}")
        return wall_s, _text(output)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
