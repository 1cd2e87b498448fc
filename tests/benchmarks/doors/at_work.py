"""How many threads and processes are at work in a process and all that it has started.

``python -m tests.benchmarks.doors.at_work PID`` looks until its standard input ends, then prints what it has seen as JSON.

A thread that executes, or could if a core were free, is in state R in /proc/PID/task/TID/stat; one that waits, for the GIL too,
is not. So what is more than the cores shows as well, which time used would not show. One that wakes for a moment now and then is
not at work: a thread counts in a window of 0.2 s if it was in state R at half of the looks, of which there are about 40, and if its
turns on a core (schedstat) have lasted for 0.2 ms on average: who works is taken off after some milliseconds, who looks at the
clock every 0.2 ms, as where it is watched how the GIL is held, goes by itself after 0.01 to 0.05 ms.
"""

import json
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import perf_counter

from ..hosting import PYTHONPATH, ROOT

WINDOW_S, LEAST_LOOKS = 0.2, 10
PAUSE_S = 0.004
RUNNABLE = 0.5
TURN_NS = 200_000
FIRST = -10  # its priority, where it may have that: it is to look often beside busy threads

Found = dict[str, float]
Thread = tuple[int, int]  # its process and its own number


class Window:
    """What is seen of each thread in one window."""

    def __init__(self) -> None:
        self._begun = perf_counter()
        self._n_looks = 0
        self._runnable: Counter[Thread] = Counter()
        self._first: dict[Thread, tuple[int, int]] = {}  # for how long it had executed, and in how many turns
        self._last: dict[Thread, tuple[int, int]] = {}

    @property
    def is_whole(self) -> bool:
        return self._n_looks >= LEAST_LOOKS and perf_counter() - self._begun >= WINDOW_S

    def look(self, pids: list[int]) -> None:
        """Look at all threads of these processes."""
        self._n_looks += 1
        for thread, is_runnable, executed in threads_of(pids):
            self._first.setdefault(thread, executed)
            self._last[thread] = executed
            self._runnable[thread] += is_runnable

    @property
    def at_work(self) -> list[Thread]:
        """The threads that count."""
        often = (thread for thread, times in self._runnable.items() if times >= RUNNABLE * self._n_looks)
        return [thread for thread in often if self._works(thread)]

    def _works(self, thread: Thread) -> bool:
        (before_ns, turns_before), (after_ns, turns_after) = self._first[thread], self._last[thread]
        return after_ns - before_ns >= TURN_NS * max(1, turns_after - turns_before)


def watch(root: int) -> Found:
    """Look until standard input ends; return the most threads and processes at work in one window, and the mean of threads."""
    found: list[list[Thread]] = []
    while True:
        window = Window()
        while not window.is_whole:
            if is_over():
                counts = [len(threads) for threads in found] or [0]
                n_processes = [len({pid for pid, _ in threads}) for threads in found] or [0]
                return {"at_work": max(counts), "processes": max(n_processes), "mean": sum(counts) / len(counts)}
            window.look([pid for pid in tree(root) if pid != os.getpid()])
        found.append(window.at_work)


def is_over() -> bool:
    """Wait for a moment; say whether standard input has ended."""
    return bool(select.select([sys.stdin], [], [], PAUSE_S)[0])


def tree(root: int) -> Iterator[int]:
    """Yield a process and all that descend from it."""
    yield root
    for task in _names(f"/proc/{root}/task"):
        for child in (_read(f"/proc/{root}/task/{task}/children") or "").split():
            yield from tree(int(child))


def threads_of(pids: list[int]) -> Iterator[tuple[Thread, bool, tuple[int, int]]]:
    """Yield the threads of processes: whether each is in state R; for how many nanoseconds, in how many turns, it has executed."""
    for pid in pids:
        for task in _names(f"/proc/{pid}/task"):
            stat, schedule = (_read(f"/proc/{pid}/task/{task}/{name}") for name in ("stat", "schedstat"))
            if stat and schedule:
                executed_ns, _, turns = map(int, schedule.split())
                yield (pid, int(task)), stat.rpartition(")")[2].split()[0] == "R", (executed_ns, turns)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # it has ended
        return []


def _read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return None


@contextmanager
def watched() -> Iterator[Found]:
    """Yield where what is seen of this process and its descendants stands once the block is over."""
    found: Found = {}
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
        text=True,
    )
    try:
        yield found
    finally:
        output, _ = process.communicate("over\n", timeout=30)
    found.update(json.loads(output))


if __name__ == "__main__":
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, FIRST)
    print(json.dumps(watch(int(sys.argv[1]))))
