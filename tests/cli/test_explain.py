"""cli/explain and cli/measuring: a function is really measured, and the decision told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import offloop
from offloop import Reason, Strategy
from offloop.cli import main
from offloop.cli.measuring import explained
from scripts import run

MODULE = """
import time
print("imported")
items = list(range(200))
def nap(x):
    time.sleep(0.005)
    return x
def inner(x):
    raise ValueError(f"no {x}")
def failing(x): return inner(x)
async def later(x): return x
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with a module of a user."""
    (tmp_path / "explainable.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


calls: list[int] = []


def count(item: int) -> int:
    calls.append(item)
    return item


def test_the_first_items_are_run_to_measure_them() -> None:
    """Unknown work is measured by running some of its items for real, so that nothing is left to measure."""
    calls.clear()
    explanation = explained(count, list(range(1000)), {})
    assert explanation.decision.reason is Reason.TOO_SMALL
    assert explanation.decision.item_s is not None
    assert 0 < len(calls) == explanation.n_measured <= 1001
    assert explanation.leaves_serial_at is None or explanation.leaves_serial_at > 1000


def test_a_given_cost_takes_the_place_of_measuring() -> None:
    """With item_cost_s nothing is run, and serial work is told from which count on it would pay."""
    calls.clear()
    assert explained(count, [1] * 100, {"item_cost_s": 0.1}).decision.strategy is Strategy.PROCESSES
    small = explained(count, [1] * 4, {"item_cost_s": 0.001})
    assert (small.decision.reason, calls) == (Reason.TOO_SMALL, [])
    at = small.leaves_serial_at
    assert at is not None
    assert explained(count, [1] * at, {"item_cost_s": 0.001}).decision.strategy is Strategy.PROCESSES


def test_no_items_are_no_reason_to_fail() -> None:
    """No items are explained like any others."""
    assert explained(count, [], {}).decision.reason is Reason.NO_ITEMS


def test_all_items_run_if_asked_for() -> None:
    """With is_run all items are run after that, and the time that took is told."""
    calls.clear()
    explanation = explained(count, list(range(20)), {"strategy": "serial"}, is_run=True)
    assert sorted(set(calls)) == list(range(20))
    assert explanation.ran_s is not None
    assert explanation.ran is not None
    assert explanation.ran.reason is Reason.EXPLICIT


def test_a_real_command(module: Path) -> None:
    """A command in a user's folder measures a function there, and its numbers come out as JSON."""
    done = run(None, "-m", "offloop", "explain", "explainable:nap", "--items", "explainable:items", "--json", cwd=module)
    assert (done.returncode, done.stderr) == (0, "imported\n")
    content = json.loads(done.stdout)
    assert content["decision"]["fn"] == "explainable.nap"
    assert content["decision"]["n_items"] == 200
    assert content["decision"]["item_s"] >= 0.005
    assert content["decision"]["sentence"] == offloop.Reason(content["decision"]["reason"]).sentence


def test_an_error_of_the_function_has_its_traceback(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the user's function raises is shown from its own first frame on, with the item, and the status is 1."""
    assert main(["explain", "explainable:failing", "--items", "explainable:items"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "explainable.py" in lines[1]
    assert [line for line in lines if line.startswith("  File") and "explainable.py" not in line] == []
    assert lines[-3:] == ["ValueError: no 0", lines[-2], "offloop: calling explainable:failing failed"]
    assert "raised by items[0]" in lines[-2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["explainable:later"], "calling explainable:later makes a coroutine"),
        (["explainable:nap", "--workers", "0"], "workers=0 can't work"),
        (["explainable:nap", "--item-cost-s", "-1"], "item_cost_s=-1.0 can't work"),
        (["explainable:map"], "explainable has no 'map'\n  fix: write explainable:nap"),
    ],
)
def test_arguments_that_cannot_work_are_told(
    arguments: list[str], text: str, module: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong argument is told with what to write instead, and the status is 2."""
    assert main(["explain", *arguments, "--items", "explainable:items"]) == 2
    assert capsys.readouterr().err.startswith(f"offloop: {text}")
