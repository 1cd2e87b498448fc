"""More callers than can be served before they lose patience."""

from time import perf_counter

import anyio

from ..contenders.base import Contender
from ..entrants import Assignment, Sample
from ..faults.page import new_page
from ..faults.pools import opened
from .work import EXECUTED, WORDS, counted_wait, name_of

CALLERS = 1_000
CALL_S = 0.020
PATIENCE_S = 1.0
QUIET_S = 0.5  # nothing has begun for so long: nothing will
QUIET_LIMIT_S = 40.0
ANSWER_LIMIT_S = 40.0
LAST = CALLERS  # the call after the storm
WARMING = CALLERS + 1
WARMING_CALLS_PER_WORKER = 4


async def giving_up(assignment: Assignment) -> Sample:
    """Let them all call at once, each for a second; then make one more call, and count what was executed for nobody."""
    with new_page(WORDS * (CALLERS + 2)) as (path, words):
        async with opened(assignment, n_workers=assignment.workers) as contender:
            async with anyio.create_task_group() as tasks:
                for _ in range(WARMING_CALLS_PER_WORKER * assignment.workers):
                    tasks.start_soon(contender.call, counted_wait, path, name_of(WARMING), CALL_S)
            storm = _Storm(contender, path)
            await storm.rage()
            with anyio.fail_after(ANSWER_LIMIT_S):
                await contender.call(counted_wait, path, name_of(LAST), CALL_S)
            recovery_s = perf_counter() - storm.over_s
            await _quiet(words)
    executed = [words[WORDS * number + EXECUTED] for number in range(CALLERS)]
    return {
        "useful": [len(storm.served)],
        "wasted": [sum(executed) - len(storm.served)],
        "recovery_s": [recovery_s],
        "refused": [storm.n_refused],
        "last_return_s": [storm.last_return_s],
        "twice": [sum(times > 1 for times in executed)],
    }


class _Storm:
    """All callers at once.

    Attributes:
        served: Who had an answer in time.
        n_refused: How many had an error in time.
        over_s: When the last of them lost patience.
        last_return_s: How much later the last of them had control again.
    """

    def __init__(self, contender: Contender, path: str) -> None:
        self._contender, self._path = contender, path
        self.served: set[int] = set()
        self.n_refused = 0
        self.over_s = self.last_return_s = 0.0

    async def rage(self) -> None:
        """Return when nobody waits any more."""
        async with anyio.create_task_group() as tasks:
            for number in range(CALLERS):
                tasks.start_soon(self._caller, number)
        self.last_return_s = perf_counter() - self.over_s

    async def _caller(self, number: int) -> None:
        self.over_s = perf_counter() + PATIENCE_S
        with anyio.move_on_after(PATIENCE_S):
            try:
                await self._contender.stoppable(counted_wait, self._path, name_of(number), CALL_S)
            except Exception:
                self.n_refused += 1
            else:
                self.served.add(number)


async def _quiet(words: memoryview) -> None:
    """Wait until nothing is executed any more."""
    executed, since_s = sum(words), perf_counter()
    ends_s = since_s + QUIET_LIMIT_S
    while perf_counter() - since_s < QUIET_S and perf_counter() < ends_s:
        await anyio.sleep(0.05)
        if sum(words) != executed:
            executed, since_s = sum(words), perf_counter()
