"""The session of a web service: how an app gets it, what clients are told, and how the service ends."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import fastapi
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

import offloop
import workloads as w
from offloop.adapters import starlette as adapter
from offloop.adapters.starlette import service as service_module
from offloop.adapters.starlette import signals, sizing
from offloop.settings import Settings
from systems import MadeSystem

from .asgi import Exchange, get, started

pytestmark = pytest.mark.anyio

LOCAL: Settings = {"strategy": "serial"}  # what concerns no worker starts none


async def double(request: Request) -> Response:
    session = await adapter.get_session(request)
    return JSONResponse(await session.run(w.double, 21))


def starlette_app(*routes: Route | WebSocketRoute, lifespan: Any = None) -> Starlette:
    return Starlette(routes=[Route("/double", double), *routes], lifespan=lifespan)


def fastapi_app(*routes: Route | WebSocketRoute, lifespan: Any = None) -> fastapi.FastAPI:
    app = fastapi.FastAPI(lifespan=lifespan, routes=[*routes])

    @app.get("/double")
    async def endpoint(session: Annotated[offloop.ParallelSession, fastapi.Depends(adapter.get_session)]) -> int:
        return await session.run(w.double, 21)

    return app


@pytest.fixture(params=[starlette_app, fastapi_app], ids=["starlette", "fastapi"])
def made(request: pytest.FixtureRequest) -> Callable[..., Starlette]:
    """Makes an app, of either kind."""
    make: Callable[..., Starlette] = request.param
    return make


# --- the session ------------------------------------------------------------------------------------------------------


async def test_an_app_has_a_session(anyio_backend: object, made: Callable[..., Starlette]) -> None:
    """One `install` is all that an app needs for its endpoints to call the session, and it is closed in the end."""
    app = made()
    adapter.install(app, **LOCAL)
    with anyio.fail_after(20):
        async with started(app) as state:
            assert (await get(app, "/double", state)).json == 42
            assert state["offloop"].statistics().state == "open"
    assert state["offloop"].statistics().state == "closed"


async def test_the_apps_own_lifespan_goes_around(anyio_backend: object, made: Callable[..., Starlette]) -> None:
    """The app's own lifespan begins first and ends last, and its state is in requests beside the session."""
    order: list[str] = []
    found: list[Any] = []

    @asynccontextmanager
    async def own(app: Any) -> AsyncIterator[dict[str, Any]]:
        order.append("begins")
        yield {"database": "open"}
        order.append(f"ends when the session is {found[0].statistics().state}")

    async def endpoint(request: Request) -> Response:
        found.append(request.state.offloop)
        return PlainTextResponse(request.state.database)

    app = made(Route("/own", endpoint), lifespan=own)
    adapter.install(app, **LOCAL)
    async with started(app) as state:
        assert (await get(app, "/own", state)).content == b"open"
    assert order == ["begins", "ends when the session is closed"]


async def test_a_lifespan_is_a_context(anyio_backend: object) -> None:
    """`lifespan` can be entered in a lifespan of one's own, and what is raised in it comes out as itself."""
    with pytest.raises(ValueError, match="mine"):
        async with adapter.lifespan(**LOCAL)(None) as state:
            assert await state["offloop"].run(w.double, 4) == 8
            raise ValueError("mine")
    assert state["offloop"].statistics().state == "closed"


async def test_an_app_without_lifespan_says_so(anyio_backend: object, made: Callable[..., Starlette]) -> None:
    """Where no lifespan has run, asking for the session tells what to write."""
    app = made(Route("/readyz", adapter.readyz))
    for path in ("/double", "/readyz"):
        with pytest.raises(adapter.LifespanMissing, match=r"install\(app\)"):
            await get(app, path, {})


async def test_the_users_own_stay(anyio_backend: object, made: Callable[..., Starlette]) -> None:
    """`install` replaces no route and no handler that the app has."""

    async def own(request: Request, error: Any = None) -> Response:
        return PlainTextResponse("own")

    async def refused(request: Request) -> Response:
        raise offloop.Overloaded("max_pending", 1.0, 1, 1)

    app = made(Route("/livez", own), Route("/refused", refused))
    app.exception_handlers[offloop.Overloaded] = own
    adapter.install(app, **LOCAL)
    async with started(app) as state:
        for path in ("/livez", "/refused"):
            assert (await get(app, path, state)).content == b"own"


