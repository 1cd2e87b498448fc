"""A contender of one scenario alone: started for it, and ended however badly it went."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Unpack

import psutil

from offloop.settings import Settings

from ..contenders import build
from ..contenders.base import Contender
from ..contenders.ours import Offloop
from ..entrants import Assignment, Role
from ..families import family, kill_all
from ..remains import command, runs

HELPERS = ("resource_tracker", "forkserver")  # what libraries start besides workers


class ColdOffloop(Offloop):
    """Ours, with its workers started by the first calls, as peers do it."""

    async def start(self) -> None:
        """Leave it to the first call."""


def fewest(assignment: Assignment) -> int:
    """Return how many workers leave no choice of worker: joblib alone makes do without any if it may have one only."""
    return 2 if assignment.entrant.contender == "joblib" else 1


@asynccontextmanager
async def opened(
    assignment: Assignment, *, n_workers: int, is_cold: bool = False, **settings: Unpack[Settings]
) -> AsyncIterator[Contender]:
    """Start the contender, ours with these settings; after a failure kill its workers first, lest ending it hangs."""
    entrant = assignment.entrant
    if entrant.role is Role.OURS:
        maker = ColdOffloop if is_cold else Offloop
        contender: Contender = maker(entrant, workers=n_workers, settings=settings)
    else:
        contender = build(entrant, workers=n_workers)
    async with contender:
        try:
            yield contender
        except BaseException:
            kill_all(live_workers())
            raise


def live_workers() -> list[psutil.Process]:
    """Return the processes that this one has started, themselves or through others, and that run."""
    children = family(os.getpid())[:-1]
    return [
        child for child in children if runs(child) and not any(word in command(child) for word in HELPERS)
    ]
