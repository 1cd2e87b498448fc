"""Five times as many requests as can be served."""

import asyncio
import sys
from collections import Counter
from time import perf_counter

from ..entrants import Sample
from ..faults.page import page_at
from ..quantiles import quantile
from .client import Answer, Client
from .load import Load
from .work import EXECUTED, WORDS, name_of

SECONDS, QUICK_SECONDS = 30.0, 6.0
SERVICE_MS = 20
TIMES = 5  # what the workers could do
CONNECTIONS = 100
ANSWER_LIMIT_S = 20.0


async def overload(load: Load) -> Sample:
    """Send requests at a fixed rate, whatever becomes of those before; each is to be answered, once."""
    client = Client(load.port)
    await client.open(CONNECTIONS)
    answers: dict[int, Answer] = {}
    late_s: list[float] = []
    n_wrong = 0

    async def ask(number: int) -> None:
        nonlocal n_wrong
        async with asyncio.timeout(ANSWER_LIMIT_S):
            answer = await client.get(f"/busy?name={name_of(number)}&ms={SERVICE_MS}")
        answers[number] = answer
        n_wrong += answer.status == 200 and answer.body.split()[:1] != [name_of(number).encode()]

    seconds = QUICK_SECONDS if load.is_quick else SECONDS
    rate = TIMES * load.workers * 1e3 / SERVICE_MS
    n_requests = round(seconds * rate)
    began_s = perf_counter()
    asked = []
    for number in range(n_requests):
        due_s = began_s + number / rate
        await asyncio.sleep(due_s - perf_counter())
        late_s.append(perf_counter() - due_s)
        asked.append(asyncio.create_task(ask(number)))
    await asyncio.wait(asked)
    wall_s = perf_counter() - began_s
    failures = Counter(type(task.exception()).__name__ for task in asked if task.exception())
    if failures:
        print(f"failed: {dict(failures)}", file=sys.stderr)
    client.close()
    return _sample(load, answers, n_requests, wall_s) | {
        "wrong": [n_wrong],
        "twice": [client.n_unasked + _executed_twice(load, n_requests)],
        "late_p99_s": [quantile(late_s, 0.99)],
    }


def _sample(load: Load, answers: dict[int, Answer], n_requests: int, wall_s: float) -> Sample:
    words = page_at(load.page)
    served = [answer.took_s for answer in answers.values() if answer.status == 200]
    service = [float(answer.body.split()[1]) for answer in answers.values() if answer.status == 200]
    refused = [answer for answer in answers.values() if answer.status == 503]
    no_hint = sum(b"\r\nretry-after:" not in answer.head for answer in refused)
    n_executed = sum(words[WORDS * number + EXECUTED] for number in range(n_requests))
    return {
        "accepted_p99_s": [quantile(served, 0.99)],
        "waited_p99_s": [
            quantile([took_s - own_s for took_s, own_s in zip(served, service, strict=True)], 0.99)
        ],
        "service_p99_s": [quantile(service, 0.99)],
        "refused_p99_s": [quantile([answer.took_s for answer in refused], 0.99)],
        "lost": [n_requests - len(served) - len(refused)],
        "served_per_second": [len(served) / wall_s],
        "wasted": [n_executed - len(served)],
        "no_retry_after": [no_hint],
        "accepted_p50_s": [quantile(served, 0.5)],
        "refused_p50_s": [quantile([answer.took_s for answer in refused], 0.5)],
        "accepted_s": served,
        "refused_s": [answer.took_s for answer in refused],
    }


def _executed_twice(load: Load, n_requests: int) -> int:
    words = page_at(load.page)
    return sum(words[WORDS * number + EXECUTED] > 1 for number in range(n_requests))
