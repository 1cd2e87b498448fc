"""Maps a function over items that offloop decides on, in a process that has done nothing yet."""

import json
import sys
from time import perf_counter

import anyio


def spin(turns: int) -> int:
    """Hold the GIL for so many turns of a loop."""
    total = 0
    for turn in range(turns):
        total += turn & 7
    return total


async def main(turns: int, count: int) -> None:
    """Time everything from the import of offloop to the results."""
    began_s = perf_counter()
    from offloop import run_parallel

    import_s = perf_counter() - began_s
    results = await run_parallel(spin, [turns] * count)
    call_s = perf_counter() - began_s
    assert results == [spin(turns)] * count
    print(json.dumps({"call_s": call_s, "import_s": import_s}))


if __name__ == "__main__":
    anyio.run(main, *map(int, sys.argv[1:]))
