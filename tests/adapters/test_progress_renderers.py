"""What `progress=True` and `progress="text"` draw, and when nothing is drawn."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tqdm.std import tqdm

import offloop
import scripts
from offloop import ProgressEvent
from offloop.sinks import progress
from offloop.sinks.progress import line, renderer

USUAL: dict[str, Any] = {
    "fn": "app.score",
    "label": None,
    "strategy": "processes",
    "n_items": 1_000,
    "n_done": 370,
    "n_failed": 0,
    "fraction": 0.37,
    "elapsed_s": 3.0,
    "rate": 124.2,
    "eta_s": 5.1,
    "utilisation_pct": 93.4,
    "is_last": False,
}
CALL = {"n_items": 1, "n_done": 0, "rate": None}
END = {"n_done": 1_000, "fraction": 1.0, "eta_s": 0.0, "elapsed_s": 8.06, "is_last": True}
LONG = "pricing.models.of_the_second_kind.score_all_the_customers"


def event(**fields: Any) -> ProgressEvent:
    return ProgressEvent(**{**USUAL, **fields})


@pytest.fixture(autouse=True)
def bars_at_hand() -> None:
    """Have tqdm's bars loaded, as they are from a program's second call on."""
    progress._load(False)


class Terminal(StringIO):
    """A terminal that is a text."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        super().isatty()  # which raises once it is closed
        return True

    @property
    def lines(self) -> list[str]:
        """What stands on it in the end."""
        return [text.rsplit("\r", 1)[-1].rstrip() for text in self.getvalue().split("\n")[:-1]]


# --- the line ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "app.score  37% ━━━━━━━───────────── 370/1,000 · ETA 0:05 · 124/s · 93% busy"),
        ({"n_failed": 2}, "app.score  37% ━━━─────── 370/1,000 · 2 failed · ETA 0:05 · 124/s · 93% busy"),
        ({"eta_s": None, "rate": None}, "app.score  37% ━━━━━━━───────────── 370/1,000 · 0:03 elapsed · 93% busy"),
        ({"n_items": None, "fraction": None, "eta_s": None}, "app.score 370 · 0:03 elapsed · 124/s · 93% busy"),
        ({"n_done": 999, "fraction": 0.999}, "app.score  99% ━━━━━━━━━━━━━━━━━━━─ 999/1,000 · ETA 0:05 · 124/s · 93% busy"),
        (END, "app.score 100% 1,000/1,000 · in 8.1 s · 124/s · 93% busy"),
        ({**END, "n_items": None, "fraction": None}, "app.score 1,000 · in 8.1 s · 124/s · 93% busy"),
        ({"n_failed": 1, "is_last": True}, "app.score  37% 370/1,000 · 1 failed · stopped after 3.0 s · 124/s · 93% busy"),
        ({**CALL, "fraction": 0.0, "eta_s": None}, "app.score 0:03 elapsed · 93% busy"),
        ({**CALL, "fraction": 0.37}, "app.score  37% ━━━━━━━───────────── ETA 0:05 · 93% busy"),
        ({**CALL, **END, "n_done": 1}, "app.score 100% in 8.1 s · 93% busy"),
        ({**CALL, **END, "n_done": 1, "n_failed": 1}, "app.score 100% 1 failed · in 8.1 s · 93% busy"),
        ({**END, "n_items": 0, "n_done": 0, "rate": None}, "app.score 100% 0/0 · in 8.1 s · 93% busy"),
        ({"fn": LONG, "rate": 0.5}, "…score_all_the_customers  37% 370/1,000 · ETA 0:05 · 2.0 s each · 93% busy"),
        ({"label": "nightly scores of all customers"}, "nightly scores of all c…  37% ━━━─────── 370/1,000 · ETA 0:05 · 124/s · 93% busy"),
        ({"label": "a\n\x1b[2Jb"}, r"a\n\x1b[2Jb  37% ━━━━━━━───────────── 370/1,000 · ETA 0:05 · 124/s · 93% busy"),
        ({"label": "顧客"}, "顧客  37% ━━━━━━━───────────── 370/1,000 · ETA 0:05 · 124/s · 93% busy"),
    ],
)
def test_a_line_tells_what_matters(fields: dict[str, Any], expected: str) -> None:
    """At 80 columns the line has the name, how far it is, how fast, how long still, and how many have failed."""
    assert line(event(**fields)) == expected


