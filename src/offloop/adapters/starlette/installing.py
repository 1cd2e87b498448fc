"""Everything at once, for an app that there is."""

from __future__ import annotations

from typing import Unpack

from starlette.applications import Starlette
from starlette.routing import Route

from ... import ParallelConfig, SettingError
from ...settings import Settings
from .disconnect import CancelOnDisconnect
from .opening import lifespan
from .probes import livez, readyz
from .problems import exception_handlers
from .requests import FinishRequests

_OWN: frozenset[object] = frozenset({CancelOnDisconnect, FinishRequests})


def install(
    app: Starlette, config: ParallelConfig | None = None, *, drain_timeout_s: float = 20.0, **settings: Unpack[Settings]
) -> None:
    """Give a Starlette or FastAPI app a session, before it is started.

    Its lifespan is put into `lifespan`; ``/livez`` and ``/readyz`` are answered by `livez` and `readyz`, where it has no such
    routes; offloop's errors are answered by `exception_handlers`, where it has no handlers for them; a client that goes away
    has its work stopped (`CancelOnDisconnect`); a service that drains finishes whole requests (`FinishRequests`).

    Args:
        app: The app; FastAPI's are Starlette's.
        config: The settings; see `ParallelConfig`.
        drain_timeout_s: As for `lifespan`.
        **settings: As for `lifespan`.

    Raises:
        SettingError: The app has been installed into before, or has one of the two middlewares; also as for `lifespan`.
    """
    if any(middleware.cls in _OWN for middleware in app.user_middleware):
        raise SettingError("app", app, "it has offloop's middleware already: call install once, and add none by hand.")
    router = app.router
    router.lifespan_context = lifespan(config, inner=router.lifespan_context, drain_timeout_s=drain_timeout_s, **settings)
    paths = {getattr(route, "path", None) for route in router.routes}
    probes = [Route("/livez", livez, include_in_schema=False), Route("/readyz", readyz, include_in_schema=False)]
    router.routes[:0] = [probe for probe in probes if probe.path not in paths]  # before routes that match any path
    for kind, handler in exception_handlers.items():
        app.exception_handlers.setdefault(kind, handler)
    app.add_middleware(CancelOnDisconnect)
    app.add_middleware(FinishRequests)
