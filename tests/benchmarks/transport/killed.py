"""The figure ``killed_100``: what is left when a program that carries arrays is killed at any moment."""

import random
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from ..families import family, kill_all
from ..goals import Verdict
from ..hosting import ROOT
from ..quantiles import quantile
from ..remains import Remains, Scene, command
from ..report import goal_line, shown
from ..studies import Progress

KILLS, QUICK_KILLS = 100, 10
EARLIEST_S, LEAST_LATEST_S = 0.1, 1.5
LATER = 1.25  # so much more time for the next program where one had no results yet, so much less where it had
PATIENCE_S = 2.0
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
    with tempfile.TemporaryDirectory() as outputs, tempfile.TemporaryDirectory() as temporary:
        scene = Scene(Path(temporary))
        output = Path(outputs, "output")
        with output.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.killed_program"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=scene.environment(),
                start_new_session=True,
            )
        try:
            time.sleep(death.at_s)
            scene.members = family(process.pid)
            death.is_ready = "ready" in output.read_text().splitlines()
            if process.poll() is not None:
                death.failure = (output.read_text().splitlines() or ["it ended without a word"])[-1]
            doomed = _doomed(scene.members, death.victims)
            kill_all(chance.sample(doomed, len(doomed)))
        finally:
            process.kill()
            process.wait()
        _look(death, scene)


def _doomed(members: list[psutil.Process], victims: Victims) -> list[psutil.Process]:
    if victims is Victims.PARENT:
        return members[-1:]
    return [member for member in members if victims is Victims.FAMILY or TRACKER not in command(member)]


def _look(death: Death, scene: Scene) -> None:
    """Wait until nothing is left, for two seconds at most, and then clear away what is."""
    began_s = time.perf_counter()
    while True:
        remains = scene.remains()
        death.gone_s = time.perf_counter() - began_s
        if not remains or death.gone_s > PATIENCE_S:
            break
        time.sleep(0.01)
    death.left = _in_words(remains)
    scene.clear(remains)


def _in_words(remains: Remains) -> list[str]:
    return [
        *(f"process {name}" for name in remains.commands),
        *(["memory file"] * remains.memory_files),
        *(f"/dev/shm/{name}" for name in remains.kinds_of_names),
        *(f"temporary file {name}" for name in remains.kinds_of_files),
    ]
