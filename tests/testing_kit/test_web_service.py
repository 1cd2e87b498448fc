"""The example of a web service, with crashes, timeouts and overload: by `offloop.testing` alone, as its users would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from offloop.events import ItemTimedOut, RunFinished, WorkerDied
from offloop.testing import (
    Crash,
    Events,
    Inject,
    Kit,
    Overload,
    Slow,
    TimeOut,
    assert_decided,
    assert_no_fallbacks,
)

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def web_service() -> Iterator[Any]:
    """The example, imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        import web_service

        yield web_service


@pytest.fixture
def client(web_service: Any, offloop_kit: Kit) -> Iterator[TestClient]:
    """A client of the app, whose session is inline."""
    with TestClient(web_service.app) as client:
        yield client


def test_a_page_is_restored(web_service: Any, client: TestClient, offloop_kit: Kit) -> None:
    """The answer is the image; the work was to leave the serving process, and nothing fell back."""
    answer = client.get("/pages/0", params={"reach": 1})
    assert answer.status_code == 200
    assert web_service.pixels_of(answer.content).shape == (96, 96)
    assert_decided(offloop_kit, fn=web_service.restored, strategy="processes", n_items=1)
    assert_no_fallbacks(offloop_kit)


def test_a_crash_is_not_seen_by_the_client(client: TestClient, offloop_faults: Inject, offloop_events: Events) -> None:
    """A worker that dies once costs nobody anything."""
    offloop_faults({0: Crash()})
    assert client.get("/pages/1", params={"reach": 1}).status_code == 200
    assert [event.signal for event in offloop_events.of(WorkerDied)] == ["SIGKILL"]
    assert offloop_events.of(RunFinished)[-1].tasks_retried == 1


def test_a_crash_that_comes_again_is_an_error(client: TestClient, offloop_faults: Inject) -> None:
    """A page that kills each worker is answered as an error, and the next page is restored."""
    offloop_faults({0: Crash(times=2)})
    answer = client.get("/pages/1", params={"reach": 1})
    assert (answer.status_code, answer.json()["status"]) == (500, 500)
    assert client.get("/pages/1", params={"reach": 1}).status_code == 200


@pytest.mark.parametrize("fault", [TimeOut(), Slow(seconds=9)])
def test_what_takes_too_long_is_told(
    web_service: Any, client: TestClient, offloop_faults: Inject, offloop_events: Events, fault: TimeOut | Slow
) -> None:
    """A page that takes longer than it may is answered 504, with the limit."""
    offloop_faults({0: fault}, fn=web_service.restored)
    answer = client.get("/pages/2")
    assert (answer.status_code, answer.json()["limit_s"]) == (504, web_service.TIME_LIMIT_S)
    assert len(offloop_events.of(ItemTimedOut)) == 1


def test_too_many_are_told_when_to_come_again(client: TestClient, offloop_faults: Inject, offloop_kit: Kit) -> None:
    """A call that is one too many is answered 503 with a time, and others are served."""
    offloop_faults({1: Overload(retry_after_s=3)})
    answers = [client.get("/pages/3", params={"reach": 1}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 503, 200]
    assert answers[1].headers["retry-after"] == "3"
    assert offloop_kit.faults_left == []


def test_the_service_is_ready(client: TestClient) -> None:
    """The probes answer as with workers."""
    assert client.get("/ping").json() == "pong"
    assert client.get("/livez").status_code == 200
