"""Hosts of every kind: small machines, programs without a file, loops within loops, clocks that jump."""

from __future__ import annotations

import ast
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
import uvloop

import hostile as h
import offloop
import scripts
import shortages
import workloads as w

# --- small machines ----------------------------------------------------------------------------------------------------

SMALL = """
import os, pathlib, sys
import shortages
{before}

import anyio, offloop, workloads as w

async def main():
    async with offloop.ParallelSession() as session:
        decision = await session.decide(w.spin, [0.01] * 100, item_cost_s=0.01)
        assert decision.workers == 1, decision
        pids = await session.run_parallel(w.spin_and_tell, [0.001] * 50, strategy="processes")
        assert len(set(pids)) == 1, pids
        assert await session.run_parallel(w.double, range(50)) == list(range(0, 100, 2))
        assert session.statistics().workers_started == 1
    print("all is well")

anyio.run(main)
"""
ONE_CORE = "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
HALF_A_CORE = """
group = pathlib.Path(sys.argv[1], "inner")
try:
    group.mkdir(parents=True)
    (group.parent / "cpu.cfs_period_us").write_text("100000")
    (group.parent / "cpu.cfs_quota_us").write_text("50000")
    (group / "cgroup.procs").write_text(str(os.getpid()))
except OSError as error:
    shortages._give_up(f"no control group can be made: {error}")
"""


def works(done: Any) -> None:
    """Assert that a program ended well, or skip where its plight can't be had."""
    if done.returncode == shortages.CANNOT:
        pytest.skip(done.stdout.strip())
    assert (done.stdout, done.returncode) == ("all is well\n", 0), done.stderr


def remove_group(folder: Path) -> None:
    """Remove a control group once the processes that are left in it have ended."""
    end = time.monotonic() + 10
    while folder.exists():
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


@pytest.mark.fault(57)
def test_an_affinity_of_one(tmp_path: Path) -> None:
    """On one core there is one worker, however much there is to do."""
    works(scripts.run(SMALL.format(before=ONE_CORE), cwd=tmp_path))


@pytest.mark.fault(57)
def test_half_a_core(tmp_path: Path) -> None:
    """So there is where a control group around this one grants half a core, whatever this one says."""
    group = Path(f"/sys/fs/cgroup/cpu/offloop-test-{os.getpid()}")
    try:
        works(scripts.run(SMALL.format(before=HALF_A_CORE), str(group), cwd=tmp_path))
    finally:
        for folder in (group / "inner", group):
            remove_group(folder)


# --- programs without a file -------------------------------------------------------------------------------------------

PROMPT = """
import offloop, anyio
def double(x):
    return 2 * x

class Point:
    def __init__(self, x):
        self.x = x

{first} offloop.run_parallel({double} [1, 2, 3], strategy="processes"){last}
{first} offloop.run_parallel({move} [Point(1)], strategy="processes"){last}
def double(x):
    return 20 * x

{first} offloop.run_parallel({double} [1, 2, 3], strategy="processes"){last}
{first} offloop.close_default_session(){last}
"""


@pytest.mark.fault(58)
@pytest.mark.parametrize("kind", ["-i", "asyncio"])
def test_a_prompt(tmp_path: Path, kind: str) -> None:
    """At the interpreter's prompt, and at asyncio's with its top-level await, what was typed in travels, retyped as well."""
    if kind == "-i":
        ways = {"first": "run(lambda:", "double": "double,", "move": "lambda p: p.x + 1,", "last": ")"}
        typed = f"def run(call):\n    async def main():\n        return await call()\n    return __import__('anyio').run(main)\n\n{PROMPT.format(**ways)}"
        done = scripts.run(None, "-i", "-q", cwd=tmp_path, stdin=typed)
    else:
        ways = {"first": "await", "double": "double,", "move": "lambda p: p.x + 1,", "last": ""}
        done = scripts.run(None, "-m", "asyncio", cwd=tmp_path, stdin=PROMPT.format(**ways))
    lines = [line.lstrip(">. ") for line in done.stdout.splitlines()]
    assert [line for line in lines if line.startswith("[")] == ["[2, 4, 6]", "[2]", "[20, 40, 60]"], done.stderr
    assert "Error" not in done.stderr
    assert done.returncode == 0


# --- loops within loops ------------------------------------------------------------------------------------------------

