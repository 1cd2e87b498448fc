"""Whole programs: where code may live, and how a program ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

import scripts

BODY = """
import anyio, offloop

class Point:
    def __init__(self, x):
        self.x = x
    def __repr__(self):
        return f"Point({self.x})"

def move(point):
    assert type(point) is Point
    return Point(point.x + 1)

class Mover:
    def move(self, point):
        return Point(point.x + 2)

class PointError(Exception):
    pass

def fail(point):
    raise PointError(repr(point))

async def main():
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        points = await session.run_parallel(move, [Point(i) for i in range(5)])
        assert all(type(p) is Point for p in points), points
        assert [p.x for p in points] == [1, 2, 3, 4, 5]
        assert [p.x for p in await session.run_parallel(Mover().move, points)] == [3, 4, 5, 6, 7]
        assert await session.run_parallel(lambda p: p.x, points) == [1, 2, 3, 4, 5]
        assert (await session.run(Point, 9)).x == 9
        try:
            await session.run(fail, Point(1))
        except PointError as error:
            assert str(error) == "Point(1)"
        else:
            raise AssertionError("no PointError")
    assert await offloop.run_parallel(move, []) == []
    print("all is well")
"""
RUN = "anyio.run(main)\n"


@pytest.mark.fault(58)
def test_a_script_without_a_main_guard(tmp_path: Path) -> None:
    """No `if __name__ == "__main__"` is needed, and classes of the script travel both ways as themselves."""
    done = scripts.run(BODY + RUN, cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("all is well\n", "", 0)


@pytest.mark.fault(58)
def test_a_command_line(tmp_path: Path) -> None:
    """python -c works."""
    done = scripts.run(None, "-c", BODY + RUN, cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("all is well\n", "", 0)


@pytest.mark.fault(58)
def test_standard_input(tmp_path: Path) -> None:
    """A program piped into the interpreter works."""
    done = scripts.run(None, "-", cwd=tmp_path, stdin=BODY + RUN)
    assert (done.stdout, done.stderr, done.returncode) == ("all is well\n", "", 0)


def test_a_module(tmp_path: Path) -> None:
    """python -m works."""
    (tmp_path / "program.py").write_text(BODY + RUN)
    done = scripts.run(None, "-m", "program", cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("all is well\n", "", 0)


@pytest.mark.fault(58)
def test_a_notebook_kernel(tmp_path: Path) -> None:
    """In IPython cells, with top-level await, classes and functions of earlier cells travel, redefined ones too."""
    program = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
def cell(code):
    result = shell.run_cell(code)
    result.raise_error()
    return result.result
cell({BODY!r})
cell("await main()")
cell("import offloop\\ndef f(x): return x + 1")
assert cell("await offloop.run_parallel(f, [1, 2], strategy='processes')") == [2, 3]
cell("def f(x): return x + 10")
assert cell("await offloop.run_parallel(f, [1, 2], strategy='processes')") == [11, 12]
cell("await offloop.close_default_session()")
"""
    done = scripts.run(program, cwd=tmp_path)
    assert "all is well" in done.stdout
    assert (done.stderr, done.returncode) == ("", 0)


FORGETFUL = """
import sys, time, anyio, offloop, workloads as w
kind, path = sys.argv[1:]

async def main():
    if kind == "default":
        await offloop.run_parallel(w.double, range(10), strategy="processes")
    else:
        global session
        session = offloop.ParallelSession(strategy="processes", workers=2).open()
        await session.warm()
        await session.run(w.double, 2)

anyio.run(main)
w.append(path, time.time())
"""


@pytest.mark.fault(38)
@pytest.mark.parametrize("kind", ["default", "session"])
def test_a_forgotten_session_does_not_hold_up_the_exit(tmp_path: Path, kind: str) -> None:
    """An interpreter with live workers exits at once, silently, with its own status."""
    done = scripts.run(FORGETFUL, kind, str(tmp_path / "end"), cwd=tmp_path)
    took = time.time() - float((tmp_path / "end").read_text())
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert took < 3


INTERRUPTED = """
import sys, anyio, offloop, workloads as w

async def main(path):
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        await session.warm()
        print(*session.statistics().workers, sep="\\n", file=open(path + ".pids", "w"), flush=True)
        fn = {"cooperative": w.loop_until_cancelled, "deaf": w.loop_deaf}[sys.argv[2]]
        await session.run_parallel(fn, [path] * 2, chunk_size=1, grace_s=0.5)

options = {"use_uvloop": True} if sys.argv[1] == "uvloop" else {}
anyio.run(main, sys.argv[3], backend="trio" if sys.argv[1] == "trio" else "asyncio", backend_options=options)
"""


@pytest.mark.fault(47)
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("item", ["cooperative", "deaf"])
def test_ctrl_c(tmp_path: Path, backend: str, item: str) -> None:
    """Ctrl-C reaches the whole process group: one traceback, of the parent, and a quick exit with no worker left."""
    with scripts.started(INTERRUPTED, backend, item, str(tmp_path / "run"), cwd=tmp_path) as process:
        pids = [int(line) for line in scripts.wait_for_lines(tmp_path / "run.pids")]
        scripts.wait_for_lines(tmp_path / "run.began", len(pids))
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=8)
        assert scripts.gone(pids, 1)
    stderr = (tmp_path / "stderr").read_text()
    assert [line for line in stderr.splitlines() if line.strip(" |+-")][-1].strip(" |") == "KeyboardInterrupt"
    chained = stderr.count("During handling of") + stderr.count("direct cause of")
    nested = stderr.count("| Traceback (most recent call last)")  # trio shows the group that it came through
    assert stderr.count("Traceback (most recent call last)") - chained - nested == 1
    for stranger in ("serve.py", "process_executor", "resource_tracker", "Process-"):
        assert stranger not in stderr
    assert scripts.semaphore_names(process.pid) == []


FORKING = """
import os, sys, anyio, offloop, workloads as w

async def use(session):
    with anyio.fail_after(10):
        return await session.run_parallel(w.double, range(20))

async def default():
    with anyio.fail_after(20):
        return await offloop.run_parallel(w.double, range(20), strategy="processes")

session = offloop.ParallelSession(strategy="processes", workers=2).open()
expected = list(range(0, 40, 2))
assert anyio.run(use, session) == expected
assert anyio.run(default) == expected
before = session.statistics().workers
pid = os.fork()
if pid == 0:
    code = 1
    try:
        try:
            works = anyio.run(use, session) == expected
        except offloop.OffloopError as error:
            print("child:", type(error).__name__, error, flush=True)
            works = True
        code = 0 if works and anyio.run(default) == expected else 2
        anyio.run(offloop.close_default_session)
    except BaseException:
        import traceback
        traceback.print_exc()
        code = 3
    finally:
        os._exit(code)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert anyio.run(use, session) == expected
assert anyio.run(default) == expected
assert set(before) <= set(session.statistics().workers)
anyio.run(session.aclose)
anyio.run(offloop.close_default_session)
print("parent is well")
"""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="fork beside threads is refused more and more")
@pytest.mark.fault(50)
def test_fork_after_use(tmp_path: Path) -> None:
    """A forked child gets a clear error or workers of its own; the parent's stay the parent's."""
    done = scripts.run(FORKING, cwd=tmp_path)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.endswith("parent is well\n")
