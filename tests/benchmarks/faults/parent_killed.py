"""The figure ``parent_killed``: what is left half a second after a program was killed, busy or idle."""

import random
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..entrants import ROLES, Role
from ..families import family
from ..goals import Verdict
from ..hosting import ROOT
from ..remains import Scene
from ..report import aligned, goal_line
from ..studies import Progress

ROUNDS, QUICK_ROUNDS = 5, 1
AFTER_S = 0.5
START_LIMIT_S = 60.0
STATES = {
    "loop": "in a Python loop",
    "gil": "in C under the GIL",
    "idle": "idle",
    "arrays": "holding arrays",
}
PROGRAM = f"from {__package__}.parent_program import main; main()"
CONTENDERS = ("offloop", "anyio.to_process", "trio-parallel", "pebble", "loky", "joblib", "stdlib", "mpire")


@dataclass(frozen=True, kw_only=True)
class Death:
    """One program's end.

    Attributes:
        contender: The library.
        state: What its workers were at; see `STATES`.
        commands: The processes that were left, by their command lines without numbers.
        memory_files: How many memory files these held.
        names: What was left in /dev/shm.
        files: Temporary files that were left.
        failure: Why it never got there.
    """

    contender: str
    state: str
    commands: Sequence[str] = ()
    memory_files: int = 0
    names: Sequence[str] = ()
    files: Sequence[str] = ()
    failure: str = ""

    @property
    def n_files(self) -> int:
        """Memory files and others."""
        return self.memory_files + len(self.names) + len(self.files)


class ParentKilled:
    """Starts a program of each library in each state, kills it, looks for what it left, and clears that away."""

    name = "parent_killed"
    title = "processes + files left 0.5 s after the parent's SIGKILL, the most of any round"

    def __init__(self) -> None:
        self._deaths: list[Death] = []

    def run(self, options: Namespace, chance: random.Random, progress: Progress) -> None:
        """Kill every program once a round, in an order of the round's own."""
        names = [name for name in CONTENDERS if not options.peers or name in options.peers or _is_ours(name)]
        rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
        for number in range(rounds):
            programs = [(name, state) for name in names for state in STATES]
            for name, state in chance.sample(programs, len(programs)):
                progress(f"round {number + 1} of {rounds}: {name}, {state}")
                self._deaths.append(_kill_one(name, state, options.workers))

    def lines(self) -> list[str]:
        """One row for each library, one column for each state."""
        found = {death.contender for death in self._deaths}
        names = [name for name in CONTENDERS if name in found]
        failures = {f"{death.contender}: {death.failure}" for death in self._deaths if death.failure}
        return [
            *aligned([["", *STATES.values()], *([name, *self._cells(name)] for name in names)]),
            *(f"  failed: {failure}" for failure in sorted(failures)),
            *(f"  goal {goal_line(verdict)}" for verdict in self._verdicts()),
        ]

    def record(self) -> dict[str, Any]:
        """Every program's end."""
        return {
            "deaths": [asdict(death) for death in self._deaths],
            "goals": [asdict(verdict) for verdict in self._verdicts()],
        }

    def _cells(self, name: str) -> list[str]:
        return [self._cell(self._of(name, state)) for state in STATES]

    @staticmethod
    def _cell(deaths: list[Death]) -> str:
        if not deaths or any(death.failure for death in deaths):
            return "–"
        processes = max(len(death.commands) for death in deaths)
        return f"{processes} + {max(death.n_files for death in deaths)}"

    def _of(self, name: str, state: str) -> list[Death]:
        return [death for death in self._deaths if (death.contender, death.state) == (name, state)]

    def _verdicts(self) -> list[Verdict]:
        return [
            Verdict(
                goal=f"offloop {words}: no process, file or memory file left",
                met=all(not (death.commands or death.n_files or death.failure) for death in deaths),
                decided=f"{self._cell(deaths)} of {len(deaths)} programs",
            )
            for state, words in STATES.items()
            if (deaths := self._of("offloop", state))
        ]


def _is_ours(name: str) -> bool:
    return ROLES.get(name) is Role.OURS


def _kill_one(name: str, state: str, workers: int) -> Death:
    with tempfile.TemporaryDirectory() as outputs, tempfile.TemporaryDirectory() as temporary:
        scene = Scene(Path(temporary))
        signatures, errors = Path(outputs, "signatures"), Path(outputs, "errors")
        with errors.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, name, state, str(signatures), str(workers)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env=scene.environment(),
                start_new_session=True,
            )
        try:
            failure = _await_signatures(process, signatures, workers + (state == "idle"))
            scene.members = family(process.pid)
        finally:
            process.kill()
            process.wait()
        time.sleep(AFTER_S)
        remains = scene.remains()
        scene.clear(remains)
        if failure:
            last = (errors.read_text().splitlines() or [failure])[-1]
            return Death(contender=name, state=state, failure=last)
    return Death(
        contender=name,
        state=state,
        commands=remains.commands,
        memory_files=remains.memory_files,
        names=remains.kinds_of_names,
        files=remains.kinds_of_files,
    )


def _await_signatures(process: subprocess.Popen[bytes], path: Path, count: int) -> str:
    """Wait until all have signed; return why they never will."""
    began_s = time.perf_counter()
    while not path.exists() or len(path.read_text().splitlines()) < count:
        if process.poll() is not None:
            return f"ended with exit code {process.returncode}"
        if time.perf_counter() - began_s > START_LIMIT_S:
            return f"not at work after {START_LIMIT_S:.0f} s"
        time.sleep(0.005)
    return ""
