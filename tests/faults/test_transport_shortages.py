"""Large messages where memory files can't be had: by a filter, on a full disk, under limits; each made to happen."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import scripts
import shortages

PROGRAM = """
import os, sys, tempfile
import shortages

{before}

import anyio
import numpy as np
import offloop
import workloads as w

def names():
    places = {{"/dev/shm", tempfile.tempdir or os.environ["TMPDIR"]}}
    return {{name for place in places if os.path.isdir(place) for name in os.listdir(place) if not name.startswith("sem.")}}

async def right(session, n_bytes=12 << 20, count=4):
    data = [np.full(n_bytes // 8, k, np.int64) for k in range(count)]
    results = await session.run_parallel(w.double, data, chunk_size=1)
    assert all((result == 2 * k).all() and len(result) == n_bytes // 8 for k, result in enumerate(results))
    assert (await session.run(w.double, data[1]))[-1] == 2
    shared = session.share(data[-1])
    assert [value[0] for value in await session.run_parallel(sum, [[data[0], shared]] * 2)] == [count - 1] * 2

async def main():
    before = names()
    async with offloop.ParallelSession(strategy="processes", workers=2, transport="{transport}") as session:
        await session.warm()
        {within}
        await right(session)
        assert await session.run(w.double, 21) == 42
    left = names() - before
    assert not left, left
    print("all is well")

anyio.run(main, backend="{backend}")
"""


def works(
    tmp_path: Path, before: str, transport: str = "memory", within: str = "pass", backend: str = "asyncio"
) -> subprocess.CompletedProcess[str]:
    """Run the program in some plight; it must end well, and leave nothing behind."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    program = PROGRAM.format(before=before, transport=transport, within=within, backend=backend)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        done = scripts.run(program, str(temporary), cwd=tmp_path, timeout_s=90)
    if done.returncode == shortages.CANNOT:
        pytest.skip(done.stdout.strip())
    assert (done.stdout, done.returncode) == ("all is well\n", 0), done.stderr
    if temporary.exists():
        assert not list(temporary.iterdir())
    return done


# --- memfd refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_memfd_refused(tmp_path: Path, backend: str) -> None:
    """Where a filter refuses memfd_create, messages go both ways in unlinked files, and workers have their pages."""
    works(tmp_path, "shortages.refuse_memfd()", backend=backend)


@pytest.mark.fault(25)
def test_memfd_refused_and_no_room_in_shm(tmp_path: Path) -> None:
    """Where besides /dev/shm has little room, they go through the temporary folder."""
    works(tmp_path, "shortages.mount_over('/dev/shm', 4 << 20); shortages.refuse_memfd()")


# --- /dev/shm and the temporary folder ---------------------------------------------------------------------------------

FULL = "shortages.mount_over('/dev/shm', 4 << 20)"
PLIGHTS = {
    "shm small": FULL,
    "temporary folder gone": f"{FULL}; tempfile.tempdir = sys.argv[1]; os.rmdir(sys.argv[1])",
    "no temporary folder": f"{FULL}; os.environ['TMPDIR'] = tempfile.tempdir = '/nowhere'",
    "temporary folder small": f"{FULL}; shortages.mount_over(sys.argv[1], 1 << 20)",
    "temporary folder read-only": f"{FULL}; tempfile.gettempdir(); shortages.mount_over(sys.argv[1], 1 << 20, read_only=True)",
}


@pytest.mark.parametrize("plight", PLIGHTS.values(), ids=PLIGHTS)
@pytest.mark.fault(25, 26)
def test_no_room_for_files(tmp_path: Path, plight: str) -> None:
    """What /dev/shm has no room for goes through the temporary folder, and what that hasn't either through the lane."""
    works(tmp_path, plight, "file")


@pytest.mark.fault(25)
def test_shm_fills_up_meanwhile(tmp_path: Path) -> None:
    """A file for which there seemed to be room is given up where it turns out that there is none: no SIGBUS."""
    works(tmp_path, FULL, "file", "import offloop.wire.memory as m; m._free = lambda folder: 1 << 40")


@pytest.mark.parametrize("size", [1 << 16, 1 << 20, 13 << 20])
@pytest.mark.fault(26)
def test_a_portable_folder_without_room(tmp_path: Path, size: int) -> None:
    """Where the session's folder has no room for messages these go through the connection."""
    works(tmp_path, f"shortages.mount_over(sys.argv[1], {size})", "portable")


@pytest.mark.parametrize("plight", ["shortages.mount_over(sys.argv[1], 1 << 20, read_only=True)", "os.rmdir(sys.argv[1])"])
@pytest.mark.fault(26)
def test_no_portable_folder(tmp_path: Path, plight: str) -> None:
    """Where no folder can be made for a session that needs one, the error names the variable to set."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code = f"""
import os, sys, tempfile, shortages
tempfile.tempdir = sys.argv[1]
{plight}
import offloop
try:
    offloop.ParallelSession(transport="portable")
except OSError as error:
    print(error)
"""
    done = scripts.run(code, str(temporary), cwd=tmp_path)
    if done.returncode == shortages.CANNOT:
        pytest.skip(done.stdout.strip())
    assert "TMPDIR" in done.stdout, done.stderr
    assert done.returncode == 0


# --- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["memory", "file", "portable"])
def test_files_may_not_be_large(tmp_path: Path, transport: str) -> None:
    """Under a limit of file sizes (ulimit -f) messages go through the lane."""
    works(tmp_path, "shortages.limit_file_size(1 << 20)", transport)


@pytest.mark.parametrize("transport", ["memory", "file", "portable"])
@pytest.mark.parametrize("spare", [0, 1, 2])
def test_no_descriptors_here(tmp_path: Path, transport: str, spare: int) -> None:
    """Where this process runs out of descriptors, arrays arrive or an error says so; freed, all is well again."""
    within = f"""
        arrays = [np.full(1 << 20, k) for k in range(4)]
        assert [array[0] for array in await session.run_parallel(w.double, arrays)] == [0, 2, 4, 6]
        shortages.hoard_descriptors(spare={spare})
        for _ in range(3):
            assert await session.run_parallel(len, arrays) == [1 << 20] * 4
            assert (await session.run(w.double, 4)) == 8
            try:
                assert [array[0] for array in await session.run_parallel(w.double, arrays)] == [0, 2, 4, 6]
                print("arrived", file=sys.stderr)
            except (offloop.OffloopError, OSError) as error:
                assert any(words in str(error) for words in ("descriptor", "Too many open files")), repr(error)
                print("refused", file=sys.stderr)
            grown = await session.run_parallel(np.ones, [1 << 20, 1 << 19], on_error="collect")
            for value in grown:
                words = "" if isinstance(value, np.ndarray) else str(value)
                assert not words or "descriptor" in words or "Too many open files" in words, words
        shortages.free_descriptors()
"""
    works(tmp_path, "", transport, within.strip().replace("{{", "{").replace("}}", "}"))


@pytest.mark.parametrize("transport", ["memory", "file", "portable"])
def test_no_descriptors_in_the_worker(tmp_path: Path, transport: str) -> None:
    """Where fn uses up the worker's descriptors, later items arrive or an error says so; freed, all is well again."""
    within = """
        await right(session, 4 << 20)  # so that the workers have imported what they need
        arrays = [np.full(1 << 20, k) for k in range(4)]
        assert min(await session.run_parallel(shortages.hoard_descriptors, range(8), chunk_size=1)) >= 0
        assert await session.run_parallel(w.double, range(5)) == [0, 2, 4, 6, 8]
        for value in await session.run_parallel(np.ones, [1 << 20, 1 << 19], on_error="collect"):
            assert isinstance(value, np.ndarray), value
        for k, value in enumerate(await session.run_parallel(w.double, arrays, on_error="collect", chunk_size=1)):
            if isinstance(value, np.ndarray):
                assert value[0] == 2 * k
            else:
                words = f"{value} {value.__cause__}"
                assert "descriptor" in words or "Too many open files" in words, words
        await session.run_parallel(shortages.free_descriptors, range(8), chunk_size=1)
"""
    works(tmp_path, "", transport, within.strip())


def test_no_threads_to_write_with(tmp_path: Path) -> None:
    """Where no more threads can be had a large message is written by one."""
    within = """
        import threading
        really = threading.Thread.start
        def start(thread):
            if thread.name == "offloop-write":
                raise RuntimeError("can't start new thread")
            really(thread)
        threading.Thread.start = start
        await right(session, 100 << 20, 2)
"""
    works(tmp_path, "", "memory", within.strip())
