"""One map on two workers through offloop, from a cold start."""

import math

import anyio

import offloop


async def main() -> None:
    roots = await offloop.run_parallel(math.sqrt, range(8), strategy="processes", workers=2)
    assert roots == [math.sqrt(x) for x in range(8)]


if __name__ == "__main__":
    anyio.run(main)
