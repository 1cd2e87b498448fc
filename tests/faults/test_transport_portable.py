"""The portable transport: nobody but the worker gets in, and nothing of its folder stays."""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import offloop
import scripts
import workloads as w
from offloop.pool import wiring
from offloop.pool.folder import PrivateFolder
from offloop.pool.wiring import _Calls

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

FOLDER = 0o700
FILE = 0o600


def listening() -> set[int]:
    """Return the ports at which this process listens on the loopback interface."""
    own = {os.stat(f"/proc/self/fd/{fd}").st_ino for fd in os.listdir("/proc/self/fd") if is_socket(fd)}
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in list(table)[1:]]
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and int(row[9]) in own}


def is_socket(fd: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(f"/proc/self/fd/{fd}").st_mode)
    except OSError:
        return False


# --- the listener ------------------------------------------------------------------------------------------------------


@contextmanager
def first(visit: Callable[[int], object]) -> Iterator[None]:
    """Have somebody visit each listener before the worker can."""
    really = _Calls.__init__

    def init(self: _Calls, *args: Any) -> None:
        really(self, *args)
        visit(self._listener.getsockname()[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Calls, "__init__", init)
        patch.setattr(wiring, "_PROVE_S", 0.3)
        yield


def said(text: bytes) -> Callable[[socket.socket], object]:
    return lambda connection: connection.sendall(text)


INTRUDERS: dict[str, Callable[[socket.socket], object]] = {
    "says nothing": lambda _: None,
    "hangs up": lambda connection: connection.close(),
    "ends its side": lambda connection: connection.shutdown(socket.SHUT_WR),
    "wrong token, lane": said(bytes(32) + b"L"),
    "wrong token, lifeline": said(bytes(32) + b"F"),
    "part of a token": said(b"x" * 10),
    "much": said(b"L" * 5000),
}


@pytest.mark.parametrize("intruder", INTRUDERS.values(), ids=INTRUDERS)
@pytest.mark.parametrize("count", [1, 3, 30])
@pytest.mark.fault(78)
async def test_an_intruder_comes_first(intruder: Callable[[socket.socket], object], count: int) -> None:
    """Whoever connects before the worker, however often, gets nothing, and the worker starts as ever."""
    visitors: list[socket.socket] = []

    def visit(port: int) -> None:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            visitors.append(connection)
            intruder(connection)

    with first(visit), anyio.fail_after(40):
        async with offloop.ParallelSession(strategy="processes", workers=1, transport="portable") as session:
            assert await session.run(w.double, 21) == 42
            assert visitors
            for visitor in visitors:
                assert heard(visitor) == b""


def heard(visitor: socket.socket) -> bytes:
    """Return what a visitor was told before it was turned away."""
    with visitor:
        if visitor.fileno() < 0:
            return b""
        visitor.settimeout(10)
        try:
            return visitor.recv(1000)
        except ConnectionResetError:
            return b""


async def test_one_who_drips() -> None:
    """Somebody who sends a byte now and then keeps nobody waiting."""
    is_over = threading.Event()
    threads: list[threading.Thread] = []

    def drip(port: int) -> None:
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)

        def go_on() -> None:
            with connection:
                try:
                    while not is_over.wait(0.01):
                        connection.sendall(b"x")
                except OSError:
                    return

        threads.append(threading.Thread(target=go_on))
        threads[-1].start()

    try:
        with first(drip), anyio.fail_after(30):
            async with offloop.ParallelSession(strategy="processes", workers=1, transport="portable") as session:
                assert await session.run(w.double, 21) == 42
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


@pytest.mark.fault(78)
async def test_nobody_listens_once_the_worker_is_up() -> None:
    """The port is open only while a worker starts, and on the loopback interface alone."""
    before = listening()
    seen: list[set[int]] = []
    with first(lambda port: seen.append(listening() - before)):
        async with offloop.ParallelSession(strategy="processes", workers=1, transport="portable") as session:
            assert await session.run(w.double, 21) == 42
            assert len(seen) == 1
            assert len(seen[0]) == 1
            assert listening() == before


async def test_a_worker_that_never_comes() -> None:
    """Where the process ends without calling, the start fails and the port is closed."""
    before = listening()
    async with offloop.ParallelSession(
        strategy="processes", workers=1, transport="portable", worker_init=os._exit, worker_init_args=(3,)
    ) as session:
        with pytest.raises(offloop.OffloopError):
            await session.run(w.double, 21)
        assert listening() == before


# --- the folder --------------------------------------------------------------------------------------------------------


def modes(folder: str) -> set[int]:
    return {stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode) for entry in os.scandir(folder)}


def look_at(item: tuple[str, Any]) -> tuple[int, set[int], Any]:
    """Return the modes of a folder and of what is in it, with something large."""
    folder, _ = item
    return stat.S_IMODE(os.stat(folder).st_mode), modes(folder), np.ones(1 << 20)


@pytest.mark.fault(79)
async def test_all_of_it_is_private() -> None:
    """Only the user may enter the folder, and only the user may read what is in there, whatever the umask."""
    umask = os.umask(0)
    try:
        async with offloop.ParallelSession(strategy="processes", workers=2, transport="portable") as session:
            assert session._folder is not None
            path = session._folder.path
            items = [(path, np.ones(1 << 20)) for _ in range(4)]
            for mode, files, _ in await session.run_parallel(look_at, items):
                assert (mode, files) == (FOLDER, {FILE})
            assert (stat.S_IMODE(os.stat(path).st_mode), modes(path)) == (FOLDER, {FILE})
        assert not os.path.exists(path)
    finally:
        os.umask(umask)


