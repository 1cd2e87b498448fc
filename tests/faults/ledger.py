"""Which rows the tests of this run are to prove, and what became of them."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import pytest

from .rows import FAULTS, WAITING

FOLDER = Path(__file__).parent
_TESTS = FOLDER.parent
_ROW = "fault"


class Ledger:
    """Notes for each row how the tests that are run for it ended, and fails the whole where a row has none.

    Tests may be run by several processes: rows travel with the reports, and who gives out the tests keeps the account.

    Attributes:
        ends: How tests of each row ended.
        complaint: What is wrong, once all tests were run; empty if nothing.
    """

    def __init__(self) -> None:
        self.ends: defaultdict[int, set[str]] = defaultdict(set)
        self.complaint = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Have the report of a test name its rows."""
        for item in items:
            item.user_properties += [(_ROW, number) for number in sorted(rows_of(item))]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended; one that was skipped while it was set up has no call."""
        if report.when == "call" or report.outcome != "passed":
            for name, row in report.user_properties:
                if name == _ROW:
                    assert isinstance(row, int)
                    self.ends[row].add(report.outcome)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail where all tests were run and went well, but for rows that none was run for."""
        if exitstatus == pytest.ExitCode.OK and not hasattr(session.config, "workerinput"):
            self.complaint = self.account(expected(session.config))
            if self.complaint:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell what is wrong."""
        if self.complaint:
            terminalreporter.section("faults that nothing is known of")
            terminalreporter.line(self.complaint)

    def account(self, due: frozenset[int]) -> str:
        """Return what is wrong with the rows that are due; empty if nothing."""
        without, skipped = due - set(self.ends), {row for row in due if self.ends.get(row) == {"skipped"}}
        parts = (("no test was run for", without), ("all tests were skipped for", skipped))
        return "\n".join(f"{what}\n{told(rows)}" for what, rows in parts if rows)


def told(rows: Collection[int]) -> str:
    """Return rows with what they are about, a line each."""
    return "\n".join(f"  {row}: {FAULTS[row]}" for row in sorted(rows))


def expected(config: pytest.Config) -> frozenset[int]:
    """Return the rows that a run of these tests must have a test for."""
    return frozenset(FAULTS) - WAITING - _rows_elsewhere(config) if _is_whole(config) else frozenset()


def rows_of(item: pytest.Item) -> frozenset[int]:
    """Return the rows that a test says it proves."""
    return frozenset(number for mark in item.iter_markers("fault") for number in mark.args)


def rows_in(path: Path) -> frozenset[int]:
    """Return the rows that the tests in a file say they prove."""
    text = path.read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)] if "mark.fault(" in text else []
    marks = [call for call in calls if ast.unparse(call.func) == "pytest.mark.fault"]
    return frozenset(ast.literal_eval(argument) for mark in marks for argument in mark.args)


def files() -> list[Path]:
    """Return all files with tests."""
    return sorted(_TESTS.rglob("test_*.py"))


def _is_whole(config: pytest.Config) -> bool:
    """Whether all tests of this folder are run, so that no row can lack one for being left out by hand."""
    chosen = any(config.getoption(name, None) for name in ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf"))
    return not chosen and any(_holds(config, argument, FOLDER) for argument in config.args)


def _rows_elsewhere(config: pytest.Config) -> frozenset[int]:
    """Return the rows proved by files that are not run at all."""
    left_out = [path for path in files() if not any(_holds(config, argument, path) for argument in config.args)]
    return frozenset().union(*map(rows_in, left_out))


def _holds(config: pytest.Config, argument: str, path: Path) -> bool:
    place = (config.invocation_params.dir / argument).resolve()
    return "::" not in argument and (place == path or place in path.parents)
