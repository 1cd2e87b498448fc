"""Workers of real pools know whose they are; processes that nobody's pool runs know that too.

Dask isn't installed where these tests run, so its workers are tested with made facts alone, in pure/test_foreign_pool.py.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

import scripts

WHOSE = """
import json, os, sys
from offloop.sensing.host import sense_host
from offloop.sensing.system import this_system
from offloop.worker import task

def whose(*_):
    host = sense_host(this_system(), is_worker=task.is_worker_process, is_off=False, lifts_ci=False)
    return [host.foreign_pool, os.getpid(), task.is_worker_process]

def put(connection):
    connection.send(whose())

class Started:
    def put(self, connection):
        put(connection)
"""

PROGRAM = """
import asyncio, functools, json, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import loky
import offloop
from whose import Started, put, whose

found = {}

def process_of(context, target):
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs,))
    process.start()
    answer = ours.recv()
    process.join()
    return answer

def forked():
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.write(theirs, json.dumps(whose()).encode())
        os._exit(0)
    answer = json.loads(os.read(ours, 1000))
    os.wait()
    return answer

async def own_worker():
    async with offloop.ParallelSession(workers=1, strategy="processes") as session:
        return await session.run(whose)

def main():
    found["main"] = whose()
    found["fork"] = forked()
    found["offloop"] = asyncio.run(own_worker())
    with loky.get_reusable_executor(1) as executor:
        found["loky"] = executor.submit(whose).result()
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with context.Pool(1) as pool:
            found[f"Pool {method}"] = pool.apply(whose)
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            found[f"ProcessPoolExecutor {method}"] = executor.submit(whose).result()
        found[f"Process {method}"] = process_of(context, put)
        found[f"Process {method} method"] = process_of(context, Started().put)
        found[f"Process {method} partial"] = process_of(context, functools.partial(put))
    with ThreadPoolExecutor(1) as executor:
        found["ThreadPoolExecutor"] = executor.submit(whose).result()
    with ThreadPool(1) as pool:
        found["ThreadPool"] = pool.apply(whose)
    import joblib
    for backend in ("loky", "multiprocessing", "threading"):
        with joblib.parallel_config(backend, n_jobs=2):
            found[f"joblib {backend}"] = joblib.Parallel()(joblib.delayed(whose)() for _ in range(2))[0]
    found["pid"] = os.getpid()
    print(json.dumps(found))

if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What processes and threads of all kinds find out about themselves."""
    folder = tmp_path_factory.mktemp("pools")
    (folder / "whose.py").write_text(WHOSE, encoding="utf-8")
    done = scripts.run(PROGRAM, cwd=folder, timeout_s=100)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


@pytest.mark.parametrize(
    ("kind", "library"),
    [
        ("joblib loky", "joblib"),
        ("joblib multiprocessing", "multiprocessing"),
        ("loky", "loky"),
        ("Pool fork", "multiprocessing"),
        ("Pool spawn", "multiprocessing"),
        ("ProcessPoolExecutor fork", "concurrent.futures"),
        ("ProcessPoolExecutor spawn", "concurrent.futures"),
    ],
)
def test_a_pool_worker_knows_whose_it_is(found: dict[str, Any], kind: str, library: str) -> None:
    """A worker process of another library's pool names that library."""
    foreign, pid, _ = found[kind]
    assert foreign == library
    assert pid != found["pid"]


@pytest.mark.parametrize(
    "kind",
    ["fork", *(f"Process {method}{target}" for method in ("fork", "spawn") for target in ("", " method", " partial"))],
)
def test_a_started_process_is_nobodys(found: dict[str, Any], kind: str) -> None:
    """A process that a program started for itself, as web servers do, is no pool's worker."""
    foreign, pid, _ = found[kind]
    assert foreign is None
    assert pid != found["pid"]


@pytest.mark.parametrize("kind", ["main", "ThreadPoolExecutor", "ThreadPool", "joblib threading"])
def test_a_thread_pool_makes_no_worker_of_its_process(found: dict[str, Any], kind: str) -> None:
    """A program's main process is nobody's worker, in a thread of a pool neither."""
    assert found[kind] == [None, found["pid"], False]


def test_our_own_worker_is_not_foreign(found: dict[str, Any]) -> None:
    """offloop's own worker, a process of loky, knows that it is offloop's."""
    foreign, pid, is_ours = found["offloop"]
    assert (foreign, is_ours) == (None, True)
    assert pid != found["pid"]
