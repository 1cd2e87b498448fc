"""A trivial endpoint, while the server has nothing else to do and while all its workers are busy."""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from time import perf_counter

from ..entrants import Sample
from ..quantiles import quantile
from .client import Client
from .load import Load
from .work import name_of

SECONDS, QUICK_SECONDS = 4.0, 2.0
EVERY_S = 0.005
UNTIMED_S = 0.5
SHORTEST_MS, LONGEST_MS = 20, 50
LOADERS_PER_WORKER = 4
BURNER = "import os, sys; os.nice(int(sys.argv[1]))\nwhile True: pass"


async def endpoint_latency(load: Load) -> Sample:
    """Ask for it 200 times a second, first alone, then beside clients who always have work under way."""
    client = Client(load.port)
    await client.open(8)
    seconds = QUICK_SECONDS if load.is_quick else SECONDS
    await _asked(client, UNTIMED_S)
    alone_s, _ = await _asked(client, seconds)
    async with _burning(load) if load.by == "split" else _loaded(load) as n_done:
        await asyncio.sleep(UNTIMED_S)
        begun = len(n_done)
        beside_s, late_s = await _asked(client, seconds)
        n_loads = len(n_done) - begun
    client.close()
    return {
        "slowdown": [quantile(beside_s, 0.99) / quantile(alone_s, 0.99)],
        "p99_s": [quantile(beside_s, 0.99)],
        "p50_s": [quantile(beside_s, 0.5)],
        "unloaded_p99_s": [quantile(alone_s, 0.99)],
        "unloaded_p50_s": [quantile(alone_s, 0.5)],
        "loads_per_second": [n_loads / seconds],
        "late_p99_s": [quantile(late_s, 0.99)],
        "beside_s": beside_s,
        "alone_s": alone_s,
    }


async def _asked(client: Client, seconds: float) -> tuple[list[float], list[float]]:
    """Return how long each answer took, and how late each request was sent, which is the generator's fault."""
    took_s: list[float] = []
    late_s: list[float] = []

    async def ask() -> None:
        answer = await client.get("/trivial")
        if answer.status != 200:
            raise AssertionError(f"a trivial endpoint answers {answer.status}")
        took_s.append(answer.took_s)

    began_s = perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(round(seconds / EVERY_S)):
            due_s = began_s + number * EVERY_S
            await asyncio.sleep(due_s - perf_counter())
            late_s.append(perf_counter() - due_s)
            tasks.create_task(ask())
    return took_s, late_s


@asynccontextmanager
async def _loaded(load: Load) -> AsyncIterator[list[float]]:
    """Have more work asked for than the workers can do, by clients that each wait for their answer."""
    client = Client(load.port)
    took_s: list[float] = []
    numbers = count()
    chance = random.Random(1)

    async def ask_on() -> None:
        while True:
            ms = chance.uniform(SHORTEST_MS, LONGEST_MS)
            answer = await client.get(f"/busy?name={name_of(next(numbers))}&ms={ms:.3f}")
            if answer.status != 200:
                raise AssertionError(f"work is answered with {answer.status}")
            took_s.append(answer.took_s)

    loaders = [asyncio.create_task(ask_on()) for _ in range(LOADERS_PER_WORKER * load.workers)]
    try:
        yield took_s
    finally:
        for loader in loaders:
            loader.cancel()
        for loader in loaders:
            with suppress(asyncio.CancelledError):
                await loader
        client.close()


@asynccontextmanager
async def _burning(load: Load) -> AsyncIterator[list[float]]:
    """Have processes burn as many cores, which have nothing to do with the server."""
    command = [sys.executable, "-c", BURNER, str(load.nice)]
    burners = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(load.workers)]
    try:
        yield []
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
