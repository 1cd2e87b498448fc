"""A server that is told to end while requests are under way."""

import asyncio
import os
import random
import signal
from itertools import count
from time import perf_counter

from ..entrants import Sample
from ..faults.page import page_at
from .client import Connection
from .load import Load
from .work import ENTERED, WORDS, name_of

CLIENTS = 8
WORK_MS = 40
EARLIEST_S, LATEST_S = 0.15, 0.6
LIMIT_S = 30.0


async def sigterm(load: Load) -> Sample:
    """Have clients ask on and on, kill the server's process gently, and hold answers against what it had let in."""
    clients = _Clients(load)
    words = page_at(load.page)
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
        for _ in range(CLIENTS):
            tasks.create_task(clients.ask_on())
        await asyncio.sleep(random.uniform(EARLIEST_S, LATEST_S))
        before = set(_entered(words, clients.n_asked))
        under_way = before - set(clients.statuses)
        killed_s = perf_counter()
        os.kill(load.pid, signal.SIGTERM)
    entered = _entered(words, clients.n_asked)
    return {
        "lost": [sum(number not in clients.statuses for number in entered)],
        "cut": [sum(clients.statuses.get(number, 200) != 200 for number in before)],
        "under_way": [len(under_way)],
        "refused": [sum(status == 503 for status in clients.statuses.values())],
        "last_answer_s": [clients.last_answer_s - killed_s],
        "killed_at": [killed_s],
    }


def _entered(words: memoryview, n_asked: int) -> list[int]:
    return [number for number in range(n_asked) if words[WORDS * number + ENTERED]]


class _Clients:
    """Those who ask, each the next time when it is answered, until nobody answers any more.

    Attributes:
        statuses: What each request was answered with.
        n_asked: How many requests were sent, or were to be.
        last_answer_s: When the last answer came.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._numbers = count()
        self.statuses: dict[int, int] = {}
        self.n_asked = 0
        self.last_answer_s = 0.0

    async def ask_on(self) -> None:
        """Ask on one connection after the other."""
        connection: Connection | None = None
        while True:
            try:
                if connection is None or not connection.is_open:
                    connection = await Connection.open(self._load.port)
                number = next(self._numbers)
                self.n_asked = number + 1
                answer = await connection.get(f"/busy?name={name_of(number)}&ms={WORK_MS}")
            except ConnectionRefusedError:
                return
            except ConnectionError:  # if it was let in, it counts as lost
                connection = None
                continue
            self.statuses[number] = answer.status
            self.last_answer_s = perf_counter()
