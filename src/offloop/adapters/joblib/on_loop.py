"""Telling of a joblib call that blocks an event loop."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

from ...events import Guidance, WorkersCapped
from ...telemetry import emit


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopHeld(Guidance):
    """Guidance once per process: a joblib call was made on an event loop's own thread, which stands still until it is over."""

    level = WorkersCapped.level

    topic: str = "joblib"
    advice: str = "a joblib call blocks the event loop that it is made on; write await session.run_joblib(lambda: ...)"


_told: set[type[Guidance]] = set()


def tell_if_on_loop() -> None:
    """Tell, once per process, if this is an event loop's thread."""
    if LoopHeld not in _told and is_on_loop():
        _told.add(LoopHeld)
        emit(LoopHeld())


def is_on_loop() -> bool:
    """Whether an event loop of asyncio's or trio runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        trio = sys.modules.get("trio")
        return trio is not None and bool(trio.lowlevel.in_trio_run())
    return True
