"""Where a session's executor ends: with its program, and in a forked child."""

from __future__ import annotations

from pathlib import Path

import pytest

import scripts

PENDING = """
import atexit, sys
import offloop, workloads as w

@atexit.register
def late():
    try:
        executor.submit(w.double, 1)
    except RuntimeError as error:
        print(error)

if __name__ == "__main__":
    session = offloop.ParallelSession(workers=2).open()
    executor = session.executor(strategy="STRATEGY")
    if WARM:
        session.portal.call(session.warm)
    for x in range(30):
        executor.submit(w.log_and_return, "log", x).add_done_callback(lambda future: w.append("done", future.result()))
    print("the end")
"""


@pytest.mark.parametrize(("strategy", "warm"), [("processes", False), ("processes", True), ("threads", False)])
def test_a_program_ends_when_its_calls_are_over(tmp_path: Path, strategy: str, warm: bool) -> None:
    """What was submitted is executed and told of before the program ends, even if no worker was up; nothing is taken after."""
    code = PENDING.replace("STRATEGY", strategy).replace("WARM", str(warm))
    done = scripts.run(code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["the end", "cannot schedule new futures after interpreter shutdown"]
    for name in ("log", "done"):
        assert sorted(map(int, (tmp_path / name).read_text().split())) == list(range(30))


FORKING = """
import os, threading, time
import offloop, workloads as w

if __name__ == "__main__":
    session = offloop.ParallelSession(workers=1).open()
    with session.executor() as executor:
        futures = [executor.submit(w.wait_for_file, "call") for _ in range(2)]
        while not w.lines(__import__("pathlib").Path("call.began")):
            time.sleep(0.001)
        child = os.fork()
        if not child:
            try:
                executor.submit(w.double, 1)
            except RuntimeError as error:
                print("before a fork" in str(error), flush=True)
            executor.shutdown()
            os._exit(0)
        print(os.waitpid(child, 0)[1] == 0, flush=True)
        open("call.go", "w").close()
        print([future.result() for future in futures])
    session.portal.call(session.aclose)
    session.portal.close()
"""


def test_a_forked_child_has_no_part_in_it(tmp_path: Path) -> None:
    """In a forked child the executor refuses what is submitted and has nothing to wait for; the parent's goes on."""
    done = scripts.run(FORKING, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["True", "True", "['went', 'went']"]
