"""Calls that may block, each in a thread of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

R = TypeVar("R")

_no_limit: RunVar[anyio.CapacityLimiter] = RunVar("offloop_no_limit")


async def call_blocking(work: Callable[[], R], *, abandon_on_cancel: bool = False) -> R:
    """Call in a thread, beyond anyio's limit: that is the program's, and one that is left counts until it ends.

    Args:
        work: What may block.
        abandon_on_cancel: Whether to leave it to end by itself when cancelled; else that waits for it.
    """
    try:
        no_limit = _no_limit.get()
    except LookupError:
        no_limit = anyio.CapacityLimiter(math.inf)
        _no_limit.set(no_limit)
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=abandon_on_cancel, limiter=no_limit)
