"""What gives an endpoint its app's session."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from ... import OffloopError, ParallelSession, SessionClosedError
from .requests import is_admitted
from .service import service_of


class LifespanMissing(OffloopError, RuntimeError):
    """The app has no session: its lifespan isn't ours, or did not run."""

    code = "lifespan-missing"
    _what = "this app has no session"
    _cause = "its lifespan is another one, or did not run"
    _fix = (
        "call offloop.adapters.starlette.install(app), or pass lifespan=lifespan(); in tests write "
        "`with TestClient(app) as client:`, since the lifespan runs in that context alone"
    )


async def get_session(connection: HTTPConnection) -> ParallelSession:
    """Return the app's session, for a request or a WebSocket; with FastAPI write ``Depends(get_session)``.

    ``request.state.offloop`` is the same session, and isn't refused to a request that comes while the service drains.

    Raises:
        LifespanMissing: The app has none.
        SessionClosedError: The service drains, and had begun to before this request came. Without `FinishRequests` nobody
            knows when it came, and every one is refused.
    """
    service = service_of(connection.scope)
    if service is None:
        raise LifespanMissing
    if service.is_draining and not is_admitted(connection.scope):
        raise SessionClosedError("draining")
    return service.session
