"""joblib on offloop's workers: scikit-learn, and whatever else is parallel by joblib, in the pool that the program has.

    import offloop.adapters.joblib

    with joblib.parallel_config("offloop"):
        grid.fit(X, y)

    await session.run_joblib(lambda: grid.fit(X, y))  # on an event loop

To import it registers the backend; see `OffloopBackend`.
"""

from joblib.parallel import register_parallel_backend

from .backend import OffloopBackend
from .on_loop import LoopHeld
from .within import Joblib

__all__ = ("Joblib", "LoopHeld", "OffloopBackend")

register_parallel_backend("offloop", OffloopBackend)
