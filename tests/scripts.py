"""Running programs as users would: in a fresh interpreter, in a session of its own."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import psutil

TESTS = Path(__file__).parent


def imported(path: Path) -> ModuleType:
    """Import a script that is in no package, from its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def run(
    code: str | None, *arguments: str, cwd: Path, stdin: str | None = None, timeout_s: float = 40
) -> subprocess.CompletedProcess[str]:
    """Run a script file with this code, or the interpreter with these arguments, to its end."""
    command = [sys.executable, *arguments] if code is None else [sys.executable, _file(code, cwd), *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(), input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def _file(code: str, cwd: Path) -> str:
    path = cwd / "script.py"
    path.write_text(code)
    return str(path)


@contextmanager
def started(code: str, *arguments: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a script in a process group of its own; whatever is left of it at the end is killed."""
    with (cwd / "stdout").open("w") as out, (cwd / "stderr").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, _file(code, cwd), *arguments],
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_lines(path: Path, count: int = 1, limit_s: float = 30) -> list[str]:
    """Wait until a file has so many whole lines, and return them."""
    deadline = time.monotonic() + limit_s
    while True:
        text = path.read_text() if path.exists() else ""
        if text.count("\n") >= count:
            return text.splitlines()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path.name} has only {text!r}\n{_stderr_beside(path)}")
        time.sleep(0.005)


def _stderr_beside(path: Path) -> str:
    stderr = path.parent / "stderr"
    return stderr.read_text() if stderr.exists() else ""


def alive(pids: list[int]) -> list[int]:
    """Return those of these processes that still execute; what only waits to be reaped does not."""
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def gone(pids: list[int], within_s: float) -> bool:
    """Return whether these processes end within this time."""
    deadline = time.monotonic() + within_s
    while alive(pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def semaphore_names(pid: int, within_s: float = 2.0) -> list[str]:
    """Return what loky's semaphores of this process are still called, after that time."""
    deadline = time.monotonic() + within_s
    while names := [name for name in os.listdir("/dev/shm") if name.startswith(f"sem.loky-{pid}-")]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return names
