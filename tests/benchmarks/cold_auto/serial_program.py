"""Maps a function over items in a thread, in a process that has done nothing yet."""

import json
import sys
from time import perf_counter

import anyio
from anyio import to_thread


def spin(turns: int) -> int:
    """Hold the GIL for so many turns of a loop."""
    total = 0
    for turn in range(turns):
        total += turn & 7
    return total


async def main(turns: int, count: int) -> None:
    """Time everything from before the thread starts to the results."""
    began_s = perf_counter()
    results = await to_thread.run_sync(lambda: [spin(turns) for _ in range(count)])
    call_s = perf_counter() - began_s
    assert results == [spin(turns)] * count
    print(json.dumps({"call_s": call_s}))


if __name__ == "__main__":
    anyio.run(main, *map(int, sys.argv[1:]))
