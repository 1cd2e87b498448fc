"""A contender in a process of its own, as its host sees it."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from .entrants import Assignment, Sample
from .families import family, kill_all, kill_family
from .sampling import NoSample

ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
START_LIMIT_S = 60.0
SAMPLE_LIMIT_S = 120.0
CLOSE_LIMIT_S = 15.0


class Guest:
    """Starts the contender at once; asleep on its standard input between samples.

    Folders come before others on its path, and on that of all that it starts; under a command, it is that which starts it.
    """

    remark = ""
    limit_s = SAMPLE_LIMIT_S

    def __init__(
        self,
        assignment: Assignment,
        *,
        verbose: bool = False,
        folders: Sequence[Path] = (),
        under: Sequence[str] = (),
    ) -> None:
        self._limit_s = self.limit_s + 2 * assignment.seconds
        source = f"from {__package__}.guest import main; main()"
        self._process = subprocess.Popen(
            [*under, sys.executable, "-c", source, assignment.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if verbose else subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, folders), PYTHONPATH])},
            start_new_session=True,  # Ctrl-C is the host's to handle
        )
        try:
            self._answer(START_LIMIT_S)
        except BaseException:
            self.close()
            raise

    def sample(self) -> Sample:
        requests = _open_end(self._process.stdin)
        try:
            requests.write("sample\n")
            requests.flush()
        except BrokenPipeError:
            raise NoSample("ended between two samples") from None
        return self._answer(self._limit_s)

    def close(self) -> int:
        """Let the guest end by itself; kill what it leaves after a grace."""
        members = family(self._process.pid)
        with suppress(BrokenPipeError):  # closing repeats a request that a dead guest did not take
            _open_end(self._process.stdin).close()
        _, left = psutil.wait_procs(members, timeout=CLOSE_LIMIT_S)
        kill_all(left)
        self._process.wait()
        _open_end(self._process.stdout).close()
        return len(left)

    def _answer(self, limit_s: float) -> Sample:
        """Read one answer; a guest that takes too long is killed, which ends its output."""
        overdue = threading.Timer(limit_s, kill_family, [self._process.pid])
        overdue.start()
        line = _open_end(self._process.stdout).readline()
        overdue.cancel()
        if not line:
            raise NoSample(f"ended without an answer, or was killed after {limit_s:.0f} s")
        answer = json.loads(line)
        if "error" in answer:
            raise NoSample(answer["error"])
        self.remark = answer.get("remark", "")
        sample: Sample = answer.get("sample", {})
        return sample


def _open_end(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
