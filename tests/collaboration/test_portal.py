"""A portal: what becomes of what is handed to it, whatever that does, and however it ends."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import pytest

from offloop import SessionClosedError
from offloop.portal import Portal


@pytest.fixture
def portal() -> Iterator[Portal]:
    """A portal, closed in the end."""
    opened = Portal()
    yield opened
    opened.close()


@dataclass(frozen=True)
class FrozenError(Exception):
    """Can't be given a traceback by assignment."""

    why: str


class StubbornError(Exception):
    """Can't be given a traceback by its own method."""

    def with_traceback(self, trace: Any) -> StubbornError:
        raise ValueError


async def fail(error: BaseException) -> None:
    """Raise this."""
    raise error


@pytest.mark.parametrize("error", [FrozenError("x"), StubbornError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_failure_is_its_callers_alone(portal: Portal, error: BaseException) -> None:
    """Whatever a call raises is raised to who made it, as itself, and the portal goes on."""
    with pytest.raises(type(error)) as caught:
        portal.call(fail, error)
    assert caught.value is error
    assert portal.call(asyncio.sleep, 0, "on") == "on"


def test_a_callback_that_fails(portal: Portal, caplog: pytest.LogCaptureFixture) -> None:
    """A callback that raises SystemExit doesn't end the portal, and is told of."""
    is_called = threading.Event()

    def callback(_: object) -> None:
        is_called.set()
        raise SystemExit(3)

    begun = asyncio.Event()
    submission = portal.submit(begun.wait)
    submission.future.add_done_callback(callback)
    with caplog.at_level(logging.ERROR):
        portal.submit(_set, begun)
        is_called.wait()
        assert portal.call(asyncio.sleep, 0, "on") == "on"
    assert submission.future.result()
    assert "callback" in caplog.text


async def _set(event: asyncio.Event) -> None:
    event.set()


def test_a_cancelled_call_has_stopped(portal: Portal) -> None:
    """The future of a call that was cancelled, from any thread, is done once its task has stopped, and not before."""
    steps: list[str] = []
    begun = threading.Event()

    async def wait() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            steps.append("stopped")

    submission = portal.submit(wait)
    begun.wait()
    submission.future.add_done_callback(lambda _: steps.append("told"))
    submission.cancel()
    with pytest.raises(CancelledError):
        submission.future.result()
    assert steps == ["stopped", "told"]


def test_what_comes_too_late_is_refused(portal: Portal) -> None:
    """A call that meets the end of the portal, begun by whoever, ends by SessionClosedError or is cancelled: none is left."""
    portal.call(asyncio.sleep, 0)
    before = [portal.submit(asyncio.sleep, 3600) for _ in range(10)]
    portal.end_soon()
    after = [portal.submit(asyncio.sleep, 3600) for _ in range(100)]
    ends = {type(submission.future.exception()) for submission in (*before, *after)}
    assert ends <= {SessionClosedError, CancelledError}


def test_no_room_for_an_event_loop(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an event loop can't be made, for want of descriptors say, a call raises that; a later one tries again."""

    def refuse() -> None:
        raise OSError("too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.events, "new_event_loop", refuse)
        with pytest.raises(OSError, match="too many"):
            portal.submit(asyncio.sleep, 0)
    assert portal.call(asyncio.sleep, 0, "on") == "on"
