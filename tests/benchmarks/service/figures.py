"""The figures of a service: who enters, what is to be shown."""

from ..entrants import Entrant
from ..faults.from_scratch import FromScratch
from ..figures import OURS, OURS_TRIO, OURS_UVLOOP, SPLIT, THREAD, Figure, enter
from ..goals import Goal
from .overload import SERVICE_MS
from .served import SETTINGS, Served

ANSWER_S = 0.020  # what an answer may take whose request hasn't had to wait
MAX_WAIT_S = SETTINGS["overload"]["max_wait_s"]
MORE = ("more_tasks", "more_descriptors", "more_threads")
SLOW = (Entrant(contender="pebble", slow=True), Entrant(contender="joblib", slow=True))
EVERYWHERE = (OURS, OURS_UVLOOP, OURS_TRIO)


def served(
    name: str,
    title: str,
    *entrants: Entrant,
    measures: tuple[str, ...],
    goals: tuple[Goal, ...],
    rounds: int,
) -> Figure:
    """A figure of a web server, which every sample starts anew."""
    return Figure(
        name=name,
        title=title,
        entrants=entrants,
        measures=measures,
        goals=(*goals, Goal(measure="failed", limit=0), Goal(measure="left", limit=0)),
        rounds=rounds,
        alone=True,
        sampler=Served,
    )


SERVICE_FIGURES = (
    served(
        "endpoint_latency",
        "a trivial endpoint, 200 times a second, alone and beside requests of 20 to 50 ms on all workers; "
        "split: beside busy processes",
        OURS,
        THREAD,
        SPLIT,
        measures=(
            "slowdown",
            "p99_s",
            "unloaded_p99_s",
            "p50_s",
            "unloaded_p50_s",
            "loads_per_second",
            "late_p99_s",
        ),
        goals=(Goal(measure="slowdown", limit=3),),
        rounds=3,
    ),
    served(
        "overload",
        "5 times as many requests of 20 ms as the workers can do, for 30 s (quick: 6 s)",
        OURS,
        measures=(
            *(
                "accepted_p99_s",
                "waited_p99_s",
                "service_p99_s",
                "refused_p99_s",
                "lost",
                "twice",
                "wrong",
                "late_mb",
            ),
            *(
                "served_per_second",
                "wasted",
                "no_retry_after",
                "accepted_p50_s",
                "refused_p50_s",
                "late_p99_s",
            ),
        ),
        goals=(
            Goal(measure="accepted_p99_s", limit=MAX_WAIT_S + SERVICE_MS / 1e3),
            Goal(measure="waited_p99_s", limit=MAX_WAIT_S + ANSWER_S),
            Goal(measure="refused_p99_s", limit=ANSWER_S),
            *(Goal(measure=measure, limit=0) for measure in ("lost", "twice", "wrong", "no_retry_after")),
            Goal(measure="late_mb", limit=5),
        ),
        rounds=1,
    ),
    Figure(
        name="giving_up",
        title="1,000 callers at once, 20 ms each, who give up after 1 s; the workers could do 100",
        entrants=(
            *EVERYWHERE,
            *enter("stdlib"),
            *enter("loky"),
            *enter("anyio.to_process"),
            Entrant(contender="trio-parallel", backend="trio"),
            *SLOW,
        ),
        measures=("recovery_s", "useful", "wasted", "refused", "twice", "last_return_s"),
        goals=tuple(
            goal
            for entrant in EVERYWHERE
            for goal in (
                Goal(measure="useful", limit=95, ours=entrant.label, at_least=True),
                Goal(measure="wasted", limit=2, ours=entrant.label),
                Goal(measure="recovery_s", limit=0.1, ours=entrant.label),
            )
        ),
        rounds=3,
        alone=True,
        sampler=FromScratch,
    ),
    served(
        "disconnects",
        "1,000 clients (quick: 100) that go away while a worker is in a loop for them",
        OURS,
        measures=("idle_s", "busy_after_100_ms_s", "begun", "twice", *MORE, "clients_per_second"),
        goals=(
            Goal(measure="idle_s", limit=0.1),
            *(Goal(measure=measure, limit=0) for measure in ("twice", *MORE)),
        ),
        rounds=1,
    ),
    served(
        "sigterm",
        "50 times (quick: 3): SIGTERM while 8 clients ask for 40 ms each; from it to the exit, 10 s at most",
        OURS,
        measures=("last_exit_s", "last_answer_s", "lost", "cut", "failed", "left", "under_way", "refused"),
        goals=(
            Goal(measure="last_exit_s", limit=10),
            Goal(measure="lost", limit=0),
            Goal(measure="cut", limit=0),
        ),
        rounds=50,
    ),
    Figure(
        name="beside_map",
        title="single calls of 1 ms, 50 a second, beside a map of 100,000 items of 1 to 10 ms",
        entrants=(
            *EVERYWHERE,
            *enter("stdlib"),
            *enter("loky"),
            *enter("anyio.to_process"),
        ),
        measures=("p99_s", "p50_s", "worst_s", "unanswered"),
        goals=tuple(Goal(measure="p99_s", limit=0.050, ours=entrant.label) for entrant in EVERYWHERE),
        rounds=1,
        alone=True,
        sampler=FromScratch,
    ),
)
