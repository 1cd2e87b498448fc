"""A program is told to end by a signal, in each phase of a session: one traceback at most, and nothing is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from subprocess import Popen

import anyio
import psutil
import pytest

import offloop
import scripts
import workloads as w

EXIT_S = 10.0  # the promise is grace_s, of 1 s here; the rest is for busy cores

PROGRAM = """
import signal, sys, anyio, offloop, failpoints, workloads as w

def end(number, frame):
    raise SystemExit(7)

async def tell_of_cancel(path):
    try:
        await anyio.sleep_forever()
    finally:
        w.append(path + ".cancelled", "yes")

async def main(phase, path):
    init = dict(worker_init=failpoints.slow_init, worker_init_args=(path,)) if phase == "starting" else {}
    item = {"cooperating": w.loop_until_cancelled, "looping": w.loop_deaf}.get(phase, failpoints.hold_the_gil_for_good)
    async with offloop.ParallelSession(strategy="processes", workers=2, **init) as session, anyio.create_task_group() as tasks:
        if phase == "idle":
            await session.warm()
            await session.run(w.append, path + ".began", "idle")
            await anyio.sleep_forever()
        if phase == "draining":
            tasks.start_soon(session.run, w.loop_until_cancelled, path)
            await w.appears(path + ".began")
            await session.drain()
        tasks.start_soon(tell_of_cancel, path)
        tasks.start_soon(session.run, item, path)
        if phase == "closing":
            await w.appears(path + ".began")
            tasks.cancel_scope.cancel()

phase, backend, path, handler = sys.argv[1:]
if handler == "host":
    signal.signal(signal.SIGTERM, end)
options = {"use_uvloop": True} if backend == "uvloop" else {}
anyio.run(main, phase, path, backend="trio" if backend == "trio" else "asyncio", backend_options=options)
"""


def workers_of(process: Popen[str]) -> list[int]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child.pid for child in children if not any("resource_tracker" in part for part in child.cmdline())]


def tracebacks(stderr: str) -> int:
    """Return how many errors a program has told of; one in a chain or a group is a part of the other."""
    parts = stderr.count("During handling of") + stderr.count("direct cause of")
    parts += stderr.count("| Traceback (most recent call last)")
    return stderr.count("Traceback (most recent call last)") - parts


IS_LONG = bool(os.environ.get("FAULTS_LONG"))
PHASES = {  # with the file that tells that it has come
    "starting": "began",
    "idle": "began",
    "cooperating": "began",
    "looping": "began",
    "holding the GIL": "began",
    "draining": "began",
    "closing": "cancelled",
}
WITH_THE_LOOP = {"starting", "looping", "closing"}  # where what the loop does at a Ctrl-C may matter


@pytest.mark.fault(47, 59)
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize(
    "phase", [phase if phase in WITH_THE_LOOP else pytest.param(phase, marks=pytest.mark.one_loop) for phase in PHASES]
)
def test_ctrl_c_in_each_phase(tmp_path: Path, phase: str, backend: str) -> None:
    """One KeyboardInterrupt, no word of any worker, and none left."""
    with scripts.started(PROGRAM, phase, backend, str(tmp_path / "run"), "none", cwd=tmp_path) as process:
        scripts.wait_for_lines(tmp_path / f"run.{PHASES[phase]}")
        pids = workers_of(process)
        assert pids
        os.killpg(process.pid, signal.SIGINT)
        process.wait(EXIT_S)
        assert scripts.gone(pids, 1.0)
    stderr = (tmp_path / "stderr").read_text()
    assert [line for line in stderr.splitlines() if line.strip(" |+-")][-1].strip(" |") == "KeyboardInterrupt"
    assert tracebacks(stderr) == 1
    for stranger in ("serve.py", "process_executor", "resource_tracker", "Process-"):
        assert stranger not in stderr
    assert scripts.semaphore_names(process.pid) == []


@pytest.mark.fault(47)
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_ctrl_c_twice(tmp_path: Path, backend: str) -> None:
    """A second Ctrl-C while the first one's cancel waits for an item that is deaf to it ends the program as well."""
    with scripts.started(PROGRAM, "holding the GIL", backend, str(tmp_path / "run"), "none", cwd=tmp_path) as process:
        scripts.wait_for_lines(tmp_path / "run.began")
        pids = workers_of(process)
        os.killpg(process.pid, signal.SIGINT)
        scripts.wait_for_lines(tmp_path / "run.cancelled")
        os.killpg(process.pid, signal.SIGINT)
        process.wait(EXIT_S)
        assert process.returncode != 0
        assert scripts.gone(pids, 1.0)
    stderr = (tmp_path / "stderr").read_text()
    assert "KeyboardInterrupt" in stderr
    assert "serve.py" not in stderr
    assert scripts.semaphore_names(process.pid) == []


@pytest.mark.fault(46)
@pytest.mark.parametrize(
    ("phase", "signal_name"),
    [(phase, "SIGTERM") for phase in PHASES] + [(phase, "SIGHUP") for phase in PHASES if IS_LONG or phase in WITH_THE_LOOP],
)
def test_the_default_of_a_signal_ends_workers_too(tmp_path: Path, phase: str, signal_name: str) -> None:
    """A program without handlers dies of SIGTERM and SIGHUP as any does, and its workers with it."""
    number = signal.Signals[signal_name]
    with scripts.started(PROGRAM, phase, "asyncio", str(tmp_path / "run"), "none", cwd=tmp_path) as process:
        scripts.wait_for_lines(tmp_path / f"run.{PHASES[phase]}")
        pids = workers_of(process)
        os.kill(process.pid, number)
        assert process.wait(EXIT_S) == -number
        assert scripts.gone(pids, 1.0)
    assert (tmp_path / "stderr").read_text() == ""


@pytest.mark.fault(46)
@pytest.mark.parametrize("backend", ["asyncio", "uvloop"])  # a handler that raises breaks trio itself
@pytest.mark.parametrize("phase", ["starting", "looping", "closing"])
def test_a_handler_of_the_host_decides(tmp_path: Path, phase: str, backend: str) -> None:
    """Where the program has a handler for SIGTERM that one is called, and its exit code is the program's."""
    with scripts.started(PROGRAM, phase, backend, str(tmp_path / "run"), "host", cwd=tmp_path) as process:
        scripts.wait_for_lines(tmp_path / f"run.{PHASES[phase]}")
        pids = workers_of(process)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(EXIT_S) == 7
        assert scripts.gone(pids, 1.0)
    assert "serve.py" not in (tmp_path / "stderr").read_text()


@pytest.mark.anyio
@pytest.mark.fault(46)
async def test_handlers_stay_what_they_are(anyio_backend: object, tmp_path: Path) -> None:
    """Nothing that a session does, cancelling and closing included, changes how this process handles a signal."""

    def handlers() -> dict[int, object]:
        return {number: signal.getsignal(number) for number in signal.valid_signals()}

    before, masked = handlers(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    async with offloop.ParallelSession(workers=2) as session:
        for strategy in ("processes", "threads", "serial"):
            async with anyio.create_task_group() as tasks:
                path = f"{tmp_path}/{strategy}"
                tasks.start_soon(_call, session, path, strategy)
                await w.appears(f"{path}.began")
                assert handlers() == before
                tasks.cancel_scope.cancel()
            assert handlers() == before
    assert (handlers(), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == (before, masked)


async def _call(session: offloop.ParallelSession, path: str, strategy: str) -> None:
    await session.run(w.loop_until_cancelled, path, strategy=strategy)  # type: ignore[arg-type]