async def test_an_app_is_given_one_session(anyio_backend: object, made: Callable[..., Starlette]) -> None:
    """A second `install`, or one beside its middleware, is refused with what to do, and changes nothing."""
    app = made()
    adapter.install(app, **LOCAL)
    lifespan, n_routes = app.router.lifespan_context, len(app.routes)
    with pytest.raises(offloop.SettingError, match="call install once"):
        adapter.install(app, **LOCAL)
    assert (app.router.lifespan_context, len(app.routes)) == (lifespan, n_routes)
    by_hand = made()
    by_hand.add_middleware(adapter.FinishRequests)
    with pytest.raises(offloop.SettingError, match="add none by hand"):
        adapter.install(by_hand, **LOCAL)


# --- its settings -----------------------------------------------------------------------------------------------------


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the host one of 8 cores with these variables in its environment."""
    monkeypatch.setattr(sizing, "_told", set())
    return lambda **environ: monkeypatch.setattr(sizing, "this_system", lambda: MadeSystem(environ=environ))


NEVER: Settings = {"local": "never"}


@pytest.mark.parametrize(
    ("environ", "given", "chosen"),
    [
        ({}, {}, NEVER | {"workers": 8, "max_pending": 256}),
        ({"WEB_CONCURRENCY": "2"}, {}, NEVER | {"workers": 4, "max_pending": 128}),
        ({"WEB_CONCURRENCY": "3"}, {}, NEVER | {"workers": 2, "max_pending": 64}),
        ({"WEB_CONCURRENCY": "99"}, {}, NEVER | {"workers": 1, "max_pending": 32}),
        ({"WEB_CONCURRENCY": "many"}, {}, NEVER | {"workers": 8, "max_pending": 256}),
        ({"WEB_CONCURRENCY": "2"}, {"workers": 3}, NEVER | {"workers": 3, "max_pending": 96}),
        ({"WEB_CONCURRENCY": "2"}, {"workers": -1}, NEVER | {"workers": -1, "max_pending": 256}),
        ({"OFFLOOP_WORKERS": "3"}, {}, NEVER | {"max_pending": 96}),
        ({"OFFLOOP_MAX_PENDING": "7"}, {}, NEVER | {"workers": 8}),
        ({}, {"max_pending": None}, NEVER | {"workers": 8, "max_pending": None}),
        ({}, {"local": "allow"}, {"local": "allow", "workers": 8, "max_pending": 256}),
        ({}, {"strategy": "threads"}, {"strategy": "threads", "workers": 8, "max_pending": 256}),
        ({"OFFLOOP_PARALLEL": "serial"}, {}, {"workers": 8, "max_pending": 256}),
        ({"OFFLOOP_PARALLEL": "off"}, {}, NEVER | {"workers": 8, "max_pending": 256}),
    ],
)
def test_a_web_service_has_its_own_defaults(
    host: Callable[..., None], environ: dict[str, str], given: Settings, chosen: Settings
) -> None:
    """Nothing runs in the serving process, the web workers share the cores, calls are bounded; what is set anywhere wins."""
    host(**environ)
    assert sizing.web_settings(None, given) == chosen


def test_a_config_wins_over_the_defaults(host: Callable[..., None]) -> None:
    """What a config sets is left to it."""
    host()
    config = offloop.ParallelConfig(workers=2, max_pending=5)
    assert sizing.web_settings(config, {}) == NEVER


def test_too_many_processes_are_told_of(host: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    """Where web workers and their workers exceed the cores, that is told once, with all numbers and what to write."""
    host(WEB_CONCURRENCY="4")
    with w.heard("parallel.guidance") as told, caplog.at_level(logging.WARNING, "offloop"):
        sizing.web_settings(None, {})
        sizing.web_settings(None, {"workers": 1})
        assert told == []
        for _ in range(2):
            sizing.web_settings(None, {"workers": 4})
    (event,) = told
    assert (event.web_workers, event.workers, event.usable_cores) == (4, 4, 8)
    assert "16 processes" in event.advice
    assert "WEB_CONCURRENCY=2 or workers=2" in event.advice
    assert event.advice in caplog.text


def test_more_web_workers_than_cores_are_told_of(host: Callable[..., None]) -> None:
    """Where web workers alone exceed the cores, fewer of them are advised."""
    host(WEB_CONCURRENCY="12")
    with w.heard("parallel.guidance") as (told):
        sizing.web_settings(None, {})
    assert told[0].advice.endswith("write WEB_CONCURRENCY=8")


async def test_a_wrong_setting_is_told_at_the_start(anyio_backend: object) -> None:
    """A setting that can't work is named: a time at once, others as the app starts."""
    with pytest.raises(offloop.SettingError, match="drain_timeout_s"):
        adapter.lifespan(drain_timeout_s=-1)
    with pytest.raises(offloop.SettingError, match="workers=0"):
        async with adapter.lifespan(workers=0)(None):
            pass


