"""What others may see: names that are escaped, secrets that are not told, and nothing that a stranger could talk to."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import structlog

import hostile as h
import offloop
import workloads as w

pytestmark = pytest.mark.anyio

LINE_OF_OURS = re.compile(r"  (where|fn|cause|fix|stack): ")

@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop will do: what is proved here knows nothing of it."""
    return "asyncio"


@pytest.fixture
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        yield session


@pytest.fixture
def json_log() -> Iterator[io.StringIO]:
    """What structlog writes as lines of JSON."""
    written = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer(default=repr)],
        logger_factory=structlog.PrintLoggerFactory(written),
    )
    try:
        yield written
    finally:
        structlog.reset_defaults()


# --- names -------------------------------------------------------------------------------------------------------------


def texts_in(event: offloop.Event) -> list[str]:
    return [value for field in fields(event) if isinstance(value := getattr(event, field.name), str)]


def check_text(error: BaseException) -> None:
    """Assert that an error of ours shows nothing but what can be printed, and no line but its own."""
    first, *others = str(error).split("\n")
    assert "CRITICAL root logged in" in str(error)
    assert all(line.isprintable() for line in (first, *others)), ascii(str(error))
    assert all(LINE_OF_OURS.match(line) for line in others), str(error)


EVIL_FUNCTIONS = {
    "result": (h.evil_return, offloop.UnpicklableResult),
    "exception": (h.evil_raise, offloop.ItemError),
    "exit": (h.evil_exit, offloop.ItemError),
    "crash": (partial(w.die_if_told, "SIGKILL"), offloop.WorkerCrashed),
}


@pytest.mark.fault(76)
@pytest.mark.parametrize("kind", EVIL_FUNCTIONS)
async def test_names_in_errors_and_events(session: offloop.ParallelSession, kind: str) -> None:
    """Whatever a function, a class or a run is called, errors and events of ours show it without control characters."""
    body, expected = EVIL_FUNCTIONS[kind]
    with w.heard() as told, anyio.fail_after(40):
        for call in (
            partial(session.run_parallel, h.with_evil_name(body), [1, 2], label=h.EVIL),
            partial(session.run, h.with_evil_name(body), 1, label=h.EVIL),
        ):
            with pytest.raises(expected) as caught:
                await call()
            check_text(caught.value)
            for note in caught.value.__notes__ if kind != "crash" else ():
                assert note.replace("\n", " ").isprintable(), ascii(note)
    assert {"parallel.decision", "parallel.finished"} <= {event.event for event in told}
    for event in told:
        assert all(text.isprintable() for text in texts_in(event)), event


@pytest.mark.fault(76)
async def test_names_of_what_cannot_be_sent(session: offloop.ParallelSession) -> None:
    """So do errors about items, functions and initializers."""
    fn = h.with_evil_name(w.echo)
    with anyio.fail_after(40):
        for item in (h.evil_return(0), h.evil_kind(h.EvilHolder)(), h.EvilHolder()):
            with pytest.raises(offloop.UnpicklableItem) as unsent:
                await session.run_parallel(fn, [item])
            check_text(unsent.value)
        with pytest.raises(offloop.UnpicklableFunction) as unbound:
            await session.run(partial(fn, h.EvilHolder()))
        check_text(unbound.value)
        async def evil() -> None: ...

        evil.__qualname__ = h.EVIL
        with pytest.raises(offloop.AsyncFunctionError) as refused:
            await session.run(evil)  # type: ignore[arg-type]
        check_text(refused.value)
    async with offloop.ParallelSession(
        strategy="processes", workers=1, worker_init=h.with_evil_name(h.evil_raise), worker_init_args=(1,)
    ) as broken:
        with anyio.fail_after(40), pytest.raises(offloop.WorkerInitError) as failed:
            await broken.run(w.double, 1)
        check_text(failed.value)


@pytest.mark.fault(76)
@pytest.mark.parametrize("through", ["logging", "structlog"])
async def test_names_in_logs(
    session: offloop.ParallelSession, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest, through: str
) -> None:
    """A record is one line, and nothing in it colours or clears a terminal."""
    log = request.getfixturevalue("json_log") if through == "structlog" else None
    with caplog.at_level(logging.DEBUG), anyio.fail_after(40):
        for body, expected in EVIL_FUNCTIONS.values():
            with pytest.raises(expected):
                await session.run(h.with_evil_name(body), 1, label=h.EVIL)
    if log is None:
        lines = [record.getMessage() for record in caplog.records if record.name == "offloop"]
    else:
        lines = [text for line in log.getvalue().splitlines() for text in map(str, json.loads(line).values())]
    assert any("CRITICAL root logged in" in line for line in lines)
    assert [line for line in lines if not line.isprintable()] == []


# --- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.fault(77)
@pytest.mark.parametrize("strategy", ["auto", "serial", "threads", "processes"])
async def test_no_argument_is_logged(
    session: offloop.ParallelSession,
    json_log: io.StringIO,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    strategy: Any,
) -> None:
    """What goes in and out, bound, as an item, as a key, as a result or in an exception, is in no event, log or output."""
    ways = ["well", "raise", "unpicklable error", "exit", "unpicklable result"]
    if strategy == "processes":
        ways += ["die", "slow"]
    with caplog.at_level(logging.DEBUG), w.heard() as told, anyio.fail_after(60):
        for way in ways:
            for bound in (h.SECRET, {h.SECRET: h.Secretive()}):
                items = [(h.SECRET, way), (h.Secretive(), "well")]
                limit = {"item_timeout_s": 0.2} if way == "slow" else {}
                fn = partial(h.keep_secret, bound)
                await session.run_parallel(fn, items, on_error="collect", strategy=strategy, grace_s=0.1, **limit)
        if strategy == "processes":
            for bad in ({h.SECRET: w.Client()}, [h.SECRET, w.Client()]):
                with pytest.raises(offloop.UnpicklableItem):
                    await session.run(w.echo, bad)
                with pytest.raises(offloop.UnpicklableFunction):
                    await session.run(partial(w.add, bad), 1)
        await session.run_parallel(w.echo, [{h.SECRET: w.Client()}], strategy="auto", on_error="collect", item_cost_s=0.1)
    assert told
    everything = [repr(event.as_dict()) for event in told]
    everything += [json_log.getvalue(), caplog.text, *capfd.readouterr()]
    assert [text for text in everything if h.SECRET in text] == []


