"""The figures of cancelling and of crashes: who enters, what is to be shown."""

from ..entrants import Entrant
from ..figures import OURS, OURS_TRIO, OURS_UVLOOP, Figure, enter
from ..goals import Goal
from .from_scratch import FromScratch

ANYIO = Entrant(contender="anyio.to_process")
TRIO_PARALLEL = Entrant(contender="trio-parallel", backend="trio")
KILLERS = (ANYIO, TRIO_PARALLEL, *enter("pebble"))  # peers that stop work by killing its worker
UNSTOPPABLE = (*enter("loky"), *enter("joblib"), *enter("stdlib"))  # these drop out, and say that they can't
RENEWED = (Entrant(contender="loky", way="renewed"), Entrant(contender="stdlib", way="renewed"))
EVERYWHERE = (OURS, OURS_UVLOOP, OURS_TRIO)


def faults(
    name: str,
    title: str,
    *entrants: Entrant,
    measures: tuple[str, ...],
    goals: tuple[Goal, ...],
    rounds: int = 4,
) -> Figure:
    """A figure in which every sample starts pools of its own, and nobody else has one at that time."""
    return Figure(
        name=name,
        title=title,
        entrants=entrants,
        measures=measures,
        goals=goals,
        rounds=rounds,
        alone=True,
        sampler=FromScratch,
    )


def cancels(name: str, what: str) -> Figure:
    """Cancel on one worker; peers that kill have to start another one before they can be used again."""
    return faults(
        name,
        f"25 cancels a round (quick: 5) of {what}, on one worker",
        *EVERYWHERE,
        *KILLERS,
        *UNSTOPPABLE,
        measures=("return_s", "p95_s", "stopped_s", "usable_s", "replaced"),
        goals=tuple(
            goal
            for entrant in EVERYWHERE
            for goal in (
                Goal(measure="return_s", limit=0.005, ours=entrant.label),
                Goal(measure="replaced", limit=0, ours=entrant.label),
            )
        ),
    )


def none_of(measure: str, *entrants: Entrant) -> tuple[Goal, ...]:
    """Not one, in any round."""
    return tuple(Goal(measure=measure, limit=0, ours=entrant.label) for entrant in entrants)


FAULT_FIGURES = (
    cancels("cancel_cooperative", "a loop that asks whether to stop"),
    cancels("cancel_loop", "an endless loop of pure Python"),
    cancels("cancel_sleep", "a sleep of a minute"),
    faults(
        "cancel_gil",
        "10 cancels a round (quick: 2) of C code that holds the GIL, ours with grace_s=0.2; a neighbour's calls",
        OURS,
        *KILLERS,
        measures=("past_grace_s", "return_s", "usable_s", "neighbour_slowed"),
        goals=(
            Goal(measure="past_grace_s", limit=0.050),
            Goal(measure="neighbour_slowed", limit=1.05),
        ),
    ),
    faults(
        "crash_next",
        "from a worker's SIGKILL to the next call's result; start: from no pool to its first result",
        OURS,
        *KILLERS,
        *enter("loky"),
        *enter("joblib"),
        *enter("stdlib"),
        measures=("next_s", "start_s"),
        goals=(Goal(measure="next_s", limit=1.3, against="offloop", against_measure="start_s"),),
    ),
    faults(
        "kill_calls",
        "300 single calls of 12 ms, 12 at a time, a worker killed every 0.3 s; lost: failed though killed once at most",
        *EVERYWHERE,
        *KILLERS,
        *enter("loky"),
        *enter("stdlib"),
        *RENEWED,
        *enter("joblib"),
        measures=("failed", "lost", "unanswered", "kills", "wall_s"),
        goals=(*none_of("failed", *EVERYWHERE), *none_of("lost", *EVERYWHERE)),
        rounds=3,
    ),
    faults(
        "kill_map",
        "10,000 items of 2 ms (quick: 1,000), ours with retries=5, 500 SIGKILLs (quick: 50) at random",
        *EVERYWHERE,
        *enter("anyio.to_process"),
        *enter("pebble"),
        *enter("loky"),
        *enter("stdlib"),
        *enter("joblib"),
        measures=("wrong", "done_again", "kills", "wall_s"),
        goals=none_of("wrong", *EVERYWHERE),
        rounds=1,
    ),
    faults(
        "cancel_starting",
        "40 calls cancelled while workers start (quick: 10): the most workers alive at a time, above those allowed",
        *EVERYWHERE,
        *KILLERS,
        *enter("loky"),
        measures=("too_many", "most_live", "cancelled"),
        goals=none_of("too_many", *EVERYWHERE),
        rounds=2,
    ),
)
