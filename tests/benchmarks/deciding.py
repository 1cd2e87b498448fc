"""What deciding costs a call by itself, on work that is known: looking at it, and deciding."""

from time import perf_counter
from types import SimpleNamespace
from typing import Any

from .entrants import Assignment, Sample

DECISIONS = 2_000


def work(item: float) -> float:
    """Be a function that something is known of."""
    return item


class Idle:
    """A backend that has nothing to do."""

    backlog_s = 0.0


class Deciding:
    """Plans the same call again and again, in this process; the variant says what it costs."""

    remark = ""

    def __init__(self, assignment: Assignment) -> None:
        from offloop.model import Host, Strategy
        from offloop.options import CallOptions
        from offloop.planning import Planner
        from offloop.settings import ParallelConfig

        item_s = {"tiny": 1e-7, "short": 1e-5, "long": 1e-2}[assignment.entrant.variant]
        workers: Any = SimpleNamespace(n_idle=assignment.workers, capacity=assignment.workers)
        self._planner = Planner(Host(cores=assignment.workers), ParallelConfig(), workers)
        self._options = CallOptions(strategy=Strategy.AUTO, thread_safe=True)
        self._backends: list[Any] = [Idle(), Idle()]
        cost = self._planner.look_at(work, [1.0], self._options).cost
        cost.executed(100, 100 * item_s, 2 * item_s, is_remote=False)
        cost.watched(0.95, 0.005, 1.0)

    def sample(self) -> Sample:
        """Return the seconds that one decision took on average."""
        planner, options = self._planner, self._options
        began_s = perf_counter()
        for _ in range(DECISIONS):
            planner.decide(planner.look_at(work, [1.0], options), 1_000, *self._backends)
        return {"decision_s": [(perf_counter() - began_s) / DECISIONS]}

    def close(self) -> int:
        """Nothing was started."""
        return 0
