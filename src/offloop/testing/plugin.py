"""The pytest plugin: fixtures for tests of what is built on offloop.

While a test has one of them every session that is made is inline, and so is the process-wide one; see `offloop.testing.inline`. They are plain
fixtures, for sync tests and for those of any plugin for async ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..session import ParallelSession
    from .faults import Inject
    from .recording import Events
    from .session import Kit


@pytest.fixture
def offloop_settings() -> dict[str, Any]:
    """Arguments of `offloop.testing.inline`: override it where others than the defaults should hold, for ``max_pending`` say."""
    return {}


@pytest.fixture
def offloop_kit(offloop_settings: dict[str, Any]) -> Iterator[Kit]:
    """Sessions are inline, for as long as the test lasts; the kit has what is told of them."""
    from .session import inline

    with inline(**offloop_settings) as kit:
        yield kit


@pytest.fixture
def offloop_session(offloop_kit: Kit) -> ParallelSession:
    """An inline session, open: the process-wide one, so that `offloop.run` and its like use it too."""
    return offloop_kit.session


@pytest.fixture
def offloop_faults(offloop_kit: Kit) -> Inject:
    """Injects faults into all sessions; see `offloop.testing.InlineSession.inject`."""
    return offloop_kit.inject


@pytest.fixture
def offloop_events(offloop_kit: Kit) -> Events:
    """What is told of all sessions, in order."""
    return offloop_kit.events
