"""The figures of branches and doors: who enters, what is to be shown."""

from ..canonical.figures import AUTO, AUTO_SAFE, SERIAL, THREADS, gain
from ..entrants import Assignment, Entrant
from ..faults.from_scratch import FromScratch
from ..figures import Figure
from ..goals import Goal
from ..hosting import Guest
from ..sampling import Sampler
from ..scripts import ColdScript
from .nesting import NESTING

BRANCHES, BRANCHES_COLD = (Entrant(contender="offloop", way=way) for way in ("warm", "cold"))


def warm_or_cold(assignment: Assignment) -> Sampler:
    """Start the contender before all samples, or anew for each."""
    return (FromScratch if "cold" in assignment.entrant.way else Guest)(assignment)


CALLS = ("one by one", "at once", "map, 100 a chunk")

SEARCHES = ("wide", "digits", "tiny")  # of data that travels, of fits alone, of next to nothing

DOOR_FIGURES = (
    Figure(
        name="grid_search",
        title="GridSearchCV of Ridge on 800 rows of 700 features, of SVC on digits, of Ridge on 100 rows (quick: smaller grids)",
        entrants=tuple(Entrant(contender=name, way=way) for way in SEARCHES for name in ("offloop", "joblib")),
        measures=("wall_s",),
        goals=tuple(
            Goal(measure="wall_s", limit=0.9, ours=f"offloop {way}", against=f"joblib {way}") for way in SEARCHES
        ),
        rounds=9,
    ),
    Figure(
        name="grid_search_cold",
        title="a script that searches a grid of SVC on digits, from its start to its exit",
        entrants=tuple(Entrant(contender=name, variant="grid") for name in ("offloop", "joblib")),
        measures=("wall_s",),
        goals=(Goal(measure="wall_s", limit=1.0, ours="offloop grid", against="joblib grid"),),
        rounds=9,
        sampler=ColdScript,
    ),
    Figure(
        name="run_branches",
        title="PLS, Ridge, forest, gradient boosting × 3 folds of 800 rows of 700 features (quick: fewer trees)",
        entrants=(
            BRANCHES,
            BRANCHES_COLD,
            Entrant(contender="serial thread"),
            Entrant(contender="serial thread", way="1 BLAS thread"),
            Entrant(contender="joblib", way="by branch"),
            *(Entrant(contender="joblib", chunk=1, way=way) for way in ("by unit", "by unit, cold")),
            Entrant(contender="stdlib", way="by unit"),
        ),
        measures=("wall_s",),
        goals=(gain(1.7, ours=BRANCHES), gain(1.7, ours=BRANCHES_COLD)),
        rounds=5,
        sampler=warm_or_cold,
    ),
    Figure(
        name="optuna_forests",
        title="30 random forests (quick: 10) tried by Optuna; thread is its own n_jobs=2",
        entrants=(AUTO_SAFE, AUTO, SERIAL, THREADS),
        measures=("wall_s",),
        goals=(gain(1.7, ours=AUTO_SAFE),),
        rounds=5,
    ),
    Figure(
        name="optuna_pls",
        title="80 PLS regressions (quick: 20) × 3 folds of 800 rows of 700 features tried by Optuna; thread is its own n_jobs=2",
        entrants=(AUTO_SAFE, AUTO, SERIAL, THREADS),
        measures=("wall_s",),
        goals=(gain(1.5, ours=AUTO_SAFE),),
        rounds=5,
    ),
    Figure(
        name="executor",
        title="2,000 calls of a function that does nothing one by one, 10,000 at once, 10,000 in chunks (quick: a fifth): each",
        entrants=tuple(Entrant(contender=name, way=way) for way in CALLS for name in ("offloop", "stdlib", "loky")),
        measures=("call_s",),
        goals=tuple(Goal(measure="call_s", limit=1.0, ours=f"offloop {way}", against=f"stdlib {way}") for way in CALLS),
        rounds=5,
    ),
    NESTING,
)
