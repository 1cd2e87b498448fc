"""A program that sends arrays both ways for ever: ``python -m tests.benchmarks.transport.killed_program``."""

import inspect
from functools import partial
from typing import Any

import anyio
import numpy as np

import offloop

ITEM_BYTES = 4_000_000
BOUND_BYTES = 16_000_000


def added(bound: Any, shared: Any, item: Any) -> Any:
    """Return an array as large as the item, made of all three."""
    return item + bound[: len(item)] + shared[-len(item) :]


async def main() -> None:
    """Say when the first results are right; end where any is wrong."""
    items = [np.full(ITEM_BYTES // 8, float(at)) for at in range(6)]
    async with offloop.ParallelSession(workers=2, strategy="processes") as session:
        is_first = True
        while True:
            bound, shared = np.random.default_rng().random((2, BOUND_BYTES // 8))
            fn = partial(added, bound, await _shared(session, shared))
            results = await session.run_parallel(fn, items)
            if not all(map(np.array_equal, results, [added(bound, shared, item) for item in items])):
                raise AssertionError("wrong results")
            if is_first:
                print("ready", flush=True)
                is_first = False


async def _shared(session: Any, value: Any) -> Any:
    if not hasattr(session, "share"):
        return value
    shared = session.share(value)
    return await shared if inspect.isawaitable(shared) else shared


if __name__ == "__main__":
    anyio.run(main)
