"""The figures of transport: who enters, what is to be shown."""

from ..canonical.figures import SERIAL, gain
from ..entrants import Entrant
from ..figures import OURS, Figure, enter
from ..goals import FASTEST_PEER, Goal
from .watched import TimedThenWatched

BOUND = Entrant(contender="offloop", way="bound")
ITEMS = Entrant(contender="offloop", way="items")
SHARED_BEFORE = Entrant(contender="offloop", way="shared before")
SHARED_INSIDE = Entrant(contender="offloop", way="shared inside")
JOBLIB = Entrant(contender="joblib", way="items")
BATCHES = Entrant(contender="offloop", variant="auto", way="batches")
ROWS = Entrant(contender="offloop", variant="auto", way="rows")
PEERS_BESIDE_A_LOOP = {
    "round": ("joblib", "loky", "anyio.to_process"),
    "raw": ("joblib", "loky", "anyio.to_process"),
    "array": ("joblib",),
}
BY_THE_ITEM = ("loky", "stdlib", "anyio.to_process", "pebble", "mpire")  # each item brings its own


def faster(entrant: Entrant, limit: float, against: str = JOBLIB.label) -> Goal:
    """At most so many times the time of another."""
    return Goal(measure="wall_s", limit=limit, ours=entrant.label, against=against)


def one_copy(entrant: Entrant) -> Goal:
    """All workers together hold the data once, and little else."""
    return Goal(measure="pss_share", limit=1.02, ours=entrant.label)


def slow(*names: str) -> tuple[Entrant, ...]:
    """Peers that need many seconds, and get one round."""
    return tuple(Entrant(contender=name, way="items", slow=True) for name in names)


def one_value(
    name: str, title: str, *entrants: Entrant, goals: tuple[Goal, ...] = (), rounds: int = 5
) -> Figure:
    """Eight items read one value; memory is what all workers hold at most, above what they held idle."""
    return Figure(
        name=name,
        title=f"{title}, read whole by each of 8 items",
        entrants=entrants,
        measures=("wall_s", "pss_mb", "pss_share"),
        goals=goals,
        rounds=rounds,
        alone=True,
        sampler=TimedThenWatched,
    )


def ways(way: str, *contenders: str, slow: bool = False) -> tuple[Entrant, ...]:
    """What carries the same thing."""
    return tuple(Entrant(contender=contender, way=way, slow=slow) for contender in contenders)


def explain(n_features: int, quick_rows: int, factor: float, rounds: int) -> Figure:
    """Rows explained by perturbing them: what comes back is larger than what is sent."""
    return Figure(
        name=f"explain_1000x{n_features}",
        title=f"1,000 rows of {n_features} features (quick: {quick_rows}) explained, through run_batches",
        entrants=(BATCHES, ROWS, SERIAL),
        measures=("wall_s",),
        goals=(gain(factor, ours=BATCHES),),
        rounds=rounds,
    )


TRANSPORT = (
    one_value(
        "array_400",
        "an array of 400 MB (quick: 50), bound to the function or in every item",
        BOUND,
        ITEMS,
        JOBLIB,
        *slow(*BY_THE_ITEM),
        goals=(faster(BOUND, 0.6), faster(ITEMS, 0.6), one_copy(BOUND), one_copy(ITEMS)),
    ),
    one_value(
        "array_400_shared",
        "an array of 400 MB (quick: 50) that is shared before the clock starts or after it",
        SHARED_BEFORE,
        SHARED_INSIDE,
        JOBLIB,
        goals=(
            faster(SHARED_BEFORE, 0.4),
            faster(SHARED_INSIDE, 0.4),
            one_copy(SHARED_BEFORE),
            one_copy(SHARED_INSIDE),
        ),
    ),
    one_value(
        "frame_1gb",
        "a DataFrame of 1 GB (quick: 125 MB), numbers and strings held by Arrow",
        BOUND,
        SHARED_BEFORE,
        SHARED_INSIDE,
        *slow("joblib", *BY_THE_ITEM),
        goals=(
            *(faster(entrant, 0.2, FASTEST_PEER) for entrant in (BOUND, SHARED_INSIDE)),
            *map(one_copy, (BOUND, SHARED_BEFORE, SHARED_INSIDE)),
        ),
        rounds=3,
    ),
    one_value(
        "frame_objects",
        "a DataFrame of 200 MB (quick: 25), its strings as Python objects",
        BOUND,
        SHARED_INSIDE,
        *slow("joblib", *BY_THE_ITEM),
        rounds=2,
    ),
    Figure(
        name="round_40x8",
        title="40 arrays of 8 MB (quick: 1) there, as many back",
        entrants=(OURS, *enter("anyio.to_process"), *enter("loky"), *enter("joblib"), *enter("stdlib")),
        measures=("wall_s",),
        goals=(Goal(measure="wall_s", limit=0.6, against=FASTEST_PEER),),
        rounds=9,
    ),
    Figure(
        name="raw_256",
        title="one array of 256 MB (quick: 64), there and back or one way, beside plain copies into fresh memory",
        entrants=(
            *(entrant for way in ("", "there", "back") for entrant in ways(way, "offloop", "copies")),
            *ways("", "anyio.to_process", "loky", "joblib", "stdlib", slow=True),
        ),
        measures=("wall_s", "mb_a_second"),
        goals=(
            Goal(measure="wall_s", limit=1 / 0.8, against="copies"),
            *(
                Goal(measure="wall_s", limit=1 / 0.8, ours=f"offloop {way}", against=f"copies {way}")
                for way in ("there", "back")
            ),
        ),
        rounds=5,
    ),
    Figure(
        name="delay_transport",
        title="lateness of a 1 ms tick while round_40x8, raw_256 and array_400 are under way",
        entrants=tuple(
            entrant
            for way in ("round", "raw", "array")
            for entrant in (
                *ways(way, "offloop"),
                *ways(way, *PEERS_BESIDE_A_LOOP[way], slow=True),
            )
        ),
        measures=("max_s", "p99_s", "p50_s"),
        goals=tuple(
            Goal(measure="max_s", limit=0.015, ours=f"offloop {way}") for way in ("round", "raw", "array")
        ),
        rounds=5,
    ),
    explain(20, 200, 1.3, rounds=5),
    explain(100, 100, 1.6, rounds=4),
)
