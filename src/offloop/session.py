"""A session: the entrances to its workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, Unpack

from .call_steering import CallSteering
from .maps import Maps
from .options import (
    RUN_OPTIONS,
    RunOptions,
)
from .wire.frames import Flag

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class ParallelSession(Maps):
    """Worker processes and threads for CPU-bound work, held for as long as the context lasts.

    Use it as an async context manager. Nothing starts before it is needed. Leaving the context stops what is under way,
    ends the workers and returns when they are gone; `drain` before that lets what is under way finish. A session serves
    any number of concurrent runs, from one event loop or several.

    Args:
        config: The settings; see `ParallelConfig`.
        **settings: Settings that replace those of the config.

    Attributes:
        config: The settings as they hold.
        sources: Where each of them comes from: a keyword, the config, the environment or the default.
        portal: An event loop in a thread of its own, for callers that have none; started by its first use.

    Raises:
        SettingError: A setting, or a variable of the environment, has a value that can't work.
        SettingTypeError: A setting does not exist, or its value is of the wrong type.
    """

    async def run(self, fn: Callable[[*Ts], R], *args: *Ts, **options: Unpack[RunOptions]) -> R:
        """Call ``fn(*args)`` off the loop and return what it returns.

        Cancelling stops the call, and returns when it has stopped: it ends at its next `checkpoint`, else it is interrupted,
        and where that doesn't help its worker is killed after ``grace_s``.

        Args:
            fn: A plain function; keyword arguments by `functools.partial` or `call`.
            *args: Its arguments. They are sent as they are at the time of the call; fn must not change them.
            **options: See `CallOptions`.

        Returns:
            What fn returned.

        Raises:
            Exception: What fn raised, as itself, with its remote traceback in its notes.
            AsyncFunctionError: fn is async.
            UnpicklableError: fn, an argument or the result can't travel.
            WorkerCrashed: Its worker died, more often than ``retries`` allows.
            ItemTimeout: It executed for longer than ``timeout_s``.
            Overloaded: The session has limits, and it is beyond one; nothing of it was executed.
            SessionClosedError: The session isn't open.
        """
        await self._records.knock(fn, options.get("label"))
        plan = self._plans.of(fn, options, RUN_OPTIONS)
        job = plan.job or self._plans.job(fn, fn, Flag.STAR, plan.options)
        known = self._planner.look_at(fn, args, plan.options)
        value: R = await CallSteering(self._planner, known, self._venues, self._records).execute(job, args)
        return value