async def test_only_the_lock_stays_in_it() -> None:
    """Between calls there is no file of any message in the folder, and none of a worker's start."""
    async with offloop.ParallelSession(strategy="processes", workers=2, transport="portable") as session:
        for _ in range(3):
            await session.run_parallel(w.double, [np.ones(1 << 20)] * 6)
        assert session._folder is not None
        assert os.listdir(session._folder.path) == [".offloop-lock"]


@pytest.mark.fault(79)
async def test_a_link_in_the_place_of_a_message(tmp_path: Path) -> None:
    """A link that somebody has planted where a message is to be is neither written through nor read through."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    async with offloop.ParallelSession(strategy="processes", workers=1, transport="portable") as session:
        await session.warm()
        storage, folder = session._outgoing.storage, session._folder
        assert folder is not None
        for number in range(100):
            os.symlink(secret, f"{folder.path}/{os.getpid()}-{id(storage)}-{number}")
        array = np.arange(1 << 20)
        assert (await session.run(w.double, array) == 2 * array).all()
        assert secret.read_bytes() == b"secret"
        with pytest.raises(OSError, match="symbolic"):
            storage.opened(f"{folder.path}/{os.getpid()}-{id(storage)}-99")
        assert secret.read_bytes() == b"secret"


PROGRAM = """
import os, sys, anyio, numpy as np, offloop, workloads as w

async def main():
    session = offloop.ParallelSession(strategy="processes", workers=2, transport="portable").open()
    await session.warm()
    await session.run_parallel(w.double, [np.ones(1 << 20)] * 4, chunk_size=1)
    print(session._folder.path, *session.statistics().workers, sep="\\n", file=open("ready", "w"), flush=True)
    end = sys.argv[1]
    if end == "exit":
        sys.exit(0)
    if end == "raise":
        raise ValueError
    if end == "gone":
        os._exit(0)
    if end == "return":
        return
    await anyio.sleep(60)

anyio.run(main)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test's own."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.mark.parametrize("end", ["exit", "raise", "return"])
def test_the_folder_goes_with_its_program(anyio_backend: str, tmp_path: Path, temporary: Path, end: str) -> None:
    """A program that ends without closing its session leaves no folder."""
    with scripts.started(PROGRAM, end, cwd=tmp_path) as process:
        pids = [int(line) for line in scripts.wait_for_lines(tmp_path / "ready", 3)[1:]]
        process.wait(30)
        assert scripts.gone(pids, 2.0)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "gone"])
def test_the_next_one_removes_what_is_left(anyio_backend: str, tmp_path: Path, temporary: Path, end: str) -> None:
    """What a program that was killed has left is gone as soon as the next session is made; a living one's stays."""
    living = PrivateFolder()
    with scripts.started(PROGRAM, end, cwd=tmp_path) as process:
        path, *pids = scripts.wait_for_lines(tmp_path / "ready", 3)
        if end != "gone":
            assert os.path.exists(path)
            process.send_signal(getattr(signal, end))
        process.wait(30)
        assert scripts.gone([int(pid) for pid in pids], 2.0)
    PrivateFolder().close()
    assert [str(entry) for entry in temporary.iterdir()] == [living.path]
    living.close()
    assert not list(temporary.iterdir())


def test_a_fork_leaves_the_folder_alone(anyio_backend: str, temporary: Path) -> None:
    """A forked child that ends removes nothing of its parent's."""
    folder = PrivateFolder()
    pid = os.fork()
    if pid == 0:
        folder.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.listdir(folder.path) == [".offloop-lock"]
    PrivateFolder().close()
    assert os.path.exists(folder.path)
    folder.close()
    assert not list(temporary.iterdir())


@pytest.mark.fault(79)
def test_what_others_have_stays(anyio_backend: str, temporary: Path) -> None:
    """A folder that only has such a name, or a link to one, is nobody's to remove."""
    mine = temporary / "offloop-results"
    mine.mkdir()
    (mine / "lock").touch()
    elsewhere = temporary.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".offloop-lock").touch()
    (elsewhere / "data").touch()
    (temporary / "offloop-link").symlink_to(elsewhere)
    (temporary / "offloop-file").touch()
    PrivateFolder().close()
    assert sorted(path.name for path in temporary.iterdir()) == ["offloop-file", "offloop-link", "offloop-results"]
    assert (elsewhere / "data").exists()


def test_many_at_a_time(anyio_backend: str, temporary: Path) -> None:
    """Sessions that are made at the same moment don't take each other's folder for a dead one's."""
    folders: list[PrivateFolder] = []
    gone: list[str] = []

    def make() -> None:
        for _ in range(40):
            folder = PrivateFolder()
            if not os.path.exists(f"{folder.path}/.offloop-lock"):
                gone.append(folder.path)
            folders.append(folder)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not gone
    assert all(os.path.exists(f"{folder.path}/.offloop-lock") for folder in folders)
    for folder in folders:
        folder.close()
    assert not list(temporary.iterdir())
