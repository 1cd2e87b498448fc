"""A page of metrics, for a web service."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import anyio.to_thread
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

_Message = MutableMapping[str, Any]


def metrics_app(registry: CollectorRegistry = REGISTRY) -> Page:
    """Return an ASGI app that answers scrapes, to be a route of a Starlette or FastAPI app, or mounted in any other.

        app.add_route("/metrics", metrics_app())

    What it shows is put together in a thread, so the event loop stays free.

    Args:
        registry: Whose metrics; all of the registry's, also those that others have put there.
    """
    return Page(registry)


class Page:
    """An ASGI app that answers scrapes; see `metrics_app`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Answer one request, whatever its method and path."""
        if scope["type"] != "http":
            raise TypeError(f"metrics_app answers HTTP requests, and this is of type {scope['type']!r}")
        limiter = anyio.CapacityLimiter(1)  # of its own: the app's threads may all be busy
        headers, body = await anyio.to_thread.run_sync(self._page, scope, limiter=limiter)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _page(self, scope: _Message) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Return the headers and the text that a request asks for."""
        try:
            encode, content_type = choose_encoder(_header(scope, b"accept"))
        except Exception:  # for the version that it asks for may be no number
            encode, content_type = choose_encoder("")
        names = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("name[]")
        body = encode(self._registry if names is None else self._registry.restricted_registry(names))
        headers = [(b"content-type", content_type.encode())]
        if "gzip" in _header(scope, b"accept-encoding"):
            headers.append((b"content-encoding", b"gzip"))
            body = gzip.compress(body, 1)
        return [*headers, (b"content-length", b"%d" % len(body))], body


def _header(scope: _Message, name: bytes) -> str:
    return ",".join(value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name)
