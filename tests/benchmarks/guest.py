"""The process that one entrant lives in: it takes a sample whenever its host asks for one.

A process of its own keeps one library's threads, patches and exit hooks out of another's time.
One line on standard input asks for a sample; the answer is one line of JSON.
"""

import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TextIO

import anyio

from .contenders import build
from .contenders.base import Contender
from .entrants import Assignment, Sample
from .scenarios import scenario_from_scratch, scenario_of
from .split import split
from .workloads import rouse

WARMING_CALLS_PER_WORKER = 4
WARMING_CALL_MS = 2


def main() -> None:
    """Play the assignment in ``sys.argv[1]`` until standard input ends."""
    assignment = Assignment.from_json(sys.argv[1])
    backend = assignment.entrant.backend
    anyio.run(
        serve,
        assignment,
        sys.stdin,
        claim_stdout(),
        backend="trio" if backend == "trio" else "asyncio",
        backend_options={"use_uvloop": True} if backend == "uvloop" else {},
    )


def claim_stdout() -> TextIO:
    """Keep standard output for answers alone; what anything else prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


async def serve(assignment: Assignment, requests: TextIO, answers: TextIO) -> None:
    """Answer each request; waiting for the next one may hold the loop, for nothing else runs then."""
    try:
        async with opened(assignment) as take_sample:
            print(json.dumps({}), file=answers)
            for _ in requests:
                sample, remark = await take_sample()
                rounded = {key: [round(v, 7) for v in values] for key, values in sample.items()}
                print(json.dumps({"sample": rounded, "remark": remark}), file=answers)
    except Exception as error:
        print(json.dumps({"error": described(error)}), file=answers)
        raise


@asynccontextmanager
async def opened(assignment: Assignment) -> AsyncIterator[Callable[[], Awaitable[tuple[Sample, str]]]]:
    """Start the contender and yield what takes one sample of it, and says what it decided."""
    if assignment.entrant.contender == "split":

        async def take_sample() -> tuple[Sample, str]:
            return await split(assignment), ""

        yield take_sample
        return
    if assignment.from_scratch:

        async def take_sample_from_scratch() -> tuple[Sample, str]:
            return await scenario_from_scratch(assignment.scenario)(assignment), ""

        yield take_sample_from_scratch
        return
    scenario = scenario_of(assignment.scenario)
    async with build(assignment.entrant, workers=assignment.workers) as contender:

        async def take_contenders_sample() -> tuple[Sample, str]:
            await warm(contender, assignment)
            gc.collect()
            sample = await scenario(contender, assignment)
            remark = contender.remark
            contender.rest()
            return sample, remark

        yield take_contenders_sample


async def warm(contender: Contender, assignment: Assignment) -> None:
    """Have every worker up and awake before the clock starts."""
    async with anyio.create_task_group() as tasks:
        for _ in range(WARMING_CALLS_PER_WORKER * assignment.workers):
            tasks.start_soon(contender.call, rouse, WARMING_CALL_MS * assignment.iterations_per_ms)


def described(error: BaseException) -> str:
    """The innermost single cause, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".splitlines()[0]
