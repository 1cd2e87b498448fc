"""``offloop bench`` as it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from offloop.bench.workloads import BUILT_IN
from offloop.cli import main

SHORT = ("--budget-s", "30", "--workers", "1", "--counts", "16", "--rounds", "2", "--chunk-sizes", "4")


def bench(function: str, *arguments: str, items: str = "NUMBERS", options: tuple[str, ...] = SHORT) -> int:
    """Call the command for a function of this folder's."""
    names = (f"bench_command.targets:{function}", "--items", f"bench_command.targets:{items}")
    return main(["bench", *names, *options, *arguments])


def record(path: Path) -> dict[str, Any]:
    (found,) = json.loads(path.read_text())["findings"]
    return {f"{row['strategy']} {row['chunk_size']}": row for row in found["rows"] if not row["is_first"]} | found


def test_a_function_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All strategies but threads are timed, checked and written down, with the host, and as a page."""
    paths = {"--json": tmp_path / "bench.json", "--html": tmp_path / "bench.html"}
    assert bench("square", *(str(part) for pair in paths.items() for part in pair), items="numbers") == 0
    found = record(paths["--json"])
    for name in ("serial None", "processes None", "processes 4"):
        assert (found[name]["took_effect"], found[name]["error"], len(found[name]["samples_s"])) == (True, None, 2)
    assert {row["strategy"] for row in found["rows"]} == {"serial", "processes", "auto"}
    assert found["auto None"]["ran"]
    assert json.loads(paths["--json"].read_text())["host"]["usable_cores"] >= 1
    printed = capsys.readouterr().out
    assert "threads are left out" in printed
    assert f"written: {paths['--html']}" in printed
    assert paths["--html"].read_text().startswith("<!doctype html>")


def test_settings_without_effect_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the operator keeps everything in the local thread, rows for processes say so and count for nothing."""
    monkeypatch.setenv("OFFLOOP_PARALLEL", "off")
    assert bench("square", "--json", str(tmp_path / "bench.json")) == 0
    row = record(tmp_path / "bench.json")["processes None"]
    assert (row["took_effect"], row["complaints"]) == (False, ["fell back from processes to serial: operator_off"])
    assert "not as asked for: fell back from processes to serial: operator_off" in capsys.readouterr().out


def test_results_unlike_those_of_serial_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A variant that returns something else than serial fails, and with it the command."""
    assert bench("where_it_runs", "--json", str(tmp_path / "bench.json"), "--strategies", "processes") == 1
    assert record(tmp_path / "bench.json")["processes None"]["error"] == "other results than serial, the first at index 0"
    assert "✗" in capsys.readouterr().out


def test_results_that_always_differ_are_not_compared(tmp_path: Path) -> None:
    """A function whose serial runs differ is measured all the same, and the report says that nothing was compared."""
    assert bench("never_the_same", "--json", str(tmp_path / "bench.json"), "--strategies", "processes") == 0
    found = record(tmp_path / "bench.json")
    assert "results are not compared with those of serial: two serial runs differ" in found["notes"]
    assert found["processes None"]["took_effect"]


def test_a_variant_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    """An error is written down by its type, without what the user's code says, and the rest is measured."""
    assert bench("fails_elsewhere", "--json", str(tmp_path / "bench.json"), "--strategies", "processes") == 1
    found = record(tmp_path / "bench.json")
    assert found["processes None"]["error"] == "ValueError"
    assert len(found["serial None"]["samples_s"]) == 2


def test_a_variant_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes very much longer than serial is stopped, and fails for that."""
    monkeypatch.setattr("offloop.bench.running.LEAST_PATIENCE_S", 0.4)
    assert bench("hangs_elsewhere", "--json", str(tmp_path / "bench.json"), "--strategies", "processes", "--budget-s", "2") == 1
    assert record(tmp_path / "bench.json")["processes None"]["error"] == "stopped: it took too long"


def test_more_workers_than_there_are_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row whose workers were capped is marked."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert bench("square", "--json", str(tmp_path / "bench.json"), "--workers", "4", "--strategies", "processes") == 0
    assert record(tmp_path / "bench.json")["processes None"]["complaints"] == ["1 worker instead of 4"]


def test_seeds_and_threads(tmp_path: Path) -> None:
    """With a seed items get their generators, and naming threads is the word that a function may run in several."""
    assert bench("draw", "--seed", "1", "--strategies", "threads", "--json", str(tmp_path / "bench.json")) == 0
    assert record(tmp_path / "bench.json")["threads None"]["took_effect"]


def test_built_in_functions_need_no_target(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a target, functions that come with it are measured one after the other, each told what it is."""
    options = ("--strategies", "serial", "--budget-s", "1", "--counts", "4", "--rounds", "1")
    assert main(["bench", "--only", "loop,tail", *options]) == 0
    printed = capsys.readouterr().out
    assert "loop: a Python loop, which holds the GIL" in printed
    assert "tail: one item in 16 takes 20 times as long" in printed


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_functions_do_their_work(name: str) -> None:
    """Each built-in function takes its items, and returns the same for the same one."""
    work = BUILT_IN[name]()
    assert work.description
    assert work.fn(work.items[0]) == work.fn(work.items[0])


def test_a_function_that_raises_is_told_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """What a function raises serially ends the command, with the traceback."""
    assert bench("fails") == 1
    told = capsys.readouterr().err
    assert "ValueError: as it is meant to" in told
    assert "calling bench_command.targets:fails failed" in told


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("bench_command.targets:square",), "needs items"),
        (("--items", "bench_command.targets:NUMBERS"), "no function"),
        (("bench_command.targets:square", "--items", "bench_command.targets:NOTHING"), "has no items"),
        (("bench_command.targets:waits", "--items", "bench_command.targets:NUMBERS", "--budget-s", "1"), "makes a coroutine"),
        (("bench_command.targets:hangs", "--items", "bench_command.targets:NUMBERS", "--budget-s", "0.2"), "than there is time for"),
        (("--only", "loops"), "'loops' is none of loop, zlib, tiny, array, tail"),
        (("--strategies", "process"), "'process' is none of auto, serial, threads, processes"),
        (("--workers", "0"), "'0' is no whole number from 1 on"),
        (("--budget-s", "-1"), "'-1' is no time above 0 s"),
        (("--json", "nowhere/bench.json"), "there is no folder nowhere"),
        (("--html", "."), ". can't be written"),
        (("--strategies", "serial", "--png", __file__), "is no folder that can be written to"),
    ],
)
def test_arguments_that_cannot_work(arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What can't work is refused before anything is measured, with what to write instead."""
    assert main(["bench", *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_pictures_need_matplotlib(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without matplotlib ``--png`` is refused before anything is measured, with what to install."""
    monkeypatch.setattr("offloop.bench.benching.find_spec", lambda name: None)
    assert main(["bench", "--png", "plots"]) == 2
    assert "pip install 'offloop[plots]'" in capsys.readouterr().err
