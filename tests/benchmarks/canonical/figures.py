"""The figures of the canonical workloads: who enters, what is to be shown."""

from ..entrants import Entrant
from ..figures import Figure, enter
from ..goals import FASTEST_PEER, Choice, Goal

AUTO = Entrant(contender="offloop", variant="auto")
AUTO_SAFE = Entrant(contender="offloop", variant="auto thread-safe")
SERIAL = Entrant(contender="serial thread")
THREADS = Entrant(contender="thread")


def gain(factor: float, *, ours: Entrant = AUTO) -> Goal:
    """So many times as fast as serial at least; below 1: so much of its speed is kept."""
    return Goal(measure="wall_s", limit=round(1 / factor, 3), ours=ours.label, against=SERIAL.label)


def beside_peers(limit: float, *, ours: Entrant = AUTO) -> Goal:
    """At most so many times the fastest peer's time."""
    return Goal(measure="wall_s", limit=limit, ours=ours.label, against=FASTEST_PEER)


def canonical(
    name: str, title: str, *entrants: Entrant, goals: tuple[Goal | Choice, ...], rounds: int = 5
) -> Figure:
    """A figure with ours first and serial beside it."""
    return Figure(
        name=name,
        title=title,
        entrants=(AUTO, SERIAL, *entrants),
        measures=("wall_s",),
        goals=goals,
        rounds=rounds,
    )


CANONICAL = (
    canonical(
        "brier_bootstrap",
        "(a) Brier score of 10,000 resamples of 200 rows: not worth leaving serial",
        AUTO_SAFE,
        *enter("stdlib", 500, 2_500),
        goals=(gain(1 / 1.1), Choice(word="serial")),
    ),
    canonical(
        "pr_auc_bootstrap",
        "(b) PR-AUC of 10,000 resamples of 200 rows (quick: 1,000)",
        *enter("stdlib", 100),
        *enter("joblib"),
        goals=(gain(1.75),),
        rounds=4,
    ),
    canonical(
        "shared_array",
        "(c) 60 resamples (quick: 12) of one table of 300,000 rows that is bound to the function",
        AUTO_SAFE,
        THREADS,
        *enter("stdlib", 3, 6),
        *enter("joblib"),
        goals=(beside_peers(1.08), beside_peers(1.08, ours=AUTO_SAFE)),
    ),
    canonical(
        "explain_20",
        "(d) 1,000 rows of 20 features (quick: 200) explained by perturbing them, 10 trees",
        *enter("stdlib", 25),
        *enter("joblib"),
        goals=(gain(1.0), beside_peers(1.08)),
    ),
    canonical(
        "explain_100",
        "(d) 1,000 rows of 100 features (quick: 100) explained by perturbing them, 10 trees",
        *enter("stdlib", 25),
        *enter("joblib"),
        goals=(gain(1.6), beside_peers(1.08)),
        rounds=4,
    ),
    canonical(
        "branches",
        "(e) PLS, Ridge, forest, gradient boosting × 5 folds, as the items of one map",
        *enter("stdlib"),
        *enter("joblib"),
        goals=(gain(1.6), beside_peers(1.08)),
    ),
    canonical(
        "trials",
        "(f) 30 random forests tried (quick: 10); most of their time is spent without the GIL",
        AUTO_SAFE,
        THREADS,
        *enter("stdlib"),
        *enter("joblib"),
        goals=(
            Choice(word="threads", ours=AUTO_SAFE.label),
            Goal(measure="wall_s", limit=1.08, ours=AUTO_SAFE.label, against="thread"),
        ),
    ),
    canonical(
        "own_threads",
        "(g) 5 fits of a learner with n_jobs=-1",
        *enter("stdlib"),
        goals=(gain(1 / 1.1), Choice(word="inner_parallelism")),
    ),
)
