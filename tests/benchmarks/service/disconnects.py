"""Clients that go away while a worker is at work for them."""

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from time import perf_counter

import psutil

from ..entrants import Sample
from ..families import family
from ..faults.page import page_at
from .client import Client, Connection
from .load import Load
from .work import EXECUTED, WORDS, name_of

CLIENTS, QUICK_CLIENTS = 1_000, 100
FIRST_SHARE = 0.1  # of the clients, until everything is in use
LONGEST_WAIT_S = 0.010  # in mid-work
BEGIN_LIMIT_S = 20.0
PEEK_S = 0.0005
WATCHED_S = 1.0
LOOK_S = 0.005
TICK_S = 0.010  # as finely as the system counts processor time


async def disconnects(load: Load) -> Sample:
    """Go away a thousand times, in as many places at a time as there are workers; then look who is still busy."""
    client = Client(load.port)
    words = page_at(load.page)
    n_clients = QUICK_CLIENTS if load.is_quick else CLIENTS
    n_first = round(FIRST_SHARE * n_clients)
    await _come_and_go(load, words, range(n_first))
    before = json.loads((await client.get("/held")).body)
    began_s = perf_counter()
    await _come_and_go(load, words, range(n_first, n_clients))
    last_s = perf_counter()
    idle_s, after_s = await _watched(family(load.pid)[:-1], last_s)
    after = json.loads((await client.get("/held")).body)
    client.close()
    executed = [words[WORDS * number + EXECUTED] for number in range(n_clients)]
    return {
        "idle_s": [idle_s],
        "busy_after_100_ms_s": [after_s],
        "begun": [sum(map(bool, executed))],
        "twice": [sum(times > 1 for times in executed)],
        **{f"more_{kind}": [after[kind] - before[kind]] for kind in before},
        "clients_per_second": [(n_clients - n_first) / (last_s - began_s)],
    }


async def _come_and_go(load: Load, words: memoryview, numbers: Sequence[int]) -> None:
    """Have so many clients come and go, and return when the last one has gone."""
    left, chance = iter(numbers), random.Random(1)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(load.workers):
            tasks.create_task(_come_and_go_by_turns(load, words, left, chance))


async def _come_and_go_by_turns(
    load: Load, words: memoryview, numbers: Iterator[int], chance: random.Random
) -> None:
    for number in numbers:
        connection = await Connection.open(load.port)
        connection.ask(f"/endless?name={name_of(number)}")
        async with asyncio.timeout(BEGIN_LIMIT_S):
            while not words[WORDS * number + EXECUTED]:
                await asyncio.sleep(PEEK_S)
        await asyncio.sleep(chance.uniform(0, LONGEST_WAIT_S))
        (connection.abort if number % 2 else connection.close)()


async def _watched(workers: Sequence[psutil.Process], last_s: float) -> tuple[float, float]:
    """Return when the workers last used their processors, and for how long after a tenth of a second."""
    looks = []
    while perf_counter() < last_s + WATCHED_S:
        looks.append((perf_counter() - last_s, sum(map(_cpu_s, workers))))
        await asyncio.sleep(LOOK_S)
    end_s = looks[-1][1]
    idle_s = next(at_s for at_s, cpu_s in looks if end_s - cpu_s < TICK_S / 2)
    after_s = next(end_s - cpu_s for at_s, cpu_s in looks if at_s >= 0.1)
    return idle_s, after_s


def _cpu_s(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
