"""A program with busy or idle workers, to be killed.

Run as ``python -c "from tests.benchmarks.faults.parent_program import main; main()" CONTENDER STATE PATH WORKERS``: some
libraries run a main module anew in their workers, where it is no part of its package.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import numpy as np

from ..contenders import build
from ..contenders.base import Contender
from ..contenders.ours import Offloop
from ..entrants import Entrant
from . import work

ARRAY_BYTES = 32_000_000


def main() -> None:
    """Play what ``sys.argv`` says."""
    name, state, path, workers = sys.argv[1:]
    anyio.run(play, name, state, path, int(workers), backend="trio" if name == "trio-parallel" else "asyncio")


async def play(name: str, state: str, path: str, n_workers: int) -> None:
    """Have every worker sign the file, then leave it as it is to be found; idle, the program itself signs last."""
    async with build(Entrant(contender=name), workers=n_workers) as contender:
        if state == "idle":
            await _on_each(contender, work.sign_and_end, [(path,)] * n_workers)
            work.sign(path)
            await anyio.sleep_forever()
        elif state == "arrays":
            arrays = [np.full(ARRAY_BYTES // 8, float(worker)) for worker in range(n_workers)]
            if isinstance(contender, Offloop):
                shared = await contender.share(np.ones(ARRAY_BYTES // 8))
                await _on_each(contender, work.sign_and_loop, [(path, array, shared) for array in arrays])
            await _on_each(contender, work.sign_and_loop, [(path, array) for array in arrays])
        else:
            fn = {"loop": work.sign_and_loop, "gil": work.sign_and_burn_in_c}[state]
            await _on_each(contender, fn, [(path,)] * n_workers)


async def _on_each(contender: Contender, fn: Callable[..., object], calls: Sequence[tuple[Any, ...]]) -> None:
    """Make as many calls as there are workers, at the same time."""
    if (
        contender.__class__.__name__ == "Joblib"
    ):  # it has no single calls: they would be made one after the other
        await contender.map(work.Spread(fn), calls)
        return
    async with anyio.create_task_group() as tasks:
        for arguments in calls:
            tasks.start_soon(contender.call, fn, *arguments)
