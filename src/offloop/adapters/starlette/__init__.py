"""offloop in a Starlette or FastAPI service: one session for the app, overload answered, work stopped with its client.

    app = FastAPI()
    offloop.adapters.starlette.install(app)

    @app.get("/score")
    async def score(x: float, session: Annotated[ParallelSession, Depends(get_session)]) -> float:
        return await session.run(slow_score, x)

`install` is `lifespan`, `exception_handlers`, `FinishRequests`, `CancelOnDisconnect`, `livez` and `readyz` together; each of
them can be used by itself.
"""

from .dependency import LifespanMissing, get_session
from .disconnect import CancelOnDisconnect
from .installing import install
from .opening import lifespan
from .probes import livez, readyz
from .problems import exception_handlers
from .requests import FinishRequests
from .sizing import WebWorkersOvercommitted

__all__ = (
    "CancelOnDisconnect",
    "FinishRequests",
    "LifespanMissing",
    "WebWorkersOvercommitted",
    "exception_handlers",
    "get_session",
    "install",
    "lifespan",
    "livez",
    "readyz",
)
