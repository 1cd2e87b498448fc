"""The figure ``executor``: tiny calls through `concurrent.futures`."""

from concurrent.futures import Executor, wait
from time import perf_counter

from anyio import to_thread

from ..contenders.base import Contender
from ..contenders.executors import OnExecutor
from ..contenders.ours import Offloop
from ..entrants import Assignment, Sample
from ..workloads import add_one

WAYS = {"one by one": 2_000, "at once": 10_000, "map, 100 a chunk": 10_000}  # with how many calls
QUICKER = 5


async def executor(contender: Contender, assignment: Assignment) -> Sample:
    """Submit all calls, or map over them, from a thread without an event loop."""
    way = assignment.entrant.way
    n_calls = WAYS[way] // (QUICKER if assignment.quick else 1)
    if isinstance(contender, Offloop):
        with contender.session.executor() as pool:
            return await to_thread.run_sync(_timed, pool, way, n_calls)
    assert isinstance(contender, OnExecutor)
    return await to_thread.run_sync(_timed, contender.executor, way, n_calls)


def _timed(pool: Executor, way: str, n_calls: int) -> Sample:
    pool.submit(add_one, 0).result()
    began_s = perf_counter()
    if way == "one by one":
        results = [pool.submit(add_one, number).result() for number in range(n_calls)]
    elif way == "at once":
        futures = [pool.submit(add_one, number) for number in range(n_calls)]
        wait(futures)
        results = [future.result() for future in futures]
    else:
        results = list(pool.map(add_one, range(n_calls), chunksize=100))
    wall_s = perf_counter() - began_s
    if results != list(range(1, n_calls + 1)):
        raise AssertionError("wrong results")
    return {"call_s": [wall_s / n_calls]}
