"""The way of a single call."""

from __future__ import annotations

import math
from time import monotonic
from typing import Any

from .calling import Call, Errand
from .model import Reason
from .planning import UNKNOWN_S
from .progressing import observed
from .sensing.meter import meter
from .sources import NO_SOURCE
from .steering import Steering
from .strategies.base import Backend, Chunk, Job, TooLate
from .tracing import traced

_PATIENCE_S = 0.010  # how long a call of unknown cost waits for the local thread


class CallSteering(Steering):
    """Decides for one call."""

    _cost_s: float  # what it is estimated to take

    def entrance(self, *_: object) -> str:
        """Return how it was called, as its span is named."""
        return "run"

    @traced
    async def execute(self, job: Job, args: tuple[Any, ...]) -> Any:
        """Decide on the call, have it executed, and return its value."""
        self.tally.submitted = 1
        self.n_bytes = self._known.payload_bytes
        self._decision = self.decide(1)
        known = self._known
        self._cost_s = known.cost.item_s or known.function.item_s or UNKNOWN_S
        self._come_in(self._cost_s)
        try:
            self._settle(self._decision)
            return await observed(self._progress, self.standing, self._call, self._fitting(job, NO_SOURCE), args)
        except TooLate:
            raise await self._too_late() from None
        finally:
            self._end()

    async def _call(self, job: Job, args: tuple[Any, ...]) -> Any:
        backend = self._backend()
        waits = self._decision.reason is Reason.MEASURING and backend is self._local and self._local.backlog_s > 0
        if backend is self._local and not waits and not self._is_timed:
            return await self._here(job, args)
        return await self._anywhere(job, args, backend, waits)

    async def _here(self, job: Job, args: tuple[Any, ...]) -> Any:
        """Execute it in the local thread, by the shortest way there is."""
        chunk = Chunk(0, (args,))
        chunk.is_watched = self._known.cost.is_worth_watching(1)
        self._share.move(self._local, self._cost_s)
        errand = self._executor = Errand(self._known.options, self._place)
        await errand.execute(self._local, job, chunk, 0.0)
        _, report = errand.reports.pop()
        error = report.refused.error if report.refused is not None else report.outcomes().failures.get(0)
        if error is not None:
            self.tally.failed = 1
            del report
            try:
                raise error
            finally:
                del error  # whose traceback knows this frame: both would stay until a garbage collection
        self._learn_at_once(1, 1, report)
        return report.outcomes().values[0]

    async def _anywhere(self, job: Job, args: tuple[Any, ...], backend: Backend, waits: bool) -> Any:
        known, is_undisturbed = self._known, not backend.backlog_s
        self._executor = call = Call(
            job, args, known.options, self._place, known.cost, self.tally, self._stay, self._fell_back, self._encoder
        )
        self._share.move(backend, self._cost_s)
        begun = monotonic()
        try:
            if not await call.execute(backend, _PATIENCE_S if waits else None):
                self._settle(self.decide(1, waited_s=2 * _PATIENCE_S))
                backend = self._backend()
                self._share.move(backend, self._cost_s)
                await call.execute(backend)
        finally:
            call.close()
        if call.begun < math.inf:
            self._records.admission.waited(self._expected_s, call.begun - self._begun)
        if is_undisturbed and backend is self._venues.processes and self.tally.completed:
            meter.tripped(monotonic() - begun - self.tally.busy_s)
        return call.result()
