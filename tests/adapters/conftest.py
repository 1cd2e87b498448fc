"""The event loops of adapters: uvloop is asyncio to them, except where a signal wakes it."""

from __future__ import annotations

from collections.abc import Iterator

import optuna
import pytest


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """The event loop that a test runs on."""
    return request.param


@pytest.fixture(scope="module")
def quiet_optuna() -> Iterator[None]:
    """Have Optuna say nothing of what goes well, or is meant to fail."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    yield
    optuna.logging.set_verbosity(before)
