"""The figure ``killed_100``: what is left when a program that carries arrays is killed at any moment."""

import os
import random
import re
import subprocess
import sys
import tempfile
import time
import uuid
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from ..families import family, kill_all
from ..goals import Verdict
from ..hosting import PYTHONPATH, ROOT
from ..quantiles import quantile
from ..report import goal_line, shown
from ..studies import Progress

KILLS, QUICK_KILLS = 100, 10
EARLIEST_S, LEAST_LATEST_S = 0.1, 1.5
LATER = 1.25  # so much more time for the next program where one had no results yet, so much less where it had
PATIENCE_S = 2.0
NUMBER = r"(?<![0-9a-zA-Z])\d+(?![0-9a-zA-Z])"
MARK = "OFFLOOP_BENCHMARK_MARK"  # no setting of offloop's: every process that a program starts inherits it
MEMORY = Path("/dev/shm")
TRACKER = "resource_tracker"  # the process that loky and the standard library have clean up after all others


class Victims(StrEnum):
    """Who is killed."""

    PARENT = "parent"
    WORKERS = "parent and workers"
    FAMILY = "parent, workers and loky's tracker"


@dataclass
class Death:
    """One program's end.

    Attributes:
        at_s: When it was killed, counted from its start.
        victims: Who was killed.
        is_ready: Whether it had results already.
        left: What was left after two seconds, as words.
        gone_s: How long the last of it took to go.
        failure: Why it ended before it was killed.
    """

    at_s: float
    victims: Victims
    is_ready: bool = False
    left: list[str] = field(default_factory=list)
    gone_s: float = 0.0
    failure: str = ""


class Killed:
    """Starts program after program, kills each, looks for what it left, and clears that away."""

    name = "killed_100"
    title = "killed at random moments, with its workers or without, while arrays travel"

    def __init__(self) -> None:
        self._deaths: list[Death] = []

    def run(self, options: Namespace, chance: random.Random, progress: Progress) -> None:
        """Kill as many as are asked for."""
        kills = options.rounds or (QUICK_KILLS if options.quick else KILLS)
        for number in range(kills):
            progress(f"program {number + 1} of {kills}")
            at_s = chance.uniform(EARLIEST_S, self._latest_s())
            death = Death(at_s=at_s, victims=list(Victims)[number % len(Victims)])
            _kill_one(death, chance)
            self._deaths.append(death)

    def _latest_s(self) -> float:
        """Leave more time where the machine is slow, so that about half of the programs get to their results."""
        latest_s = LEAST_LATEST_S
        for death in self._deaths:
            latest_s = max(LEAST_LATEST_S, latest_s / LATER if death.is_ready else latest_s * LATER)
        return latest_s

    def lines(self) -> list[str]:
        """What was left, and how quickly the rest went."""
        deaths = self._deaths
        if not deaths:
            return ["  no program was killed"]
        gone_s = [death.gone_s for death in deaths]
        ready = sum(death.is_ready for death in deaths)
        kinds = Counter(f"{what}, killed: {death.victims}" for death in deaths for what in death.left)
        return [
            f"  {len(deaths)} programs killed, {ready} of them after their first results; "
            f"all gone after {shown(quantile(gone_s, 0.5), '_s')}, at most {shown(max(gone_s), '_s')}",
            *(f"  left: {count} × {what}" for what, count in kinds.most_common()),
            *(f"  failed: {failure}" for failure in {death.failure for death in deaths} - {""}),
            *(f"  goal {goal_line(verdict)}" for verdict in self._verdicts()),
        ]

    def record(self) -> dict[str, Any]:
        """Every program's end."""
        return {
            "deaths": [asdict(death) for death in self._deaths],
            "goals": [asdict(verdict) for verdict in self._verdicts()],
        }

    def _verdicts(self) -> list[Verdict]:
        return [_verdict(victims, [d for d in self._deaths if d.victims is victims]) for victims in Victims]


def _verdict(victims: Victims, deaths: list[Death]) -> Verdict:
    left = sum(len(death.left) for death in deaths)
    failed = sum(bool(death.failure) for death in deaths)
    decided = f"{left} left of {len(deaths)} programs"
    if failed:
        decided += f", {failed} of which ended by themselves"
    goal = f"killed {victims}: no process, file or memory file left"
    return Verdict(goal=goal, met=not left and not failed, decided=decided)


def _kill_one(death: Death, chance: random.Random) -> None:
    mark = uuid.uuid4().hex
    names_before = set(os.listdir(MEMORY))
    with tempfile.TemporaryDirectory() as outputs, tempfile.TemporaryDirectory() as temporary:
        output = Path(outputs, "output")
        with output.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.killed_program"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": PYTHONPATH, "TMPDIR": temporary, MARK: mark},
                start_new_session=True,
            )
        members: list[psutil.Process] = []
        try:
            time.sleep(death.at_s)
            members = family(process.pid)
            death.is_ready = "ready" in output.read_text().splitlines()
            if process.poll() is not None:
                death.failure = (output.read_text().splitlines() or ["it ended without a word"])[-1]
            doomed = _doomed(members, death.victims)
            kill_all(chance.sample(doomed, len(doomed)))
        finally:
            process.kill()
            process.wait()
        _look(death, mark, members, names_before, Path(temporary))


def _doomed(members: list[psutil.Process], victims: Victims) -> list[psutil.Process]:
    if victims is Victims.PARENT:
        return members[-1:]
    return [member for member in members if victims is Victims.FAMILY or TRACKER not in _command(member)]


def _look(
    death: Death, mark: str, members: list[psutil.Process], names_before: set[str], temporary: Path
) -> None:
    """Wait until nothing is left, for two seconds at most, and then clear away what is."""
    began_s = time.perf_counter()
    while True:
        processes = _alive(mark, members)
        names = [name for name in set(os.listdir(MEMORY)) - names_before if not _is_anothers(name, members)]
        files = [path for path in temporary.rglob("*") if path.is_file()]
        death.gone_s = time.perf_counter() - began_s
        if not (processes or names or files) or death.gone_s > PATIENCE_S:
            break
        time.sleep(0.01)
    for process in processes:
        death.left.append(f"process {re.sub(NUMBER, 'N', _command(process))}")
        death.left += ["memory file" for _ in range(_memory_files(process))]
    death.left += [f"/dev/shm/{_kind(name)}" for name in names]
    death.left += [f"temporary file {_kind(path.name)}" for path in files]
    kill_all(processes)
    pids = {process.pid for process in members}
    for name in names:
        if pids & _numbers(name):  # what may be anybody's stays
            with suppress(OSError):
                (MEMORY / name).unlink()


def _alive(mark: str, members: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return what runs of a program: the family seen at its death, and whoever bears its mark."""
    found = {process.pid: process for process in members if _runs(process)}
    for pid in psutil.pids():
        with suppress(OSError, psutil.NoSuchProcess):
            if f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found[pid] = psutil.Process(pid)
    return list(found.values())


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_anothers(name: str, members: Iterable[psutil.Process]) -> bool:
    """Whether a name in shared memory says the number of a process, and none of this program's."""
    numbers = _numbers(name)
    return bool(numbers) and not numbers & {member.pid for member in members}


def _numbers(name: str) -> set[int]:
    return {int(digits) for digits in re.findall(NUMBER, name)}


def _kind(name: str) -> str:
    """Cut a name off where it becomes its very own."""
    return f"{re.split('[0-9]', name)[0]}…"


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:100]
    except psutil.Error:
        return "that is gone"


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
