"""The benchmark command: which figures, which contenders, how often, and where results go."""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from . import facts
from .calibration import iterations_per_ms
from .canonical.figures import CANONICAL
from .cold_auto.study import ColdAuto
from .doors.figures import DOOR_FIGURES
from .entrants import Assignment, Entrant, Role
from .faults.cost import FaultCost
from .faults.figures import FAULT_FIGURES
from .faults.from_scratch import FromScratch
from .faults.parent_killed import ParentKilled
from .figures import FIGURES, Figure
from .goals import Verdict, judge
from .hosting import Guest
from .outcomes import Outcome
from .regret.study import Regret
from .report import table
from .rounds import take_turns
from .sampling import Sampler
from .service.figures import SERVICE_FIGURES
from .service.served import Served
from .streams.figures import STREAM_FIGURES
from .studies import Study
from .transport.figures import TRANSPORT
from .transport.killed import Killed
from .transport.watched import TimedThenWatched
from .watching.commands import COMMANDS
from .watching.overhead import Overhead

QUICK_ROUNDS = 3
TABLES = (*FIGURES, *CANONICAL, *TRANSPORT, *FAULT_FIGURES, *STREAM_FIGURES, *SERVICE_FIGURES, *DOOR_FIGURES, *COMMANDS)
STUDIES: dict[str, type[Study]] = {
    "regret": Regret,
    "cold_auto": ColdAuto,
    "killed_100": Killed,
    "parent_killed": ParentKilled,
    "fault_cost": FaultCost,
    "overhead": Overhead,
}
GROUPS = {
    "canonical": {figure.name for figure in CANONICAL},
    "transport": {"killed_100", *(figure.name for figure in TRANSPORT)},
    "faults": {"parent_killed", "fault_cost", *(figure.name for figure in FAULT_FIGURES)},
    "streams": {figure.name for figure in STREAM_FIGURES},
    "service": {figure.name for figure in SERVICE_FIGURES},
    "doors": {figure.name for figure in DOOR_FIGURES},
    "watching": {"overhead", *(figure.name for figure in COMMANDS)},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table per figure as it is done, and write everything as JSON if asked."""
    options = parsed(arguments)
    chance = random.Random(options.seed)
    turns = iterations_per_ms()
    host = facts.host() | {"iterations_per_ms": turns}
    print("\n".join(f"{key}: {value}" for key, value in host.items()), end="\n\n")
    records: list[dict[str, Any]] = []
    try:
        for figure in chosen(options.figures):
            outcomes = measure(figure, options, turns, chance)
            verdicts = [judge(goal, outcomes) for goal in figure.goals]
            records.append(record(figure, outcomes, verdicts))
            print(table(figure, outcomes, verdicts), end="\n\n", flush=True)
        for study in (STUDIES[name]() for name in STUDIES if not options.figures or name in options.figures):
            try:
                study.run(options, chance, show_progress)
            finally:  # what was found so far is worth keeping when the rest is given up
                show_progress("")
                records.append({"name": study.name, "title": study.title} | study.record())
                print("\n".join([f"{study.name}: {study.title}", *study.lines()]), end="\n\n", flush=True)
    finally:
        if options.json:
            document = {"host": host, "versions": facts.versions(), "settings": settings(options)}
            options.json.write_text(json.dumps(document | {"figures": records}) + "\n")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; ``--help`` lists what there is."""
    names = [*(figure.name for figure in TABLES), *STUDIES]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "figures",
        nargs="*",
        metavar="FIGURE",
        help=f"of {', '.join(names)}, or a group: {', '.join(GROUPS)}; default all",
    )
    parser.add_argument(
        "--peers", type=lambda text: text.split(","), help="of the peers, by commas; default all"
    )
    parser.add_argument(
        "--against", metavar="REVISION", help="what fault_cost holds this tree against, as git names it"
    )
    parser.add_argument("--rounds", type=int, help="timed rounds; default: each figure's own")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a round of loop_delay")
    parser.add_argument("--cells", type=int, help="most cells of regret; default: as many as fit 8 minutes")
    parser.add_argument(
        "--match",
        action="append",
        default=[],
        metavar="TEXT",
        help="only cells of regret that have it in their name",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer cells, fewer rounds, smaller workloads where a figure has them",
    )
    parser.add_argument("--workers", type=int, default=2, help="worker processes of each contender")
    parser.add_argument("--seed", type=int, help="of the order in which contenders take turns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write host, versions and raw samples")
    parser.add_argument("--verbose", action="store_true", help="let contenders write to standard error")
    options = parser.parse_args(arguments)
    options.figures = [name for given in options.figures for name in sorted(GROUPS.get(given, {given}))]
    if unknown := set(options.figures) - set(names):
        parser.error(f"no such figure: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    peers = {entrant.contender for figure in TABLES for entrant in figure.entrants}
    if unknown := set(options.peers or ()) - peers:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(sorted(peers))}")
    if options.json:
        options.json.touch()  # a place that can't be written shows before the work, not after
    return options


def chosen(names: Sequence[str]) -> list[Figure]:
    return [figure for figure in TABLES if not names or figure.name in names]


def measure(
    figure: Figure, options: argparse.Namespace, turns: int, chance: random.Random
) -> dict[str, Outcome]:
    """Let the chosen entrants of one figure take turns."""
    entrants = [
        entrant
        for entrant in figure.entrants
        if entrant.role in (Role.OURS, Role.LIMIT)
        or entrant.contender in (options.peers or {entrant.contender})
    ]
    outcomes = take_turns(
        entrants,
        partial(opened, figure, options, turns),
        rounds=options.rounds or (min(figure.rounds, QUICK_ROUNDS) if options.quick else figure.rounds),
        alone=figure.alone,
        chance=chance,
        progress=show_progress,
    )
    show_progress("")
    return {outcome.entrant.label: outcome for outcome in outcomes}


def opened(figure: Figure, options: argparse.Namespace, turns: int, entrant: Entrant) -> Sampler:
    """Start what samples one entrant."""
    assignment = Assignment(
        entrant=entrant,
        scenario=figure.name,
        workers=options.workers,
        iterations_per_ms=turns,
        seconds=options.seconds,
        quick=options.quick,
    )
    if figure.sampler in (Guest, TimedThenWatched, FromScratch, Served):
        return figure.sampler(assignment, verbose=options.verbose)
    return figure.sampler(assignment)


def show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The command line as read, without the place that the results go to."""
    return {name: value for name, value in vars(options).items() if name != "json"}


def record(figure: Figure, outcomes: dict[str, Outcome], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """One figure as JSON keeps it: every raw sample, the medians read from them, the verdicts."""
    entrants = [
        asdict(outcome)
        | {"label": outcome.entrant.label, "role": outcome.entrant.role}
        | {"values": {measure: outcome.value(measure) for measure in outcome.measured}}
        for outcome in outcomes.values()
    ]
    return {
        "name": figure.name,
        "title": figure.title,
        "measures": figure.measures,
        "load_1_min_after": facts.load_1_min(),
        "entrants": entrants,
        "goals": [asdict(verdict) for verdict in verdicts],
    }
