"""Who may come in: a call that is one too many, or would wait for too long, is refused at once."""

from __future__ import annotations

import math
import threading
from time import monotonic
from typing import Any, Protocol

import anyio

from .errors import Overloaded
from .events import SessionOverloaded
from .explaining import printable
from .options import CallOptions
from .pool.lease import PooledBackend
from .settings import ParallelConfig
from .strategies.base import ORDINARY, Backend, Place
from .telemetry import emit

_TELL_S = 1.0  # refusals are told of at most this often
_LEAST_S = 0.1  # nobody is told to come back sooner: a guess
# A call that would be let in only to be refused while it waits has waited in vain: it is refused from so much of its limit on.
_NEARLY = 0.8  # a guess: workers beside others take some 20 % longer than was learned
# A caller who gives up gives way by itself, so one who may just make it is let in: the estimate must be this far off.
_SURELY = 2.0  # a guess


class Caller(Protocol):
    """What is known of somebody who asks to come in.

    Attributes:
        name: The function's name.
        label: The call's own, as the call gives it.
        n_bytes: About how many bytes of arguments it brings.
    """

    name: str
    label: str | None
    n_bytes: float


class Admission:
    """Refuses calls beyond the limits of a session, and tells of it.

    Args:
        config: The session's settings.
        workers: Where most of them wait.

    Attributes:
        refused: How many calls were refused.
        most: How many calls may wait or execute; None for any number.
        most_bytes: How many bytes of arguments these may bring; likewise.
        is_limited: Whether there is a limit to the number of calls or of their bytes.
    """

    def __init__(self, config: ParallelConfig, workers: Backend) -> None:
        self.refused = 0
        self.most, self.most_bytes = config.max_pending, config.max_pending_bytes
        self.is_limited = self.most is not None or self.most_bytes is not None
        self._workers = workers
        self._lock = threading.Lock()
        self._told_at, self._n_untold = -math.inf, 0

    def place(
        self, caller: Caller, options: CallOptions, backend: PooledBackend[Any], flow: object, cost_s: float, pending: int
    ) -> Place:
        """Return a call's place in line for the lanes of a backend, unless it would wait there for too long.

        The deadline of the caller's own cancel scope goes with it: no lane is given to it after that. Where there are limits,
        it is refused at once if it can't begin before; else its caller waits until then, as for anything else.

        Args:
            caller: Who asks.
            options: Of the call.
            backend: Where it is to execute.
            flow: Whose share its turns count against.
            cost_s: Seconds that a turn of it is estimated to take.
            pending: Calls that wait or execute.

        Raises:
            Overloaded: It would wait for longer than it may, or than its caller will.
        """
        is_interactive = options.priority == "interactive"
        until, now = math.inf, monotonic()
        if options.max_wait_s is not None:
            if _wait_s(backend, is_interactive) > _NEARLY * options.max_wait_s:
                raise self.refuse(caller, "max_wait_s", pending, options.max_wait_s)
            until = now + options.max_wait_s
        if backend.backlog_s:
            left_s = anyio.current_effective_deadline() - anyio.current_time()
            has_limits = (self.is_limited or options.max_wait_s is not None) and left_s > -math.inf  # else cancelled already
            if has_limits and _wait_s(backend, is_interactive) > _SURELY * max(0.0, left_s):
                raise self.refuse(caller, "deadline", pending, max(0.0, left_s))
            until = min(until, now + left_s)
        if until == math.inf and flow is None and is_interactive and cost_s <= ORDINARY.cost_s:
            return ORDINARY
        return Place(flow, cost_s, is_interactive, until)

    def refuse(self, caller: Caller, why: str, pending: int, limit: float) -> Overloaded:
        """Count a refusal, tell of it unless one was told of just now, and return the error for the caller."""
        retry_after_s = max(_LEAST_S, self._workers.backlog_s / max(1, self._workers.limit))
        with self._lock:
            self.refused += 1
            self._n_untold += 1
            now = monotonic()
            n_refused = self._n_untold if now - self._told_at >= _TELL_S else 0
            if n_refused:
                self._told_at, self._n_untold = now, 0
        if n_refused:
            label = None if caller.label is None else printable(caller.label)
            emit(
                SessionOverloaded(
                    fn=caller.name,
                    why=why,
                    pending=pending,
                    limit=limit,
                    retry_after_s=retry_after_s,
                    n_refused=n_refused,
                    label=label,
                )
            )
        return Overloaded(why, retry_after_s, pending, limit)


def _wait_s(backend: PooledBackend[Any], is_interactive: bool) -> float:
    """Return for how long one more is estimated to wait: by the work of those who go before it, over all lanes."""
    work_s = backend.interactive_s if is_interactive else backend.backlog_s
    return work_s / max(1, backend.limit)
