"""A service under uvicorn, in a process of its own: it stops work for who has gone, and ends in good order."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

import scripts

SERVED = Path(__file__).parent / "served.py"


class Answer(NamedTuple):
    """What a client got."""

    status: int
    headers: dict[str, str]
    content: bytes


class Service:
    """A process that serves, and what its clients ask of it."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, port: int) -> None:
        self.process, self.folder, self.port = process, folder, port

    def get(self, path: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def ready(self) -> dict[str, Any]:
        """Wait until the service is ready, and return what it says."""
        return until(lambda: answer.content if (answer := self.get("/readyz")).status == 200 else None, json.loads)

    def n_pending(self) -> int:
        return int(json.loads(self.get("/readyz").content)["pending"])

    def began(self, name: str, count: int = 1) -> list[str]:
        return scripts.wait_for_lines(self.folder / f"{name}.began", count)

    def end(self) -> int:
        """Have the service end, and return its exit code once it has."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def until(value: Callable[[], Any], read: Callable[[Any], Any] = lambda value: value, limit_s: float = 30) -> Any:
    """Wait until this is true, and return it."""
    deadline = time.monotonic() + limit_s
    while not (found := value()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return read(found)


@contextmanager
def serving(folder: Path, *arguments: str, **environ: str) -> Iterator[Service]:
    """Start the service; in the end nothing is left of it, also where a test fails."""
    variables = {**scripts.environment(), "SERVED_FOLDER": str(folder), "OFFLOOP_WORKERS": "2", **environ}
    with (folder / "stderr").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, *(arguments or (str(SERVED),))],
            env=variables, cwd=SERVED.parent, stdin=subprocess.DEVNULL, stderr=err, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield Service(process, folder, int(scripts.wait_for_lines(folder / "port")[0]))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def descendants(service: Service) -> list[int]:
    return [child.pid for child in psutil.Process(service.process.pid).children(recursive=True)]


@pytest.fixture
def clients() -> Iterator[Callable[[Callable[..., Answer], str], Future[Answer]]]:
    """Starts clients that ask side by side."""
    with ThreadPoolExecutor(16) as threads:
        yield threads.submit


def test_every_request_under_way_is_answered(tmp_path: Path, clients: Any) -> None:
    """At SIGTERM what executes, what waits in line and what has more calls to make is answered; then the process exits with 0."""
    with serving(tmp_path) as service:
        service.ready()
        processes = descendants(service)
        answers = [clients(service.get, f"/wait/{n % 2}") for n in range(12)]
        until(lambda: service.n_pending() == 12)
        service.process.send_signal(signal.SIGTERM)
        for n in range(2):
            (tmp_path / f"{n}.go").touch()
        assert [answer.result() for answer in answers] == [(200, answer.result().headers, b"went 2") for answer in answers]
        assert service.process.wait(30) == 0
        assert scripts.gone(processes, within_s=2)
    assert (tmp_path / "stderr").read_text() == ""


def test_nothing_holds_up_the_end(tmp_path: Path, clients: Any) -> None:
    """After the time to drain work is stopped and answered 503; streams end, also to a client that doesn't read; exit code 0."""
    with serving(tmp_path, SERVED_DRAIN_S="0.2", OFFLOOP_GRACE_S="0.2") as service, socket.create_connection(("127.0.0.1", service.port)) as idle:
        service.ready()
        processes = descendants(service)
        idle.sendall(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        stuck, ticks = clients(service.get, "/stuck"), clients(service.get, "/ticks")
        service.began("stuck")
        service.began("flood")
        service.began("ticks")
        assert service.end() == 0
        assert (stuck.result().status, json.loads(stuck.result().content)["title"]) == (503, "Shutting down")
        assert ticks.result().content == b"first\nlast\n"
        assert scripts.gone(processes, within_s=2)


def test_the_gone_and_the_many(tmp_path: Path, clients: Any) -> None:
    """Who goes away has their work stopped, its worker stays; who is too many is told to come back, and others are served."""
    with serving(tmp_path, OFFLOOP_MAX_PENDING="1", OFFLOOP_WORKERS="1") as service:
        service.ready()
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.sendall(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
            (worker,) = service.began("stuck")
            refused = service.get("/wait/0")
        assert (refused.status, refused.headers["content-type"]) == (503, "application/problem+json")
        assert int(refused.headers["retry-after"]) >= 1
        assert json.loads(refused.content)["why"] == "max_pending"
        assert scripts.wait_for_lines(tmp_path / "stuck.stopped") == [worker]
        (tmp_path / "0.go").touch()
        until(lambda: service.n_pending() == 0)
        assert service.get("/wait/0").content == b"went 2"
        assert service.began("0") == [worker]
        assert service.end() == 0


def test_several_web_workers_end_together(tmp_path: Path, clients: Any) -> None:
    """With several web workers each finishes its own requests when their parent is told to stop."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        (tmp_path / "port").write_text(f"{listening.getsockname()[1]}\n")
        port = listening.getsockname()[1]
    options = ("-m", "uvicorn", "served:app", "--port", str(port), "--log-level", "warning")
    with serving(tmp_path, *options, WEB_CONCURRENCY="2") as service:
        served_by = until(lambda: reached(service), set)
        until(lambda: served_by.add(service.get("/pid").content) or len(served_by) == 2)
        processes = descendants(service)
        answers = [clients(service.get, f"/wait/{n}") for n in range(2)]
        for n in range(2):
            service.began(f"{n}")
        service.process.send_signal(signal.SIGTERM)
        for n in range(2):
            (tmp_path / f"{n}.go").touch()
        assert {answer.result().content for answer in answers} == {b"went 2"}
        assert service.process.wait(30) == 0
        assert scripts.gone(processes, within_s=2)


def reached(service: Service) -> list[bytes]:
    """Return who serves, once somebody does."""
    try:
        return [service.get("/pid").content]
    except ConnectionRefusedError:
        return []


def test_a_server_in_a_thread_ends_without_signals(tmp_path: Path) -> None:
    """A server in a thread, which gets no signals, drains when it is told to stop in its own way."""
    with serving(tmp_path, str(SERVED), "thread") as service:
        service.ready()
        processes = descendants(service)
        (tmp_path / "stop").write_text("stop\n")
        assert service.process.wait(30) == 0
        assert scripts.gone(processes, within_s=2)