@pytest.mark.fault(77)
async def test_no_argument_is_in_the_process_list(anyio_backend: object) -> None:
    """What worker_init gets is not in a worker's command line, which every user of the machine can read."""
    async with offloop.ParallelSession(
        strategy="processes", workers=1, worker_init=w.make_state, worker_init_args=(h.SECRET,)
    ) as session:
        pid, line, _ = await session.run(h.show_self)
        assert pid != os.getpid()
        assert h.SECRET.encode() not in line
        with pytest.raises(offloop.SettingError) as caught:
            offloop.ParallelSession(worker_init_args=h.SECRET, worker=2)  # type: ignore[call-arg,arg-type]
        assert h.SECRET not in str(caught.value)


# --- strangers ---------------------------------------------------------------------------------------------------------


def listening() -> set[str]:
    """Return the sockets of this machine that somebody could connect to, by the names of their descriptors."""
    found = set()
    for family in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            if row.split()[3] == "0A":
                found.add(f"socket:[{row.split()[9]}]")
    for row in Path("/proc/net/unix").read_text().splitlines()[1:]:
        if int(row.split()[3], 16) & 1 << 16 or len(row.split()) > 7:
            found.add(f"socket:[{row.split()[6]}]")
    return found


def own_descriptors() -> set[str]:
    return set(h.show_self()[2])


@pytest.mark.fault(78)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("transport", ["memory", "file", "portable"])
async def test_nobody_can_connect(anyio_backend: object, transport: Any) -> None:
    """Neither this process nor a worker listens, or has a socket with a name, while there is work."""
    before = own_descriptors()
    async with offloop.ParallelSession(strategy="processes", workers=2, transport=transport) as session:
        await session.warm()
        items = [np.ones(1 << 17)] * 4
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run_parallel, w.double, items)
            there = {name for _, _, names in await session.run_parallel(h.show_self, range(8)) for name in names}
        named = listening()
        assert not named & there
        assert not named & (own_descriptors() - before)


@pytest.mark.fault(78)
async def test_no_key_is_fixed(anyio_backend: object) -> None:
    """What a worker proves itself with is new for each worker, and in no command line or environment."""
    from offloop.pool import wiring

    tokens: list[bytes] = []
    really = wiring.secrets.token_bytes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring.secrets, "token_bytes", lambda n: tokens.append(really(n)) or tokens[-1])
        async with offloop.ParallelSession(strategy="processes", workers=2, transport="portable") as session:
            await session.warm()
            seen = [
                Path(f"/proc/{pid}/{what}").read_bytes()
                for pid in (*session.statistics().workers, os.getpid())
                for what in ("cmdline", "environ")
            ]
    assert len(set(tokens)) == len(tokens)
    assert sum(len(token) >= 16 for token in tokens) == 2
    assert not [text for text in seen for token in tokens if token in text or token.hex().encode() in text]


# --- files -------------------------------------------------------------------------------------------------------------


def names_there() -> set[str]:
    import tempfile

    places = ("/dev/shm", tempfile.gettempdir())
    return {f"{place}/{name}" for place in places for name in os.listdir(place) if not name.startswith("sem.")}


def files_open(_: Any) -> list[tuple[str, int]]:
    """Return the names and modes of files in which data travels, that this process has open."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            facts, name = os.stat(f"/proc/self/fd/{fd}"), os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if stat.S_ISREG(facts.st_mode) and name.startswith(("/dev/shm", "/tmp", "/memfd:offloop")):
            found.append((name, stat.S_IMODE(facts.st_mode)))
    return found


def make_and_look(array: Any) -> tuple[Any, list[str], list[tuple[str, int]]]:
    """Return what can be seen while a worker has an array, with another."""
    return array + 1, sorted(names_there()), files_open(None)


@pytest.mark.fault(79)
@pytest.mark.parametrize("transport", ["memory", "file"])
async def test_data_travels_without_a_name(
    anyio_backend: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: Any
) -> None:
    """Nothing of it has a name that somebody could plant a link under, and files are the user's alone, whatever the umask."""
    import tempfile

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    umask = os.umask(0)
    try:
        before = names_there()
        async with offloop.ParallelSession(strategy="processes", workers=2, transport=transport) as session:
            results = await session.run_parallel(make_and_look, [np.ones(1 << 17)] * 6, chunk_size=1)
            assert [array[0] for array, _, _ in results] == [2.0] * 6
            for _, names, files in results:
                new = set(names) - before
                assert not [name for name in new if "offloop" in name or name.startswith(str(tmp_path))]
                assert all("(deleted)" in name for name, _ in files)
                assert all(mode == 0o600 for name, mode in files if "memfd" not in name)
        assert not [name for name in names_there() - before if name.startswith(str(tmp_path))]
    finally:
        os.umask(umask)