HOSTS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def in_guest_mode(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    guest: Callable[[], Awaitable[Any]],
    host: Callable[[], Awaitable[Any]],
) -> None:
    """Run something on trio as a guest of another loop, and something else on that loop itself, side by side."""
    loop = make_loop()
    ended: asyncio.Future[Any] = loop.create_future()

    async def both() -> None:
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=ended.set_result,
            host_uses_signal_set_wakeup_fd=True,
        )
        try:
            await host()
        finally:
            outcome = await ended
        outcome.unwrap()

    try:
        loop.run_until_complete(both())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


async def keep_contract(session: offloop.ParallelSession, path: str) -> None:
    """Have results, failures, a crash, a cancellation and threads on whatever loop this runs."""
    with anyio.fail_after(60):
        assert await session.run_parallel(w.double, range(100)) == list(range(0, 200, 2))
        boxes = [w.Boxed(bytes(200_000))] * 4
        assert await session.run_parallel(w.echo, boxes) == boxes
        assert await session.run_parallel(w.double, range(20), strategy="threads") == list(range(0, 40, 2))
        with pytest.raises(w.OwnError):
            await session.run_parallel(w.fail_on_3, range(10))
        crashed = await session.run_parallel(partial(w.die_on_5, "SIGKILL", path), range(10), on_error="collect")
        assert isinstance(crashed.pop(5), offloop.WorkerCrashed)
        assert crashed == [2 * x for x in range(10) if x != 5]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(session.run, w.loop_deaf, f"{path}.deaf", grace_s=0.2))
            await w.appears(f"{path}.deaf.began")
            tasks.cancel_scope.cancel()
        assert await session.run(w.double, 21) == 42


@pytest.mark.fault(59)
@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_guest_mode(tmp_path: Path, host: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """On trio as a guest of another loop the contract is the same, and so it is on the host beside it."""

    async def one(name: str) -> None:
        async with offloop.ParallelSession(strategy="processes", workers=2) as session:
            await keep_contract(session, f"{tmp_path}/{name}")

    in_guest_mode(host, partial(one, "guest"), partial(one, "host"))


@pytest.mark.fault(59)
@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_guest_and_host_share_a_session(host: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Two loops in one thread use the same workers side by side, each with its own results."""
    session = offloop.ParallelSession(strategy="processes", workers=2).open()

    async def use(base: int) -> None:
        with anyio.fail_after(60):
            for k in range(20):
                items = [w.Boxed(base + k + i) for i in range(20)]
                assert await session.run_parallel(w.echo, items) == items
                assert await session.run(w.double, base + k) == 2 * (base + k)

    in_guest_mode(host, partial(use, 0), partial(use, 10_000))
    anyio.run(session.aclose)


# --- clocks that jump --------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.fault(60)
async def test_a_wall_clock_that_jumps(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Years forward and back at every look, here and in the workers: no limit passes early, none late, nothing else changes."""
    monkeypatch.setattr(time, "time", h.wild_time)
    monkeypatch.setattr(time, "time_ns", lambda: int(h.wild_time() * 1e9))
    async with offloop.ParallelSession(strategy="processes", workers=2, worker_init=h.wild_clock) as session:
        await keep_contract(session, f"{tmp_path}/run")
        with anyio.fail_after(30):
            slow = await session.run_parallel(w.sleep, [0.05] * 4, item_timeout_s=20)
            assert slow == [0.05] * 4
            with pytest.raises(offloop.ItemTimeout):
                await session.run(w.loop_deaf, f"{tmp_path}/late", timeout_s=0.2, grace_s=0.2)
            assert await session.run(w.double, 2) == 4


@pytest.mark.fault(60)
def test_only_monotonic_clocks_are_looked_at() -> None:
    """Nothing in the package asks what time of day it is, but for the age of a file, and to date what others will read."""
    package = Path(offloop.__file__).parent
    wall = {"time", "time_ns", "now", "utcnow", "today", "localtime", "gmtime", "ctime", "strftime", "fromtimestamp"}
    found, dated = [], {package / "bench" / "host.py", package / "sinks" / "opentelemetry.py"}
    for path in sorted({*package.rglob("*.py")} - dated):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            imported = node.names if isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime") else []
            looks = [alias.name for alias in imported if alias.name in {*wall, "datetime"}]
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("time", "datetime", "datetime.datetime"):
                looks += [node.attr] if node.attr in wall else []
            if looks and "st_mtime" not in text.splitlines()[node.lineno - 1]:
                found.append(f"{path.name}:{node.lineno} {looks}")
    assert found == []
