"""The event loops of adapters: uvloop is asyncio to them, except where a signal wakes it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """The event loop that a test runs on."""
    return request.param
