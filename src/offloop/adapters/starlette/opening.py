"""The lifespan of an app that has a session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Unpack

import anyio

from ... import ParallelConfig, ParallelSession
from ...checks import seconds_of
from ...settings import Settings
from .service import DRAINING, SERVICE, SESSION, Service
from .signals import ShutdownSignals
from .sizing import web_settings

Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]
AnyLifespan = Lifespan | Callable[[Any], AbstractAsyncContextManager[None]]

_MARGIN_S = 1.0  # what a server may take to be done with its connections beyond the time to drain; a guess


def lifespan(
    config: ParallelConfig | None = None,
    *,
    inner: AnyLifespan | None = None,
    drain_timeout_s: float = 20.0,
    **settings: Unpack[Settings],
) -> Lifespan:
    """Return the ``lifespan`` of a Starlette or FastAPI app that has a session for as long as it serves.

    In requests ``request.state.offloop`` is the session, and ``request.state.offloop_draining`` an event that is set once the
    service is to stop: a response that has no end by itself waits for it and ends. Workers start in the background, so that
    the app answers at once. At SIGTERM or SIGINT, as far as the server runs in the main thread, and at the latest when
    the server ends the lifespan, no calls are admitted any more, those under way are finished within ``drain_timeout_s``,
    and what is left then is stopped and fails with `SessionClosedError`. Then the workers end.

    Settings are those of `ParallelConfig`, with other defaults: ``local="never"``; ``workers`` is the usable cores divided by
    ``WEB_CONCURRENCY``, and at least 1; ``max_pending`` is 32 times as many. ``uvicorn --workers`` sets no variable: where
    it is used, set ``WEB_CONCURRENCY`` in its place.

    Args:
        config: The settings; see `ParallelConfig`.
        inner: The app's own lifespan. It is begun first and ended last; its state is that of requests too.
        drain_timeout_s: How long calls under way may take once the service is to stop.
        **settings: Settings that replace those of the config.

    Raises:
        SettingError: drain_timeout_s isn't a time; a setting that can't work is told when the app starts.
    """
    limit_s = seconds_of(drain_timeout_s, "drain_timeout_s")

    @asynccontextmanager
    async def opened(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        session = ParallelSession(config, **web_settings(config, settings))
        own: Any = nullcontext() if inner is None else inner(app)
        async with own as state, session, _served(Service(session, limit_s)) as service:
            yield {**(state or {}), SESSION: session, DRAINING: service.draining, SERVICE: service}

    return opened


@asynccontextmanager
async def _served(service: Service) -> AsyncIterator[Service]:
    """Keep a service ready; drain it in the end, or when a signal says so."""
    limit_s = service.drain_timeout_s + service.session.config.grace_s + _MARGIN_S
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.keep_warm)
        tasks.start_soon(service.drain)
        with ShutdownSignals(service.begin_draining, limit_s):
            try:
                yield service
            except Exception as error:  # the group would wrap it in a group of exceptions
                failure = error
            service.begin_draining()
    if failure is not None:
        raise failure
