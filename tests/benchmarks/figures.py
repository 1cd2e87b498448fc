"""The figures: who enters, what is measured, what is to be shown."""

from collections.abc import Callable
from dataclasses import dataclass

from .deciding import Deciding
from .entrants import Entrant
from .goals import FASTEST_PEER, Choice, Goal
from .hosting import Guest
from .sampling import Sampler
from .scripts import ColdScript, Import


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One table of the report; its first measure is the one that ratios and order go by."""

    name: str
    title: str
    entrants: tuple[Entrant, ...]
    measures: tuple[str, ...]
    goals: tuple[Goal | Choice, ...]
    rounds: int = 25
    alone: bool = False
    sampler: Callable[..., Sampler] = Guest


def enter(contender: str, *chunks: int | None) -> tuple[Entrant, ...]:
    """One entrant for each chunk size, None being the library's default."""
    return tuple(Entrant(contender=contender, chunk=chunk) for chunk in chunks or (None,))


def pools(*chunks: int | None) -> tuple[Entrant, ...]:
    """Every process pool that maps."""
    names = ("stdlib", "loky", "joblib", "mpire", "pebble", "anyio.to_process")
    return tuple(entrant for name in names for entrant in enter(name, *chunks))


OURS = Entrant(contender="offloop")
OURS_AUTO = Entrant(contender="offloop", variant="auto")
OURS_UVLOOP = Entrant(contender="offloop", backend="uvloop")
OURS_TRIO = Entrant(contender="offloop", backend="trio")
SPLIT = Entrant(contender="split")
THREAD = Entrant(contender="thread")
SINGLE_CALLS = (
    *enter("stdlib"),
    *enter("loky"),
    *enter("mpire"),
    *enter("pebble"),
    *enter("anyio.to_process"),
)

FIGURES = (
    Figure(
        name="round_trip",
        title="one call that does nothing, there and back, warm",
        entrants=(
            OURS,
            OURS_UVLOOP,
            OURS_TRIO,
            THREAD,
            *SINGLE_CALLS,
            Entrant(contender="trio-parallel", backend="trio"),
        ),
        measures=("call_s",),
        goals=(
            Goal(measure="call_s", limit=0.9, against="anyio.to_process"),
            Goal(measure="call_s", limit=0.3, against="loky"),
            Goal(measure="call_s", limit=1.2, against="thread"),
        ),
        rounds=40,
    ),
    Figure(
        name="uniform",
        title="600 items of 5 ms of pure Python",
        entrants=(OURS, OURS_AUTO, SPLIT, *pools(None, 10), *enter("mpire", 1), THREAD),
        measures=("wall_s",),
        goals=(
            Goal(measure="wall_s", limit=1.03, against="split"),
            Goal(measure="wall_s", limit=1.0, against=FASTEST_PEER),
        ),
        rounds=15,
    ),
    Figure(
        name="heavy_tail",
        title="500 items of 1 ms, every 50th 60 times as long",
        entrants=(OURS, SPLIT, *pools(None, 8), *enter("mpire", 1)),
        measures=("wall_s",),
        goals=(
            Goal(measure="wall_s", limit=1.10, against="split"),
            Goal(measure="wall_s", limit=1.0, against=FASTEST_PEER, strict=True),
        ),
    ),
    Figure(
        name="late_heavy",
        title="400 items of 1 ms, then 4 that take 150 times as long",
        entrants=(OURS, SPLIT, *pools(None, 8), *enter("mpire", 1)),
        measures=("wall_s",),
        goals=(
            Goal(measure="wall_s", limit=1.10, against="split"),
            Goal(measure="wall_s", limit=1.0, against=FASTEST_PEER, strict=True),
        ),
    ),
    Figure(
        name="tiny",
        title="100,000 items of 0.1 µs",
        entrants=(
            OURS,
            OURS_AUTO,
            SPLIT,
            *pools(2_000, 12_500),
            *enter("joblib"),
            *enter("mpire"),
            Entrant(contender="serial"),
        ),
        measures=("wall_s",),
        goals=(Goal(measure="wall_s", limit=1.0, against=FASTEST_PEER, strict=True),),
    ),
    Figure(
        name="callers",
        title="1,000 callers at once, each awaiting a call of 0.5 ms",
        entrants=(OURS, OURS_UVLOOP, SPLIT, *SINGLE_CALLS, THREAD),
        measures=("wall_s", "p99_s"),
        goals=(
            Goal(measure="wall_s", limit=1.2, against="split"),
            Goal(measure="p99_s", limit=1.2, against="split", against_measure="wall_s"),
        ),
    ),
    Figure(
        name="loop_delay",
        title="lateness of a 1 ms tick beside mixed work on all cores",
        entrants=(OURS, OURS_UVLOOP, SPLIT, *SINGLE_CALLS, *enter("joblib"), THREAD),
        measures=("p99_s", "max_s", "p50_s", "items_per_second"),
        goals=(
            Goal(measure="p99_s", limit=0.002),
            Goal(measure="max_s", limit=0.015),
        ),
        rounds=1,
        alone=True,
    ),
    Figure(
        name="cold",
        title="a script from its start through its first process result to its exit",
        entrants=(
            Entrant(contender="offloop", variant="run"),
            Entrant(contender="offloop", variant="map"),
            Entrant(contender="loky", variant="submit"),
            Entrant(contender="joblib", variant="map"),
            Entrant(contender="stdlib", variant="fork"),
            Entrant(contender="stdlib", variant="forkserver"),
            Entrant(contender="stdlib", variant="spawn"),
            Entrant(contender="anyio.to_process"),
        ),
        measures=("wall_s",),
        goals=(
            Goal(measure="wall_s", limit=1.0, ours="offloop run", against="loky submit"),
            Goal(measure="wall_s", limit=1.0, ours="offloop map", against="loky submit"),
        ),
        rounds=21,
        sampler=ColdScript,
    ),
    Figure(
        name="import",
        title="what an import adds to a bare interpreter",
        entrants=(
            OURS,
            Entrant(contender="offloop", variant="run_parallel"),
            *(Entrant(contender=module) for module in ("anyio", "loky", "joblib", "mpire", "pebble")),
        ),
        measures=("wall_s", "bare_s"),
        goals=(Goal(measure="wall_s", limit=0.060, strict=True),),
        rounds=21,
        sampler=Import,
    ),
    Figure(
        name="deciding",
        title="one decision on 1,000 items whose cost is known: 0.1 µs, 10 µs or 10 ms each",
        entrants=tuple(
            Entrant(contender="offloop", variant=variant) for variant in ("tiny", "short", "long")
        ),
        measures=("decision_s",),
        goals=tuple(
            Goal(measure="decision_s", limit=10e-6, ours=f"offloop {variant}")
            for variant in ("tiny", "short", "long")
        ),
        rounds=15,
        sampler=Deciding,
    ),
)
