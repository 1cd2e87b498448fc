"""The fixture for leftovers: it finds what is left, and nothing where nothing is."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import leftovers
import scripts


def left_by(before: leftovers.Inventory) -> str:
    return "; ".join(leftovers.found_since(before, patience_s=0.05))


def test_it_finds_nothing_where_nothing_is() -> None:
    """A clean test has nothing to fear."""
    assert left_by(leftovers.take()) == ""


def test_it_finds_a_process() -> None:
    """A child that still runs, or was not reaped, is left behind."""
    before = leftovers.take()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert "process" in left_by(before)
        process.communicate(b"\n")
    assert left_by(before) == ""


@pytest.mark.parametrize(("name", "daemon"), [("anything", False), ("offloop-thread", True), ("QueueFeederThread", True)])
def test_it_finds_a_thread(name: str, daemon: bool) -> None:
    """So is a thread, if it is ours, loky's, or would hold up the exit."""
    before = leftovers.take()
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name=name, daemon=daemon)
    thread.start()
    assert f"thread: {name}" in left_by(before)
    end.set()
    thread.join()
    assert left_by(before) == ""


def test_it_finds_a_descriptor() -> None:
    """So is anything open."""
    before = leftovers.take()
    ends = os.pipe()
    assert "2 × descriptor: pipe" in left_by(before)
    for end in ends:
        os.close(end)
    assert left_by(before) == ""


def test_it_finds_a_mapping_and_a_name() -> None:
    """So are memory files, mapped or named."""
    before = leftovers.take()
    fd = os.memfd_create("offloop-test")
    os.truncate(fd, 4096)
    memory = mmap.mmap(fd, 4096)
    os.close(fd)
    name = Path(f"/dev/shm/sem.loky-{os.getpid()}-test")
    name.touch()
    found = left_by(before)
    name.unlink()
    memory.close()
    assert "mapping: /memfd:offloop-test" in found
    assert f"name: {name.name}" in found
    assert left_by(before) == ""


LEAKING = """
import os
import leftovers

leftovers.PATIENCE_S = 0.1

def test_leak():
    os.pipe()

def test_clean():
    pass

def test_leak_after_others():
    os.pipe()
"""


def test_every_test_is_checked(tmp_path: Path) -> None:
    """A test that leaves something behind has an error, though it passed, and those beside it have none."""
    (tmp_path / "test_leak.py").write_text(LEAKING)
    done = scripts.run(
        None, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path),
        str(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    assert "2 × descriptor: pipe" in done.stdout
    assert "3 passed, " in done.stdout
    for name, has_error in {"test_leak": True, "test_clean": False, "test_leak_after_others": True}.items():
        assert (f"ERROR at teardown of {name} " in done.stdout) == has_error
