"""Every fault has a test that was run, but for what waits for a capability that is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import ledger as ledger_module
from .ledger import Ledger, files, rows_in, told
from .rows import FAULTS, MISSING, MOST_MISSING, ROWS, WAITING, exists


def test_rows_are_numbered_once() -> None:
    """A number stands for one fault, and each has a row that says what is expected."""
    assert sum(len(row.faults) for row in ROWS) == len(FAULTS)
    assert set(FAULTS) == {*range(1, 71), *range(76, 81)}
    assert all(row.expected for row in ROWS)


def test_every_row_has_a_test_somewhere() -> None:
    """Each row is in the mark of a test, and no mark names a row that there isn't."""
    marked = frozenset[int]().union(*map(rows_in, files()))
    assert not marked - set(FAULTS)
    assert not (without := set(FAULTS) - WAITING - marked), told(without)


def test_what_is_missing_is_little_and_named() -> None:
    """Rows may wait for a capability that does not exist, as many as are allowed to; once it does they are due."""
    assert len(MISSING) <= MOST_MISSING
    assert not [missing.capability for missing in MISSING if exists(missing.capability)]
    for missing in MISSING:
        assert any(set(missing.numbers) <= set(row.faults) for row in ROWS), missing


PROBE = """
import pytest

@pytest.mark.fault(1)
def test_done(): pass

@pytest.mark.fault(2)
def test_skipped(): pytest.skip("no way")

@pytest.mark.fault(3)
@pytest.mark.skip(reason="no way")
def test_skipped_early(): pass

@pytest.mark.fault(4)
@pytest.mark.parametrize("way", [1, 2])
def test_skipped_once(way):
    if way == 1:
        pytest.skip("no way")

@pytest.mark.fault(5)
def test_failed(): assert False

@pytest.mark.fault(6)
def test_left_out(): pass
"""
BESIDE = """
import pytest

@pytest.mark.fault(7)
def test_beside(): pass
"""


def account_of(folder: Path, *arguments: str) -> Ledger:
    """Return the account of a run of the tests in a folder that stands in for this one."""
    kept = Ledger()
    without = [f"-pno:{name}" for name in ("cacheprovider", "faulthandler", "timeout", "anyio", "xdist")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_module, "FOLDER", folder)
        patch.setattr(ledger_module, "_TESTS", folder.parent)
        pytest.main([*without, "-omarkers=fault(*numbers)", "--import-mode=importlib", "-q", "-c", "/dev/null", f"--rootdir={folder}", *arguments], plugins=[kept])
    return kept


def test_the_ledger_tells_rows_apart(tmp_path: Path) -> None:
    """Rows count as run if a test of theirs ended otherwise than skipped, and not if it was left out."""
    folder = tmp_path / "faults"
    folder.mkdir()
    (folder / "test_probe.py").write_text(PROBE)
    (tmp_path / "test_beside.py").write_text(BESIDE)
    whole = account_of(folder, "--deselect", "test_probe.py::test_failed", str(folder))
    assert dict(whole.ends) == {1: {"passed"}, 2: {"skipped"}, 3: {"skipped"}, 4: {"passed", "skipped"}, 6: {"passed"}}
    assert whole.complaint == ""  # not all were run
    assert whole.account(frozenset({1, 4, 6})) == ""
    assert whole.account(frozenset({1, 2, 5})) == f"no test was run for\n{told({5})}\nall tests were skipped for\n{told({2})}"
    failed = account_of(folder, str(folder))
    assert (failed.ends[5], failed.complaint) == ({"failed"}, "")


def test_a_run_without_a_row_fails(tmp_path: Path) -> None:
    """Where all tests are run, those that went well don't hide a row that none was run for; rows elsewhere are not due."""
    folder = tmp_path / "faults"
    folder.mkdir()
    (folder / "test_again.py").write_text(PROBE.replace("assert False", "pass"))
    (tmp_path / "test_aside.py").write_text(BESIDE)
    due = frozenset(FAULTS) - WAITING
    assert account_of(folder, str(folder)).complaint.splitlines()[-2:] == told({2, 3}).splitlines()
    assert f"  {min(due - {1, 4, 5, 6, 7})}:" in account_of(folder, str(folder)).complaint
    assert told({7}) not in account_of(folder, str(folder)).complaint
    assert account_of(folder, f"{folder}/test_again.py::test_done").complaint == ""
