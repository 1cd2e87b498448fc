"""One process of a web service, from when it starts until it has drained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import anyio
from anyio.lowlevel import current_token

from ... import ParallelSession, Reason, SessionClosedError, Strategy

SESSION = "offloop"  # the names in the state of a request
DRAINING = "offloop_draining"
SERVICE = "offloop_service"

_PAUSE_S = 1.0  # between attempts to start workers; a guess: probes come every few seconds

_log = logging.getLogger("offloop")


class Requests:
    """The requests under way, each with the scope that it is cancelled by."""

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()
        self._ended = anyio.Event()

    @contextmanager
    def one(self, scope: anyio.CancelScope) -> Iterator[None]:
        """Count one for as long as the context lasts."""
        self._scopes.add(scope)
        try:
            yield
        finally:
            self._scopes.discard(scope)
            self._ended.set()

    async def finished(self) -> None:
        """Wait until there is none."""
        while self._scopes:
            self._ended = anyio.Event()
            await self._ended.wait()

    def stop(self) -> None:
        """Cancel those that there are."""
        for scope in list(self._scopes):
            scope.cancel()


class Service:
    """The session of one process of a web service, whether it is ready to serve, and how it ends.

    Args:
        session: Open.
        drain_timeout_s: How long what is under way may take once the service is to stop.

    Attributes:
        requests: Those under way that `FinishRequests` has seen.
        draining: Set once the service is to stop, for responses that never end by themselves.
        is_draining: Whether it is to stop; said at once, where `draining` is set at the next turn of the event loop.
    """

    def __init__(self, session: ParallelSession, drain_timeout_s: float) -> None:
        self.session = session
        self.drain_timeout_s = drain_timeout_s
        self.requests = Requests()
        self.draining = anyio.Event()
        self.is_draining = False
        self._is_warm = False
        self._failure: Exception | None = None
        self._retry = anyio.Event()
        self._warming = anyio.CancelScope()
        loop: Any = current_token().native_token
        self._post: Callable[[Callable[[], object]], object] = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon

    def begin_draining(self) -> None:
        """Have the service drain; may be called by a signal's handler."""
        self.is_draining = True
        self._post(self.draining.set)

    async def drain(self) -> None:
        """Wait until the service is to stop, let it finish what is under way, then close its session."""
        await self.draining.wait()
        self._warming.cancel()
        with anyio.move_on_after(self.drain_timeout_s):
            await self.requests.finished()
            await self.session.drain()
        self.requests.stop()  # before the session is closed: what it then raises in a response that has begun is logged
        await self.session.aclose()

    async def keep_warm(self) -> None:
        """Start workers, and try again whenever `why_unready` has found that this fails, until the service drains."""
        with self._warming:
            while True:
                await self._warm()
                self._retry = anyio.Event()
                await self._retry.wait()
                await anyio.sleep(_PAUSE_S)

    async def _warm(self) -> None:
        try:
            decision = await self.session.decide(_nothing, [None])
            if decision.strategy is Strategy.PROCESSES or decision.reason is Reason.MEASURING:  # else no work goes to workers
                await self.session.warm()
        except SessionClosedError:  # by the user's hand
            return
        except Exception as error:
            if self._failure is None:
                _log.exception("workers do not start; the service is not ready")
            self._failure = error
        else:
            self._failure, self._is_warm = None, True

    def why_unready(self) -> str | None:
        """Return ``draining``, ``closed``, ``failing`` (to start workers) or ``warming``; None of a service that is ready."""
        statistics = self.session.statistics()
        if statistics.state == "closed":
            return "closed"
        if self.is_draining or statistics.state == "draining":
            return "draining"
        if self._failure is not None or statistics.start_failures:
            self._retry.set()
            return "failing"
        return None if self._is_warm else "warming"


def service_of(scope: MutableMapping[str, Any]) -> Service | None:
    """Return the service that a connection belongs to; None if the app has no lifespan of ours."""
    service = scope.get("state", {}).get(SERVICE)
    return service if isinstance(service, Service) else None


def _nothing(_: object) -> None:
    """Stand for any work."""