# --- what clients are told --------------------------------------------------------------------------------------------

ERRORS = {
    "overloaded": (
        offloop.Overloaded("max_pending", 1.2, 64, 64),
        {"status": 503, "retry_after_s": 1.2, "pending": 64, "limit": 64, "why": "max_pending"},
        "2",
    ),
    "soon": (offloop.Overloaded("deadline", 0.0, 64, 0.5), {"status": 503, "retry_after_s": 0.0, "why": "deadline"}, "1"),
    "unknown": (offloop.Overloaded("max_pending", math.nan, 1, 1), {"status": 503, "retry_after_s": 0.0}, "1"),
    "late": (offloop.Overloaded("max_pending", math.inf, 1, 1), {"status": 503, "retry_after_s": 3600}, "3600"),
    "draining": (offloop.SessionClosedError("draining"), {"status": 503, "title": "Shutting down"}, "1"),
    "timeout": (offloop.ItemTimeout(0, 0.5, 0.6, "secret"), {"status": 504, "limit_s": 0.5}, None),
    "crashed": (offloop.WorkerCrashed(0, 0, -11, "secret", "secret"), {"status": 500}, None),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_errors_are_problems(
    anyio_backend: object, made: Callable[..., Starlette], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of offloop's errors is answered as RFC 9457 has it, with when to try again, and tells nothing of the inside."""
    error, expected, retry_after = ERRORS[name]

    async def endpoint(request: Request) -> Response:
        raise error

    app = made(Route("/", endpoint))
    adapter.install(app, **LOCAL)
    async with started(app) as state:
        answer = await get(app, "/", state)
    assert answer.status == expected["status"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.get("retry-after") == retry_after
    assert answer.json.items() >= expected.items()
    assert answer.json["type"] == f"urn:problem-type:offloop:{error.code}"
    assert {"title", "detail"} <= answer.json.keys()
    assert b"secret" not in answer.content
    assert ("secret" in caplog.text) == (name == "crashed"), "what a worker died of is for the log"


@pytest.mark.parametrize("name", ERRORS)
def test_websockets_are_closed(name: str) -> None:
    """A WebSocket is closed with the code that says as much."""
    codes = {503: 1013, 504: 1011, 500: 1011}
    error, expected, _ = ERRORS[name]
    code = 1012 if name == "draining" else codes[expected["status"]]

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        assert await (await adapter.get_session(websocket)).run(w.double, 1) == 2
        raise error

    app = starlette_app(WebSocketRoute("/", endpoint))
    adapter.install(app, **LOCAL)
    with TestClient(app) as client, client.websocket_connect("/") as socket:
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == code


async def test_a_service_that_is_full_says_so(anyio_backend: object, tmp_path: Path) -> None:
    """A request above max_pending is answered 503 at once, while those before it go on and are answered."""
    path = f"{tmp_path}/run"

    async def waiting(request: Request) -> Response:
        return PlainTextResponse(await request.state.offloop.run(w.wait_for_file, path))

    app = starlette_app(Route("/waiting", waiting))
    adapter.install(app, max_pending=1, **LOCAL)
    with anyio.fail_after(20):
        async with started(app) as state:
            first = Exchange(app, "/waiting", state=state)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first.run)
                await w.appears(f"{path}.began")
                refused = await get(app, "/double", state)
                Path(f"{path}.go").touch()
            assert first.content == b"went"
    assert (refused.status, refused.json["why"], refused.json["limit"]) == (503, "max_pending", 1)
    assert int(refused.headers["retry-after"]) >= 1


# --- whether it is ready ----------------------------------------------------------------------------------------------


async def reason(app: Starlette, state: dict[str, Any]) -> str | None:
    """Return why the app says that it isn't ready; None if it says that it is."""
    answer = await get(app, "/readyz", state)
    assert (answer.status == 200) == (answer.json["status"] == "ready")
    return None if answer.status == 200 else answer.json["reason"]


async def becomes(app: Starlette, state: dict[str, Any], expected: str | None) -> None:
    """Wait until an app says that it is ready, or why not."""
    with anyio.fail_after(30):
        while await reason(app, state) != expected:
            await anyio.sleep(0.01)


async def test_ready_once_warm(anyio_backend: object, made: Callable[..., Starlette], monkeypatch: pytest.MonkeyPatch) -> None:
    """The app lives at once and is ready once its workers are, until it drains; it lives until the end."""
    warm = anyio.Event()
    monkeypatch.setattr(offloop.ParallelSession, "warm", lambda session: warm.wait())
    app = made(Route("/{path:path}", double))
    adapter.install(app)
    async with started(app) as state:
        assert (await get(app, "/livez", state)).json == {"status": "alive"}
        assert await reason(app, state) == "warming"
        warm.set()
        await becomes(app, state, None)
        await state["offloop"].drain()
        assert await reason(app, state) == "draining"
        await state["offloop"].aclose()
        assert await reason(app, state) == "closed"
        assert (await get(app, "/livez", {})).status == 200


async def test_where_no_work_goes_to_workers_none_start(anyio_backend: object) -> None:
    """A session in this process alone is ready without any worker."""
    app = starlette_app()
    adapter.install(app, **LOCAL)
    async with started(app) as state:
        await becomes(app, state, None)
        assert (await get(app, "/readyz", state)).json == {"status": "ready", "workers": 0, "pending": 0}


async def test_the_operators_word_is_heard(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """With OFFLOOP_PARALLEL=off the service serves out of its own process and starts no worker."""
    monkeypatch.setenv("OFFLOOP_PARALLEL", "off")
    app = starlette_app()
    adapter.install(app)
    async with started(app) as state:
        await becomes(app, state, None)
        assert (await get(app, "/double", state)).json == 42
        assert state["offloop"].statistics().workers == ()


def need_file(path: str) -> None:
    """Fail, as worker_init, while there is no such file."""
    Path(path).read_text()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_not_ready_while_workers_fail_to_start(
    anyio_backend: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where workers don't start the app says so, logs why once, and is ready as soon as they do."""
    monkeypatch.setattr(service_module, "_PAUSE_S", 0)
    path = tmp_path / "needed"
    app = starlette_app()
    adapter.install(app, workers=1, worker_init=partial(need_file, str(path)))
    async with started(app) as state:
        await becomes(app, state, "failing")
        path.touch()
        await becomes(app, state, None)
        assert (await get(app, "/double", state)).json == 42
    assert caplog.text.count("workers do not start") == 1
    assert "needed" in caplog.text


async def test_not_ready_while_a_start_has_failed(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where later starts fail the app says so, whatever was up before."""
    app = starlette_app()
    adapter.install(app, **LOCAL)
    async with started(app) as state:
        await becomes(app, state, None)
        failing = offloop.SessionStatistics(state="open", start_failures=2)
        with monkeypatch.context() as patch:
            patch.setattr(offloop.ParallelSession, "statistics", lambda session: failing)
            assert await reason(app, state) == "failing"
        assert await reason(app, state) is None


# --- how it ends ------------------------------------------------------------------------------------------------------


def twice(path: str) -> Callable[[Request], Any]:
    """Return an endpoint of two calls one after the other, of which the first waits for a file."""

    async def endpoint(request: Request) -> Response:
        session = request.state.offloop
        first = await session.run(w.wait_for_file, path)
        return PlainTextResponse(f"{first} {await session.run(w.double, 1)}")

    return endpoint


async def test_requests_under_way_are_finished(
    anyio_backend: object, made: Callable[..., Starlette], tmp_path: Path
) -> None:
    """A request that came before the service drains may go on to make calls; one that comes later is refused."""
    app = made(Route("/twice", twice(f"{tmp_path}/run")))
    adapter.install(app, **LOCAL)
    with anyio.fail_after(20):
        async with started(app) as state:
            before = Exchange(app, "/twice", state=state)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(before.run)
                await w.appears(f"{tmp_path}/run.began")
                state["offloop_service"].begin_draining()
                assert await reason(app, state) == "draining"
                after = await get(app, "/double", state)
                await state["offloop_draining"].wait()
                (tmp_path / "run.go").touch()
    assert before.content == b"went 2"
    assert (after.status, after.headers["retry-after"]) == (503, "1")
    assert after.json["title"] == "Shutting down"


async def test_what_is_not_done_in_time_is_stopped(anyio_backend: object, tmp_path: Path) -> None:
    """At the end of drain_timeout_s calls are stopped, and their requests answered 503; so are those that wait for others."""
    path = f"{tmp_path}/run"

    async def stuck(request: Request) -> Response:
        return PlainTextResponse(await request.state.offloop.run(w.loop_until_cancelled, path))

    async def idle(request: Request) -> Response:
        await anyio.sleep_forever()
        raise AssertionError

    app = starlette_app(Route("/stuck", stuck), Route("/idle", idle))
    adapter.install(app, drain_timeout_s=0, **LOCAL)
    with anyio.fail_after(20):
        async with started(app) as state:
            exchanges = [Exchange(app, path, state=state) for path in ("/stuck", "/idle")]
            async with anyio.create_task_group() as tasks:
                for exchange in exchanges:
                    tasks.start_soon(exchange.run)
                await w.appears(f"{path}.began")
                state["offloop_service"].begin_draining()
    assert [(one.status, one.json["title"]) for one in exchanges] == [(503, "Shutting down")] * 2
    assert w.lines(Path(f"{path}.stopped"))


async def test_a_response_under_way_is_broken_off(anyio_backend: object, tmp_path: Path) -> None:
    """At the end of drain_timeout_s a response that has begun ends as if cancelled: nothing is raised out of the app."""
    path = f"{tmp_path}/run"

    async def endpoint(request: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            yield "first\n"
            yield await request.state.offloop.run(w.loop_until_cancelled, path)

        return StreamingResponse(lines())

    app = starlette_app(Route("/lines", endpoint))
    adapter.install(app, drain_timeout_s=0, **LOCAL)
    with anyio.fail_after(20):
        async with started(app) as state:
            exchange = Exchange(app, "/lines", state=state)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(exchange.run)
                await w.appears(f"{path}.began")
                state["offloop_service"].begin_draining()
    assert (exchange.status, exchange.content) == (200, b"first\n")
    assert w.lines(Path(f"{path}.stopped"))


async def test_without_middleware_calls_are_finished(anyio_backend: object, tmp_path: Path) -> None:
    """With `lifespan` alone the calls under way are finished, and no others are admitted."""
    path = f"{tmp_path}/run"
    app = starlette_app(Route("/twice", twice(path)), lifespan=adapter.lifespan(**LOCAL))
    app.exception_handlers |= adapter.exception_handlers
    with anyio.fail_after(20):
        async with started(app) as state:
            exchange = Exchange(app, "/twice", state=state)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(exchange.run)
                await w.appears(f"{path}.began")
                state["offloop_service"].begin_draining()
                await state["offloop_draining"].wait()
                Path(f"{path}.go").touch()
    assert exchange.json["title"] == "Shutting down"


async def test_a_client_that_goes_stops_its_work(anyio_backend: object, tmp_path: Path) -> None:
    """The item in a worker ends with the client that it was for, and the worker serves the next request."""
    path = f"{tmp_path}/run"

    async def stuck(request: Request) -> Response:
        return PlainTextResponse(await request.state.offloop.run(w.loop_until_cancelled, path))

    app = starlette_app(Route("/stuck", stuck))
    adapter.install(app, workers=1)
    with anyio.fail_after(30):
        async with started(app) as state:
            exchange = Exchange(app, "/stuck", state=state)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(exchange.run)
                (worker,) = await w.appears(f"{path}.began")
                exchange.gone.set()
            assert w.lines(Path(f"{path}.stopped")) == [worker]
            assert state["offloop"].statistics().workers == (int(worker),)
            assert (await get(app, "/double", state)).json == 42


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def handler() -> Iterator[Callable[[Any], None]]:
    """Sets what handles SIGTERM and SIGINT; what handled them before does so again in the end."""
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}

    def handle(handler: Any) -> None:
        for number in signals.SIGNALS:
            signal.signal(number, handler)

    yield handle
    for number, former in before.items():
        signal.signal(number, former)


class Server:
    """What stops as uvicorn does."""

    def __init__(self, patience_s: int | None) -> None:
        self.should_exit = False
        self.config = self
        self.timeout_graceful_shutdown = patience_s
        self.seen: list[int] = []

    def handle_exit(self, number: int, frame: Any) -> None:
        self.seen.append(number)


@pytest.mark.parametrize(("own", "then"), [(None, 3.2), (90, 90)])
def test_a_server_is_told_to_stop(handler: Callable[[Any], None], own: int | None, then: float) -> None:
    """A signal has a server stop, with a limit if it has none; a SIGINT that is not the first is the server's own matter."""
    server, begun = Server(own), []
    handler(server.handle_exit)
    with signals.ShutdownSignals(lambda: begun.append(server.should_exit), limit_s=3.2):
        signal.raise_signal(signal.SIGTERM)
        assert (begun, server.should_exit, server.seen) == ([False], True, [])
        signal.raise_signal(signal.SIGTERM)
        assert server.seen == []
        signal.raise_signal(signal.SIGINT)
    assert server.seen == [signal.SIGINT]
    assert server.timeout_graceful_shutdown == then
    assert signal.getsignal(signal.SIGTERM) == server.handle_exit


def test_another_handler_is_called(handler: Callable[[Any], None]) -> None:
    """A handler that is no server's gets every signal."""
    seen: list[Any] = []
    handler(lambda number, frame: seen.append(number))
    with signals.ShutdownSignals(lambda: seen.append("begun"), limit_s=1):
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
    assert seen == ["begun", signal.SIGTERM] * 2


@pytest.mark.parametrize("default", [signal.SIG_DFL, signal.SIG_IGN])
def test_no_handler_is_left_alone(handler: Callable[[Any], None], default: Any) -> None:
    """A signal that ends the process at once, or that is ignored, stays so."""
    handler(default)
    with signals.ShutdownSignals(lambda: None, limit_s=1):
        assert signal.getsignal(signal.SIGTERM) is default


def test_a_later_handler_stays(handler: Callable[[Any], None]) -> None:
    """Who has put a handler in place meanwhile keeps it."""
    handler(lambda number, frame: None)
    own = Server(None).handle_exit
    with signals.ShutdownSignals(lambda: None, limit_s=1):
        signal.signal(signal.SIGTERM, own)
    assert signal.getsignal(signal.SIGTERM) == own


@pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True}), "trio"], ids=["asyncio", "uvloop", "trio"])
async def test_a_signal_wakes_the_event_loop(anyio_backend: object, handler: Callable[[Any], None]) -> None:
    """A signal that comes while the event loop waits has the service drain."""
    server = Server(None)
    handler(server.handle_exit)
    app = starlette_app()
    adapter.install(app, **LOCAL)
    with anyio.fail_after(20):
        async with started(app) as state:
            signal.raise_signal(signal.SIGTERM)
            assert await reason(app, state) == "draining"
            await state["offloop_draining"].wait()
            assert server.should_exit