def test_a_line_of_ascii_alone() -> None:
    """Where nothing but ASCII can be shown the line says the same."""
    assert line(event(n_failed=2), is_ascii=True) == "app.score  37% ###------- 370/1,000, 2 failed, ETA 0:05, 124/s, 93% busy"
    assert line(event(label="é" * 30), is_ascii=True).isascii()


@pytest.mark.parametrize("fields", [{}, {"n_failed": 12_345}, END, {"fn": LONG}, {"label": "顧客のスコア" * 9}, CALL])
def test_a_line_fits(fields: dict[str, Any]) -> None:
    """Whatever there is to tell and whatever the width, a line is no longer, and loses what matters least first."""
    for width in range(1, 120):
        told = line(event(**fields), width)
        assert progress._columns(told) <= width
        assert width < 60 or progress._name(event(**fields), False, 80) in told


def test_a_narrow_line_still_says_how_far_it_is() -> None:
    """Where there is no room for both, the name is cut first."""
    assert line(event(label="顧客のスコアを計算する"), 20) == "顧客…  37% 370/1,000"
    assert line(event(fn=LONG), 24) == "…ustomers  37% 370/1,000"


@pytest.mark.parametrize(
    ("rate", "eta_s", "expected"),
    [
        (0.001, 200_000.0, "ETA 2 d 7 h · 16:40 each"),
        (0.9, 59.4, "ETA 0:59 · 1.1 s each"),
        (1.234, 59.6, "ETA 1:00 · 1.23/s"),
        (99.96, 3599.7, "ETA 1:00:00 · 100/s"),
        (12_345.0, 0.0, "ETA 0:00 · 12.3k/s"),
        (999_600.0, 1.0, "ETA 0:01 · 1.00M/s"),
        (1e9, 1e300, "ETA 11,574 d 1 h · 1000M/s"),
    ],
)
def test_figures_have_three_digits(rate: float, eta_s: float, expected: str) -> None:
    """Rates have a unit that fits, and times are read like a clock."""
    assert expected in line(event(rate=rate, eta_s=eta_s))


def test_an_end_is_told_as_exactly_as_it_lasted() -> None:
    """The time that a run took has a unit that fits too."""
    for seconds, told in ((0.0123, "12.3 ms"), (0.4, "0.40 s"), (42.0, "42.0 s"), (3_723.0, "1:02:03")):
        assert f"in {told}" in line(event(**{**END, "elapsed_s": seconds}))


# --- where it is drawn ------------------------------------------------------------------------------------------------


def test_nothing_is_drawn_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Piped, redirected, closed or missing, standard error gets nothing."""
    closed = Terminal()
    closed.close()
    for stream in (StringIO(), closed):
        assert renderer(True, stream) is renderer("text", stream) is None
    monkeypatch.setattr(sys, "stderr", None)
    assert renderer(True) is None
    monkeypatch.setattr(progress, "in_worker", lambda: True)
    assert renderer("text", Terminal()) is None


def test_a_line_is_written_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line covers the one before, and the last one stays."""
    monkeypatch.delenv("OFFLOOP_ASCII", raising=False)
    terminal = Terminal()
    draw = renderer("text", terminal)
    assert draw is not None
    first, last = event(), event(**END)
    for one in (first, last):
        draw(one)
    assert terminal.getvalue() == f"\r{line(first)}\r{line(last).ljust(len(line(first)))}\n"


