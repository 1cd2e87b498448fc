"""A program that runs one canonical workload in a process that has done nothing yet.

``python -m tests.benchmarks.canonical.program offloop|serial NAME [quick]`` prints the seconds from before
``import offloop`` to the results; scikit-learn and the data are there before, as in a program that has read its data.
"""

import json
import sys
from time import perf_counter
from typing import Any

import anyio
from anyio import to_thread

from .tasks import TASKS, Task


async def ours(task: Task) -> list[Any]:
    """Let offloop choose."""
    import offloop

    return await offloop.run_parallel(task.fn, task.items)


async def serial(task: Task) -> list[Any]:
    """One after another in a thread."""
    return await to_thread.run_sync(lambda: [task.fn(item) for item in task.items])


async def main(who: str, name: str, *flags: str) -> None:
    """Run the workload and tell the time."""
    task = TASKS[name]("quick" in flags)
    began_s = perf_counter()
    results = await (ours if who == "offloop" else serial)(task)
    call_s = perf_counter() - began_s
    assert len(results) == len(task.items)
    print(json.dumps({"call_s": call_s}))


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
