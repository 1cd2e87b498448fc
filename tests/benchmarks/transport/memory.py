"""What the workers of this process hold in memory, a page that several hold counted once."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from time import perf_counter, sleep
from types import TracebackType
from typing import Self

import psutil

LEAST_PAUSE_S = 0.005
STOPPING_S = 0.1  # at most; a process in the middle of a system call may take its time


class Watch:
    """Reads the proportional set sizes of all child processes, from a thread, until the context is left.

    Args:
        share: How much of the time may go into reading.

    Attributes:
        idle: Their sum before, in bytes.
        peak: The largest sum seen.
    """

    def __init__(self, share: float) -> None:
        self._pause = (1 - share) / share
        self.idle = self.peak = held()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @property
    def above_idle(self) -> int:
        return self.peak - self.idle

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        took_s = 0.0
        while not self._over.wait(max(LEAST_PAUSE_S, took_s * self._pause)):
            began_s = perf_counter()
            self.peak = max(self.peak, held())
            took_s = perf_counter() - began_s


def held() -> int:
    """Sum up the proportional set sizes of all processes below this one.

    They stand still meanwhile: a page that a second process maps between two readings would count one and a half
    times, and added up to 25 % for joblib.
    """
    children = psutil.Process().children(recursive=True)
    with _stopped(children):
        return sum(_pss(child.pid) for child in children)


@contextmanager
def _stopped(processes: Sequence[psutil.Process]) -> Iterator[None]:
    try:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        deadline_s = perf_counter() + STOPPING_S
        while any(map(_runs, processes)) and perf_counter() < deadline_s:
            sleep(0.0005)
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _pss(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):  # gone meanwhile
        return 0
