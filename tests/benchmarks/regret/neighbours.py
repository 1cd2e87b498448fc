"""How many cores others kept busy, for nothing parallel can be measured beside them."""

import os
from time import perf_counter

import psutil

from ..families import family


class Neighbours:
    """Cores busy with what is none of ours, nor of our children, between two looks; stolen ones included."""

    def __init__(self) -> None:
        self._seen = self._look()

    def busy_cores(self) -> float:
        """Return their mean since the last look."""
        before, self._seen = self._seen, self._look()
        at_s, all_s, own_s = (now - then for now, then in zip(self._seen, before, strict=True))
        return max(0.0, (all_s - own_s) / at_s)

    def _look(self) -> tuple[float, float, float]:
        times = psutil.cpu_times()
        idle_s = times.idle + getattr(times, "iowait", 0.0)
        guest_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted as user time too
        return perf_counter(), sum(times) - idle_s - guest_s, _own_s()


def _own_s() -> float:
    """Seconds that this process and its children have worked; those of the dead ones pass to their parents."""
    total_s = 0.0
    for process in family(os.getpid()):
        try:
            total_s += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total_s
