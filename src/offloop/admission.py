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
_NEARLY = 0.8  # a guess
# A caller who gives up gives way by itself, so one who may just make it is let in: the estimate must be this far off.
_SURELY = 2.0  # a guess
_TELLING_S = 0.010  # shorter waits tell nothing
_MEMORY = 16  # so many calls back a wait still counts for a third; a guess
_STRETCHES = (0.5, 4.0)


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
        backends: Where calls wait.

    Attributes:
        refused: How many calls were refused.
        most: How many calls may wait or execute; None for any number.
        most_bytes: How many bytes of arguments these may bring; likewise.
        is_limited: Whether there is a limit to the number of calls or of their bytes.
    """

    def __init__(self, config: ParallelConfig, *backends: Backend) -> None:
        self.refused = 0
        self.most, self.most_bytes = config.max_pending, config.max_pending_bytes
        self.is_limited = self.most is not None or self.most_bytes is not None
        self._backends = backends
        self._stretch = 1.0  # how much longer calls wait than their costs say: workers beside others are slower than alone
        self._lock = threading.Lock()
        self._told_at, self._n_untold = -math.inf, 0

    def place(
        self, caller: Caller, options: CallOptions, flow: object, cost_s: float, wait_s: float, pending: int
    ) -> Place:
        """Return a call's place in line for the lanes of a backend, unless it would wait there for too long.

        The deadline of the caller's own cancel scope goes with it: once it can't be done before that, it goes behind all others.
        Where there are limits it is refused then, or at once if it is not to begin in time.

        Args:
            caller: Who asks.
            options: Of the call.
            flow: Whose share its turns count against.
            cost_s: Seconds that a turn of it is estimated to take.
            wait_s: Seconds that it is estimated to wait, see `wait_s`.
            pending: Calls that wait or execute.

        Raises:
            Overloaded: It would wait for longer than it may, or than its caller will.
        """
        is_interactive, limit_s = options.priority == "interactive", options.max_wait_s
        has_limits = limit_s is not None or self.is_limited
        until = latest = math.inf
        if limit_s is not None:
            if wait_s > _NEARLY * limit_s:
                raise self.refuse(caller, "max_wait_s", pending, limit_s)
            until = monotonic() + limit_s
        if wait_s and (left_s := _left_s()) < math.inf:
            if has_limits and left_s > -math.inf and wait_s > _SURELY * max(0.0, left_s):
                raise self.refuse(caller, "deadline", pending, max(0.0, left_s))
            latest = monotonic() + left_s - min(cost_s, max(0.0, left_s) / 2)  # by half: a cost that is thought too high is to be seen again
            until = min(until, latest) if has_limits else until
        if until == latest == math.inf and flow is None and is_interactive and cost_s <= ORDINARY.cost_s:
            return ORDINARY
        return Place(flow, cost_s, is_interactive, until, latest)

    def wait_s(self, backend: PooledBackend[Any], options: CallOptions) -> float:
        """Return for how long a call is estimated to wait: by the work of those who go before it, and how that has gone lately."""
        work_s = backend.interactive_s if options.priority == "interactive" else backend.backlog_s
        return self._stretch * work_s / max(1, backend.limit)

    def waited(self, expected_s: float, waited_s: float) -> None:
        """Take in for how long a call has waited that was to wait for so long."""
        if expected_s > _TELLING_S:
            stretch = self._stretch * (1 + (waited_s / expected_s - 1) / _MEMORY)
            self._stretch = min(max(stretch, _STRETCHES[0]), _STRETCHES[1])

    def refuse(self, caller: Caller, why: str, pending: int, limit: float) -> Overloaded:
        """Count a refusal, tell of it unless one was told of just now, and return the error for the caller."""
        retry_after_s = max(_LEAST_S, *(backend.backlog_s / max(1, backend.limit) for backend in self._backends))
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


def _left_s() -> float:
    """Return for how long the caller's own cancel scopes let it go on."""
    return anyio.current_effective_deadline() - anyio.current_time()
