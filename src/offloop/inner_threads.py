"""Variables of the environment that tell libraries in a worker how many threads of their own to use."""

from __future__ import annotations

JOBLIB_CORES = "LOKY_MAX_CPU_COUNT"  # joblib and loky read it at every call, libraries in C theirs only as they load

PYTHON_CORES = "PYTHON_CPU_COUNT"  # what os.cpu_count says from Python 3.13 on; `limit_loaded` sees to the same before

# Each is read once, when its library is loaded, or as Python starts.
THREAD_VARIABLES = (
    PYTHON_CORES,
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)

# Libraries that go by OMP_NUM_THREADS where their own variable isn't set.
FOLLOW_OMP = frozenset({"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS"})

USER_THREADS = "_OFFLOOP_USER_THREADS"  # what the user's own environment says of them: NAME=value, separated by spaces
ALL_CORES = "_OFFLOOP_CORES"  # how many cores a chunk that runs alone may use