def test_a_terminal_may_be_simple(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that has no more than ASCII gets that, and who asks for it too."""
    terminal = Terminal()
    monkeypatch.setattr(terminal, "encoding", "latin-1", raising=False)
    for stream, variable in ((terminal, "0"), (Terminal(), "1")):
        monkeypatch.setenv("OFFLOOP_ASCII", variable)
        for kind in (True, "text"):
            draw = renderer(kind, stream)  # type: ignore[arg-type]
            assert draw is not None
            draw(event(**END))
        assert stream.getvalue().isascii()
        assert stream.lines[-1] == line(event(**END), is_ascii=True)


def test_of_lines_one_is_drawn_at_a_time() -> None:
    """Of two runs the first has the line; of the other its end is told, and it has the line when the first is over."""
    terminal = Terminal()
    first, other = renderer("text", terminal), renderer("text", terminal)
    assert first is not None
    assert other is not None
    first(event())
    other(event(fn="app.other"))
    assert "other" not in terminal.getvalue()
    first(event(**END))
    other(event(fn="app.other"))
    first = renderer("text", terminal)
    assert first is not None
    first(event(**END))
    other(event(fn="app.other", **END))
    assert terminal.lines == [line(event(**END))] * 2 + [line(event(fn="app.other", **END))]


def test_a_run_that_is_gone_leaves_the_line() -> None:
    """A run that never ends, since its event loop was closed, keeps the line from nobody."""
    terminal = Terminal()
    gone = renderer("text", terminal)
    assert gone is not None
    gone(event(fn="app.gone"))
    del gone
    draw = renderer("text", terminal)
    assert draw is not None
    draw(event())
    draw(event(**END))
    assert terminal.getvalue().startswith(f"\r{line(event(fn='app.gone'))}\r{line(event())}")


@pytest.mark.parametrize("kind", [True, "text"])
def test_a_stream_that_is_closed_ends_the_drawing(kind: Any) -> None:
    """A terminal that goes away is no reason for a run to fail."""
    terminal = Terminal()
    draw = renderer(kind, terminal)
    assert draw is not None
    draw(event())
    terminal.close()
    draw(event())
    draw(event(**END))


def test_a_bar_is_tqdms(monkeypatch: pytest.MonkeyPatch) -> None:
    """With tqdm there is a bar with our figures, it stays in the end, and starts no thread."""
    monkeypatch.delenv("OFFLOOP_ASCII", raising=False)
    terminal, threads = Terminal(), threading.active_count()
    draw = renderer(True, terminal)
    assert draw is not None
    for fields in ({"n_items": None, "fraction": None}, {"label": None}, END):
        draw(event(**fields))
    steps = [step for step in terminal.getvalue().split("\r") if step]
    assert steps[0].rstrip() == "app.score: 370 · ETA 0:05 · 124/s · 93% busy"
    assert steps[1].startswith("app.score:  37%|███")
    assert steps[1].rstrip().endswith("| 370/1,000 · ETA 0:05 · 124/s · 93% busy")
    assert terminal.lines[-1].endswith("| 1,000/1,000 · in 8.1 s · 124/s · 93% busy")
    assert threading.active_count() == threads


def screen(written: str) -> list[str]:
    """Return what a terminal shows after this was written."""
    rows, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[A|[\r\n]|[^\r\n\x1b]+", written):
        if part == "\x1b[A":
            row -= 1
        elif part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
            rows += [""] * (row == len(rows))
        else:
            rows[row] = rows[row][:column] + part + rows[row][column + len(part) :]
            column += len(part)
    return [text for text in map(str.rstrip, rows) if text]


@pytest.mark.parametrize("order", ["012", "210", "102", "201"])
def test_bars_end_in_any_order(order: str) -> None:
    """Each run leaves one line, and what the others have drawn below it is gone."""
    terminal = Terminal()
    draws = {name: renderer(True, terminal) for name in "012"}
    for number, ending in enumerate(order):
        for name in order[number:]:
            draws[name](event(fn=name))  # type: ignore[misc]
        draws[ending](event(fn=ending, **END))  # type: ignore[misc]
    assert [text[:7] for text in screen(terminal.getvalue())] == [f"{name}: 100%" for name in order]


def test_without_tqdm_there_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """`progress=True` needs tqdm for nothing but the bar."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    terminal = Terminal()
    draw = renderer(True, terminal)
    assert draw is not None
    draw(event(**END))
    assert terminal.lines == [line(event(**END))]


@pytest.mark.parametrize("is_broken", [False, True])
def test_importing_tqdm_holds_nobody_up(monkeypatch: pytest.MonkeyPatch, is_broken: bool) -> None:
    """Where tqdm must be imported first that is done in a thread: meanwhile nothing is drawn, and a run's end as a line."""
    monkeypatch.setattr(progress, "_kinds", {})
    monkeypatch.delitem(sys.modules, "tqdm.std")
    importing = threading.Event()

    def load(is_widget: bool) -> None:
        importing.wait(20)
        if not is_broken:
            progress._kinds[is_widget] = tqdm
        progress._loading.discard(is_widget)

    monkeypatch.setattr(progress, "_load", load)
    terminal = Terminal()
    early, late = renderer(True, terminal), renderer(True, terminal)
    assert early is not None
    assert late is not None
    early(event())
    assert terminal.getvalue() == ""
    early(event(**END))
    assert terminal.lines == [line(event(**END))]
    loader = next(thread for thread in threading.enumerate() if thread.name == "offloop-tqdm")
    importing.set()
    loader.join()
    late(event())
    assert ("|███" in terminal.getvalue()) != is_broken
    late(event(**END))


def test_a_notebook_is_no_terminal_and_is_drawn_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook's kernel it is drawn although standard error is no terminal there."""
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    for kind in (True, "text"):
        output = StringIO()
        draw = renderer(kind, output)  # type: ignore[arg-type]
        assert draw is not None
        draw(event(**END))
        assert "1,000/1,000" in output.getvalue()


# --- whole programs ---------------------------------------------------------------------------------------------------

PROGRAM = """
import anyio
import tqdm
import offloop

def halves(x):
    offloop.report_progress(0.5)
    return x / 2

async def main():
    async with offloop.ParallelSession(strategy="serial") as session:
        for kind in (True, "text"):
            assert await session.run_parallel(halves, range(10), progress=kind) == [x / 2 for x in range(10)]
            await session.run(halves, 1, progress=kind, label="one")

anyio.run(main)
"""


def seen(program: str, folder: Path, **variables: str) -> list[str]:
    """Return the lines that a program leaves on a terminal."""
    (folder / "program.py").write_text(program)
    ours, its = pty.openpty()
    command = [sys.executable, str(folder / "program.py")]
    with subprocess.Popen(command, stderr=its, env={**scripts.environment(), **variables}) as process:
        os.close(its)
        said = b""
        try:
            while block := os.read(ours, 4096):
                said += block
        except OSError:  # nobody has it open any more
            pass
        finally:
            os.close(ours)
    assert process.returncode == 0, said.decode()
    return [text.rsplit("\r", 1)[-1] for text in said.decode().split("\r\n")[:-1]]


def test_a_program_on_a_terminal_shows_its_progress(tmp_path: Path) -> None:
    """Runs and single calls leave a bar and a line behind each, of the end."""
    bar, one_bar, text, one = seen(PROGRAM, tmp_path, PYTHONIOENCODING="utf-8")
    assert "halves: 100%|█" in bar
    assert "| 10/10 · in " in bar
    assert one_bar.startswith("one: 100%|")
    assert "halves 100% 10/10 · in " in text
    assert one.startswith("one 100% in ")


def test_a_program_that_is_piped_says_nothing(tmp_path: Path) -> None:
    """Where standard error is no terminal there is nothing on it."""
    done = scripts.run(PROGRAM, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert offloop.ProgressEvent is ProgressEvent
