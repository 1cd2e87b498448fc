"""Threads inside of workers: workers × the threads of their libraries stay within the cores."""

from __future__ import annotations

import os
import posix
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import loky
import psutil
import pytest

import offloop
import scripts
import workloads as w
from offloop.inner_threads import JOBLIB_CORES, PYTHON_CORES, THREAD_VARIABLES, USER_THREADS
from offloop.sensing.host import worker_environment
from offloop.worker.limits import inner_threads, limit_loaded

pytestmark = pytest.mark.anyio

CORES = loky.cpu_count()
WORKERS = 2
SHARE = max(1, CORES // WORKERS)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop: workers know nothing of it."""
    return "asyncio"


@pytest.fixture(scope="module")
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """Workers that share the cores."""
    async with offloop.ParallelSession(strategy="processes", workers=WORKERS, idle_timeout_s=600) as session:
        await w.start_all(session, "processes")
        yield session


@pytest.fixture
async def fresh(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A worker of the test's own, as one of two: what a test does to it is nobody else's."""
    async with offloop.ParallelSession(strategy="processes", workers=WORKERS) as session:
        yield session


# --- what runs in workers ----------------------------------------------------------------------------------------------


def variables() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in (*THREAD_VARIABLES, JOBLIB_CORES)}


def counts() -> dict[str, int]:
    """Return the threads of each library that numpy, scipy and scikit-learn bring."""
    import sklearn.ensemble  # noqa: F401
    import threadpoolctl

    return {os.path.basename(one["filepath"]): one["num_threads"] for one in threadpoolctl.threadpool_info()}


def native_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def multiply() -> int:
    """Multiply matrices large enough for several threads, and return how many native threads that has brought."""
    before = native_threads()
    import numpy as np

    assert "threadpoolctl" not in sys.modules
    a = np.ones((500, 500))
    assert (a @ a)[0, 0] == 500
    return native_threads() - before


class Peak:
    """Notes how many threads and children this process has at most, while its block runs."""

    def __enter__(self) -> Peak:
        self.threads = self.children = 0
        self._start = native_threads()
        self._over = threading.Event()
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        self._first.wait()
        return self

    def _watch(self) -> None:
        myself = psutil.Process()
        while True:
            self.threads = max(self.threads, native_threads() - self._start - 1)
            self.children = max(self.children, len(myself.children(recursive=True)))
            self._first.set()
            if self._over.wait(0.001):
                return

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def fit_forest() -> tuple[int, int, int]:
    """Fit a forest that asks for all cores; return its jobs, and the threads and processes that it brought."""
    import joblib
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier

    X = np.random.default_rng(1).random((2000, 10))
    forest = RandomForestClassifier(40, n_jobs=-1, random_state=1)
    forest.fit(X[:10], X[:10, 0] > 0.5)  # whatever is loaded or started once
    with Peak() as peak:
        forest.fit(X, X[:, 0] > 0.5)
    return joblib.effective_n_jobs(-1), peak.threads, peak.children


def run_joblib() -> tuple[int, set[int], int]:
    """Run joblib on all cores; return its jobs, the processes that did the work, and how many were started."""
    import joblib

    with Peak() as peak:
        pids = set(joblib.Parallel(n_jobs=-1)(joblib.delayed(os.getpid)() for _ in range(8)))
    return joblib.effective_n_jobs(-1), pids - {os.getpid()}, peak.children


def lifted(n: int, load_late: bool) -> list[tuple[dict[str, str | None], dict[str, int]]]:
    """Return variables and counts before, within and after the lifting of limits."""
    seen = [(variables(), {} if load_late else counts())]
    with inner_threads(n):
        seen.append((variables(), counts()))
    seen.append((variables(), counts()))
    return seen


def lifted_under_error(n: int) -> tuple[dict[str, int], dict[str, int], bool]:
    before = counts(), variables()
    with pytest.raises(offloop.TaskCancelled):
        with inner_threads(n):
            raise offloop.TaskCancelled
    return before[0], counts(), variables() == before[1]


def lifted_keeps_what_was_set(n: int) -> tuple[dict[str, int], dict[str, int]]:
    import threadpoolctl

    counts()
    with threadpoolctl.threadpool_limits(3):
        with inner_threads(n):
            within = counts()
        return within, counts()


def lifted_with_users(users: str, n: int) -> tuple[dict[str, str | None], dict[str, int]]:
    counts()
    os.environ[USER_THREADS] = users
    with inner_threads(n):
        return variables(), counts()


def joblib_cores(n: int) -> tuple[int, int, int]:
    import joblib

    before = joblib.effective_n_jobs(-1)
    with inner_threads(n):
        within = joblib.effective_n_jobs(-1)
    return before, within, joblib.effective_n_jobs(-1)


def cores_told() -> dict[str, int | None]:
    """Return how many cores there are by those who are asked for it."""
    import multiprocessing

    import joblib

    return {
        "os": os.cpu_count(),
        "posix": posix.cpu_count(),
        "multiprocessing": multiprocessing.cpu_count(),
        "joblib": joblib.cpu_count(),
        "loky": loky.cpu_count(),
    }


def cores_told_within(n: int, variables: dict[str, str]) -> tuple[dict[str, int | None], dict[str, int | None]]:
    os.environ.update(variables)
    with inner_threads(n):
        within = cores_told()
    return within, cores_told()


def cores_told_again() -> tuple[int | None, int | None, int | None]:
    """Return what is told with the limits applied twice, by what was there before, and without the variables."""
    limit_loaded()
    twice, before = os.cpu_count(), os.cpu_count.__wrapped__()  # type: ignore[attr-defined]
    for name in (JOBLIB_CORES, PYTHON_CORES):
        del os.environ[name]
    return twice, before, os.cpu_count()


def cores_of_a_child() -> tuple[str, int | None]:
    """Return what a process is told that a worker forks, and what it hands on."""
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.write(theirs, str(os.cpu_count()).encode())
        os._exit(0)
    told = int(os.read(ours, 100))
    os.wait()
    return os.environ[PYTHON_CORES], told


def threads_of_trials() -> set[int]:
    """Run Optuna's trials on all cores, and return the threads that they ran in."""
    import optuna

    optuna.logging.disable_default_handler()
    threads = set()
    both = threading.Barrier(SHARE)

    def objective(trial: optuna.Trial) -> float:
        both.wait(10)
        threads.add(threading.get_ident())
        return trial.suggest_float("x", 0, 1)

    optuna.create_study().optimize(objective, n_trials=4 * SHARE, n_jobs=-1)
    return threads


class FakeTorch(ModuleType):
    """Has torch's functions for its threads."""

    def __init__(self, count: int) -> None:
        super().__init__("torch")
        self.set: list[int] = []
        self.count = count

    def get_num_threads(self) -> int:
        return self.count

    def set_num_threads(self, n: int) -> None:
        self.set.append(n)
        self.count = n


def torch_lifted(n: int) -> tuple[list[int], list[int]]:
    torch = sys.modules["torch"] = FakeTorch(16)
    limit_loaded()
    limited, torch.set = torch.set, []
    with inner_threads(n):
        pass
    return limited, torch.set


def torch_below(n: int) -> list[int]:
    torch = sys.modules["torch"] = FakeTorch(n)
    limit_loaded()
    return torch.set


def torch_half_imported() -> list[str]:
    counts()
    sys.modules["torch"] = ModuleType("torch")
    limit_loaded()
    with inner_threads(2):
        return sorted(counts())


def limited_again() -> tuple[dict[str, int], dict[str, int]]:
    """Limit libraries that have come up with too many threads, as if they had been loaded before the worker."""
    import threadpoolctl

    counts()
    with threadpoolctl.threadpool_limits(16):
        before = counts()
        limit_loaded()
        return before, counts()


def lifts_nothing_for_plain_work() -> list[str]:
    limit_loaded()
    with inner_threads(2):
        pass
    return [name for name in ("numpy", "threadpoolctl", "joblib") if name in sys.modules]


def set_on_purpose() -> None:
    """Start a worker with more threads than its share."""
    import threadpoolctl

    counts()
    threadpoolctl.threadpool_limits(SHARE + 2)


# --- as workers start ----------------------------------------------------------------------------------------------------


def test_one_list_of_variables() -> None:
    """What a worker's environment limits is what can be lifted in it."""
    assert {*THREAD_VARIABLES, JOBLIB_CORES} <= worker_environment(4, 2, {}).keys()


async def test_variables(session: offloop.ParallelSession) -> None:
    """Each library finds the worker's share of the cores in its variable."""
    assert await session.run(variables) == dict.fromkeys((*THREAD_VARIABLES, JOBLIB_CORES), str(SHARE))


async def test_libraries_keep_to_the_share(session: offloop.ParallelSession) -> None:
    """Every BLAS and OpenMP that work loads has the worker's share of the cores, and no more native threads."""
    found = await session.run(counts)
    assert any("openblas" in name for name in found)
    assert any("gomp" in name for name in found)
    assert max(found.values()) <= SHARE


async def test_blas_starts_no_threads_beyond_the_share(fresh: offloop.ParallelSession) -> None:
    """Loading numpy and multiplying in a worker brings no more native threads than its share has room for."""
    assert await fresh.run(multiply) <= SHARE - 1


async def test_a_forest_on_all_cores(session: offloop.ParallelSession) -> None:
    """scikit-learn's n_jobs=-1 means the worker's share there: no processes, and no threads beyond it."""
    jobs, threads, children = await session.run(fit_forest)
    assert jobs == SHARE
    assert threads <= (SHARE + 3 if SHARE > 1 else 0)  # a pool of threads has three to manage it
    assert children == 0


@pytest.mark.skipif(SHARE > 1, reason="a share of several cores may be used by several processes")
async def test_joblib_on_all_cores(session: offloop.ParallelSession) -> None:
    """joblib's n_jobs=-1 runs right in the worker, and starts no process."""
    assert await session.run(run_joblib) == (1, set(), 0)


async def test_what_is_loaded_already_is_limited(fresh: offloop.ParallelSession) -> None:
    """Libraries that have more threads than the share are brought down to it."""
    before, after = await fresh.run(limited_again)
    assert set(before.values()) == {16}
    assert set(after.values()) == {SHARE}


async def test_worker_init_may_set_more(anyio_backend: object) -> None:
    """What worker_init sets on purpose holds."""
    async with offloop.ParallelSession(
        strategy="processes", workers=WORKERS, worker_init=set_on_purpose
    ) as session:
        assert set((await session.run(counts)).values()) == {SHARE + 2}


async def test_cores_are_the_share(session: offloop.ParallelSession) -> None:
    """Whoever asks how many cores there are is told the worker's share, through whatever library; this process is not."""
    before = os.cpu_count()
    assert set((await session.run(cores_told)).values()) == {SHARE}
    assert await session.run(os.cpu_count) == SHARE
    assert os.cpu_count() == before
    assert not hasattr(os.cpu_count, "__wrapped__")


async def test_trials_on_all_cores(session: offloop.ParallelSession) -> None:
    """Optuna's n_jobs=-1 means the worker's share."""
    assert len(await session.run(threads_of_trials)) == SHARE


async def test_a_child_is_told_the_share(session: offloop.ParallelSession) -> None:
    """Processes that a worker starts are told its share, by its memory or by the variable that Python 3.13 reads."""
    assert await session.run(cores_of_a_child) == (str(SHARE), SHARE)


async def test_telling_cores_can_be_undone(fresh: offloop.ParallelSession) -> None:
    """What was there before is at hand, and is what is told where the variables are gone; limiting again wraps nothing twice."""
    real = os.cpu_count()
    assert await fresh.run(cores_told_again) == (SHARE, real, real)


LOADED_EARLY = """
import os
if "LOKY_MAX_CPU_COUNT" in os.environ:  # in workers
    import numpy, threadpoolctl
    threadpoolctl.threadpool_limits(16)
"""
ASKING = """
import anyio, offloop

def counts():
    import threadpoolctl
    return sorted({one["num_threads"] for one in threadpoolctl.threadpool_info()})

async def main():
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        print(await session.run(counts))

anyio.run(main)
"""


def test_what_is_loaded_before_a_worker_serves_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that a site's start-up code has loaded and spread keeps to the share all the same."""
    (tmp_path / "sitecustomize.py").write_text(LOADED_EARLY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH")))))
    monkeypatch.delenv(JOBLIB_CORES, raising=False)
    done = scripts.run(ASKING, cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == (f"[{SHARE}]\n", "", 0)


# --- lifting the limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load_late", [False, True], ids=["loaded before", "loaded within"])
async def test_lifting(fresh: offloop.ParallelSession, load_late: bool) -> None:
    """Within, joblib and loaded libraries may use n threads; afterwards all is as it was."""
    before, within, after = await fresh.run(lifted, 3, load_late)
    assert before[0] == after[0] == dict.fromkeys((*THREAD_VARIABLES, JOBLIB_CORES), str(SHARE))
    assert within[0] == {**dict.fromkeys(THREAD_VARIABLES), JOBLIB_CORES: "3"}
    if not load_late:
        assert set(within[1].values()) == {3}
        assert before[1] == after[1]
    assert within[1].keys() == after[1].keys()
    assert set(after[1].values()) == {SHARE}


async def test_lifting_reaches_joblib(fresh: offloop.ParallelSession) -> None:
    """n_jobs=-1 means n within, and the share again afterwards, where the host has that many cores."""
    assert await fresh.run(joblib_cores, CORES) == (SHARE, CORES, SHARE)


@pytest.mark.parametrize(("own", "told"), [({}, 3), ({USER_THREADS: f"{PYTHON_CORES}=2"}, 2)], ids=["ours", "users"])
async def test_lifting_tells_all_cores(fresh: offloop.ParallelSession, own: dict[str, str], told: int) -> None:
    """Within, n cores are told, or as many as the user's own variable says, as far as the library asked doesn't know better."""
    within, after = await fresh.run(cores_told_within, 3, own)
    least = min(CORES, told)
    assert within == {"os": told, "posix": told, "multiprocessing": told, "joblib": least, "loky": least}
    assert set(after.values()) == {SHARE}


async def test_lifting_ends_with_an_error(fresh: offloop.ParallelSession) -> None:
    """A cancellation restores the limits like a return."""
    before, after, has_variables = await fresh.run(lifted_under_error, 3)
    assert before == after
    assert has_variables


async def test_lifting_restores_what_was_set(fresh: offloop.ParallelSession) -> None:
    """Counts that user code had set are back afterwards, rather than the share."""
    within, after = await fresh.run(lifted_keeps_what_was_set, 2)
    assert set(within.values()) == {2}
    assert set(after.values()) == {3}


@pytest.mark.parametrize(
    ("users", "expected", "threads"),
    [
        ("OMP_NUM_THREADS=1 MKL_NUM_THREADS=4", {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "4"}, 1),
        ("OMP_NUM_THREADS=8", {"OMP_NUM_THREADS": "8"}, 3),
        ("OMP_NUM_THREADS=2,1", {"OMP_NUM_THREADS": "2,1"}, 2),
        ("OMP_NUM_THREADS=many", {"OMP_NUM_THREADS": "many"}, 3),
    ],
)
async def test_lifting_respects_the_user(
    fresh: offloop.ParallelSession, users: str, expected: dict[str, str], threads: int
) -> None:
    """Variables of the user's own are as the user set them, and a lower OMP_NUM_THREADS holds for what is loaded."""
    within, found = await fresh.run(lifted_with_users, users, 3)
    assert {name: value for name, value in within.items() if value} == {**expected, JOBLIB_CORES: "3"}
    assert set(found.values()) == {threads}


async def test_torch(fresh: offloop.ParallelSession) -> None:
    """torch's own count follows: down to the share, up to n, and back."""
    assert await fresh.run(torch_lifted, 3) == ([SHARE], [3, SHARE])


async def test_a_lower_count_of_torch_stays(fresh: offloop.ParallelSession) -> None:
    """What uses less than the share is left alone."""
    assert await fresh.run(torch_below, SHARE) == []


async def test_a_torch_that_is_being_imported(fresh: offloop.ParallelSession) -> None:
    """A module that isn't whole yet is no obstacle."""
    assert await fresh.run(torch_half_imported)


async def test_plain_work_loads_nothing(fresh: offloop.ParallelSession) -> None:
    """Where no library with threads is loaded, limits cost no import."""
    assert await fresh.run(lifts_nothing_for_plain_work) == []
