"""A web server in a process of its own, and in another one what loads it."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from time import perf_counter
from typing import IO, Any

from ..entrants import Assignment, Sample
from ..families import family, kill_family
from ..faults.page import new_page
from ..hosting import PYTHONPATH, ROOT
from ..remains import Scene
from ..sampling import NoSample
from ..streams.private import private_bytes
from .load import Load
from .serving import OURS, THREADS, Serving
from .work import WORDS

START_LIMIT_S = 60.0
LOAD_LIMIT_S = 120.0
EXIT_LIMIT_S = 30.0
POLL_S = 0.005
LOOK_S = 0.25  # between two looks at the server's memory
EARLY_SHARE = 0.2  # of the looks, until everything is in use
AFTER_S = 0.5  # what is there after that is left
MB = 1e6
MOST_REQUESTS = 60_000
SETTINGS: dict[str, dict[str, Any]] = {"overload": {"max_wait_s": 1.0}}

Program = subprocess.Popen[str]


class Served:
    """Starts both for every sample, and ends them; the server by SIGTERM, as everybody does."""

    remark = ""

    def __init__(self, assignment: Assignment, *, verbose: bool = False) -> None:
        self._assignment = assignment
        self._errors = None if verbose else subprocess.DEVNULL
        self._killed = 0  # after a failure; else what is left is counted

    def sample(self) -> Sample:
        """Take one; what the load generator measured, and how the server ended."""
        with ExitStack() as stack:
            path, _ = stack.enter_context(new_page(WORDS * MOST_REQUESTS))
            temporary = stack.enter_context(tempfile.TemporaryDirectory())
            scene = Scene(Path(temporary))
            server = self._started("app", self._serving(path).to_json(), scene.environment())
            try:
                port = self._port(server)
                _wait_until_ready(server, port)
                return self._loaded(server, port, path, scene)
            finally:
                remains = scene.remains()
                self._killed += len(remains.processes)
                scene.clear(remains)
                server.wait()
                _open_end(server.stdout).close()

    def close(self) -> int:
        """Nothing outlives a sample; tell what had to be killed."""
        return self._killed

    def _serving(self, path: str) -> Serving:
        assignment = self._assignment
        return Serving(
            by=THREADS if assignment.entrant.contender == THREADS else OURS,
            workers=assignment.workers,
            page=path,
            turns=assignment.iterations_per_ms,
            settings=SETTINGS.get(assignment.scenario, {}),
        )

    def _started(
        self, module: str, argument: str, environment: dict[str, str], output: IO[str] | int = subprocess.PIPE
    ) -> Program:
        source = f"from {__package__}.{module} import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", source, argument],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=environment,
            start_new_session=True,  # Ctrl-C is the host's to handle
        )

    def _port(self, server: Program) -> int:
        line = _open_end(server.stdout).readline()
        if not line:
            raise NoSample("the server ended at once; --verbose shows why")
        return int(line)

    def _loaded(self, server: Program, port: int, path: str, scene: Scene) -> Sample:
        assignment = self._assignment
        load = Load(
            plan=assignment.scenario,
            by=assignment.entrant.contender,
            port=port,
            pid=server.pid,
            page=path,
            workers=assignment.workers,
            is_quick=assignment.quick,
        )
        scene.members = family(server.pid)
        lines, held, exited_s = self._played(load, server)
        sample: Sample = json.loads(lines[-1])
        ended = self._ended(server, exited_s, sample, scene)
        return sample | _growth(held) | ended

    def _played(self, load: Load, server: Program) -> tuple[list[str], list[int], float]:
        """Have the plan played; return what was printed, and what was seen of the server meanwhile; see `_watched`."""
        with tempfile.TemporaryFile("w+") as output:  # a pipe would be full of answers before it is read
            environment = os.environ | {"PYTHONPATH": PYTHONPATH}
            generator = self._started("load", load.to_json(), environment, output)
            overdue = threading.Timer(LOAD_LIMIT_S, kill_family, [generator.pid])
            overdue.start()
            try:
                held, exited_s = _watched(server, generator)
            finally:
                overdue.cancel()
                kill_family(generator.pid)
                generator.wait()
            output.seek(0)
            lines = output.read().splitlines()
        if generator.returncode != 0 or not lines:
            raise NoSample(f"the load generator ended with {generator.returncode}; --verbose shows why")
        return lines, held, exited_s

    def _ended(self, server: Program, exited_s: float, sample: Sample, scene: Scene) -> Sample:
        """End the server, unless it has ended, and tell how that went."""
        (killed_s,) = sample.pop("killed_at", [0.0])
        if not killed_s:
            scene.members = family(server.pid)
            killed_s = perf_counter()
            server.terminate()
        exited_s = exited_s or _exited_s(server)
        time.sleep(AFTER_S)
        remains = scene.remains()
        scene.clear(remains)
        return {
            "last_exit_s": [exited_s - killed_s],
            "failed": [float(server.returncode != 0)],
            "left": [len(remains.processes) + len(remains.names) + len(remains.files)],
        }


def _watched(server: Program, generator: Program) -> tuple[list[int], float]:
    """Look at the server's memory until the generator has ended; also return when the server did, if it did."""
    held, exited_s, look_s = [], 0.0, 0.0
    while generator.poll() is None:
        if not exited_s and server.poll() is not None:
            exited_s = perf_counter()
        if not exited_s and perf_counter() > look_s:
            look_s = perf_counter() + LOOK_S
            with suppress(OSError):
                held.append(private_bytes(server.pid))
        time.sleep(POLL_S)
    return held, exited_s


def _exited_s(server: Program) -> float:
    overdue = threading.Timer(EXIT_LIMIT_S, kill_family, [server.pid])
    overdue.start()
    server.wait()
    overdue.cancel()
    return perf_counter()


def _growth(held: list[int]) -> Sample:
    """Return how much more was held at most than when everything was in use."""
    early = round(EARLY_SHARE * len(held))
    if len(held) <= early:
        return {}
    return {"late_mb": [(max(held[early:]) - held[early]) / MB], "held_mb": [size / MB for size in held]}


def _wait_until_ready(server: Program, port: int) -> None:
    ends_s = perf_counter() + START_LIMIT_S
    while perf_counter() < ends_s and server.poll() is None:
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as response:
                response.read()
            return
        time.sleep(0.02)
    raise NoSample("the server isn't ready; --verbose shows why")


def _open_end(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
