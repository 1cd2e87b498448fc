"""The figure of nesting: threads at work while somebody in a nested branch wants all cores."""

from collections.abc import Callable
from functools import partial

import loky

from offloop import call

from ..contenders.ours import Offloop
from ..entrants import Assignment, Entrant, Sample
from ..faults.from_scratch import FromScratch
from ..faults.pools import opened
from ..figures import Figure
from ..goals import Goal
from . import nested_work
from .at_work import watched

BRANCHES = {
    "offloop": nested_work.nested_here,
    "joblib": nested_work.nested_in_joblib,
    "stdlib": nested_work.nested_not,
}
OURS = tuple(
    Entrant(contender="offloop", variant=variant, way=way)
    for variant in ("", "auto")
    for way in (*nested_work.WORK, "forests below branches")
)
# Consent to threads is consent to what fn does in them: told without a goal.
IN_THREADS = tuple(Entrant(contender="offloop", variant="threads", way=way) for way in nested_work.WORK)
# Without joblib in workers of the standard library's pool: it then hangs at its end.
PEERS = tuple(
    Entrant(contender=name, way=way)
    for name in ("joblib", "stdlib")
    for way in nested_work.WORK
    if name == "joblib" or way != "joblib"
)


async def nesting(assignment: Assignment) -> Sample:
    """Run twice as many branches as there are workers, and watch what is at work meanwhile."""
    way, _, below = assignment.entrant.way.partition(" below ")
    seconds = nested_work.QUICK_WORK_S if assignment.quick else nested_work.WORK_S
    nested = nested_work.nested_branches if below else BRANCHES[assignment.entrant.contender]
    branch, n_branches = partial(nested, way), 2 * assignment.workers
    async with opened(assignment, n_workers=assignment.workers) as contender:
        await contender.map(branch, [0.0] * assignment.workers)  # what is imported once
        with watched() as found:
            if isinstance(contender, Offloop):
                await _in_branches(contender, branch, seconds, n_branches)
            else:
                await contender.map(branch, [seconds] * n_branches)
    return {**{name: [value] for name, value in found.items()}, "over_cores": [found["at_work"] - loky.cpu_count()]}


async def _in_branches(contender: Offloop, branch: Callable[[float], None], seconds: float, n_branches: int) -> None:
    branches = {f"branch {number}": call(branch, seconds) for number in range(n_branches)}
    await contender.session.run_branches(branches, strategy=contender.strategy)


NESTING = Figure(
    name="nesting",
    title="branches in which somebody wants all cores, 2 s each (quick: 1 s): the most threads at work at a time",
    entrants=(*OURS, *IN_THREADS, *PEERS),
    measures=("at_work", "over_cores", "processes", "mean"),
    goals=tuple(Goal(measure="over_cores", limit=1, ours=entrant.label) for entrant in OURS),
    rounds=2,
    alone=True,
    sampler=FromScratch,
)
