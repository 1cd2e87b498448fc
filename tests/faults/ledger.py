"""Which rows the tests of this run are to prove, and what became of them."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from .rows import FAULTS, WAITING

FOLDER = Path(__file__).parent
_TESTS = FOLDER.parent


class Ledger:
    """Notes for each row the tests that are run for it, and how they ended."""

    def __init__(self) -> None:
        self.rows_of: dict[str, frozenset[int]] = {}
        self.ends: defaultdict[int, set[str]] = defaultdict(set)
        self.expected: frozenset[int] = frozenset()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Note what is run, once others have left out what they leave out, and see to it that the account comes last."""
        self.rows_of = {item.nodeid: rows for item in items if (rows := rows_of(item))}
        self.expected = frozenset(FAULTS) - WAITING - _rows_elsewhere(config) if _is_whole(config) else frozenset()
        items.sort(key=lambda item: item.get_closest_marker("account") is not None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended; one that was skipped while it was set up has no call."""
        if report.when == "call" or report.outcome != "passed":
            for row in self.rows_of.get(report.nodeid, ()):
                self.ends[row].add(report.outcome)

    def collected(self) -> frozenset[int]:
        """Return the rows that a test of this run is for."""
        return frozenset().union(*self.rows_of.values())

    def skipped(self) -> frozenset[int]:
        """Return the rows whose tests were skipped, all of them that came to an end."""
        return frozenset(row for row, ends in self.ends.items() if ends == {"skipped"})


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
