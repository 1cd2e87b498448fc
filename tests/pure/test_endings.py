"""endings.py: what an exit code and a text of faulthandler's tell."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from offloop.endings import crashed_stack, ending_of, signal_name

CRASHING = """
import ctypes, faulthandler, sys, threading

def wait(barrier):
    barrier.wait()
    threading.Event().wait()

def down(depth):
    return down(depth - 1) if depth else ctypes.string_at(0)

faulthandler.enable(all_threads=True)
barrier = threading.Barrier(2)
threading.Thread(target=wait, args=(barrier,), daemon=True).start()
barrier.wait()
down(int(sys.argv[1]))
"""


@pytest.mark.parametrize("number", sorted(signal.valid_signals()))
def test_every_signal_says_something(number: int) -> None:
    """Whatever the signal, its name, a cause and what to do are told."""
    how, cause, fix = ending_of(-number)
    assert how == f"killed by {signal_name(-number)}"
    assert cause
    assert fix


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "out of memory"),
        (signal.SIGSEGV, "compiled code"),
        (signal.SIGABRT, "compiled code"),
        (signal.SIGBUS, "compiled code"),
        (signal.SIGXCPU, "limit"),
        (signal.SIGTERM, "somebody ended it"),
    ],
)
def test_a_signal_has_its_own_cause(number: int, words: str) -> None:
    """A crash in compiled code, a limit, and an end from outside are told apart."""
    assert words in ending_of(-number).cause


@pytest.mark.parametrize("exit_code", [0, 1, 255])
def test_an_exit_code_is_no_signal(exit_code: int) -> None:
    """A process that exits by itself names its code and what calls exit."""
    assert signal_name(exit_code) is None
    assert ending_of(exit_code).how == f"exit code {exit_code}"
    assert "os._exit()" in ending_of(exit_code).cause


def test_an_unknown_end_guesses_nothing() -> None:
    """Where the exit code isn't known no cause is made up, and what to do is told all the same."""
    assert signal_name(None) is None
    how, cause, fix = ending_of(None)
    assert how == "how it ended isn't known"
    assert cause == ""
    assert fix


@pytest.mark.parametrize(("depth", "n_more"), [(0, 0), (50, 35)])
def test_the_stack_that_crashed_is_taken_out(depth: int, n_more: int) -> None:
    """Of what this Python's faulthandler writes there remain its headline and the innermost calls of the right thread."""
    done = subprocess.run(
        [sys.executable, "-c", CRASHING, str(depth)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGSEGV
    assert "in wait" in done.stderr
    head, thread, *calls = crashed_stack(done.stderr).splitlines()
    assert head == "Fatal Python error: Segmentation fault"
    assert thread.startswith("Current thread")
    assert "string_at" in calls[0]
    assert "in down" in calls[1]
    assert not any("in wait" in call or "Extension" in call for call in calls)
    assert len(calls) <= 19
    assert (f"and {n_more} more" in calls[-1]) if n_more else ("more" not in calls[-1])


def test_a_text_of_another_kind_is_shown_by_its_end() -> None:
    """Of a text without a stack the last lines are shown, at most twenty and no empty ones."""
    assert crashed_stack("") == ""
    assert crashed_stack("\n one\n\n two\n") == " one\n two"
    assert crashed_stack("\n".join(map(str, range(50)))).splitlines() == [str(number) for number in range(30, 50)]


def test_a_stack_without_a_headline_is_shown() -> None:
    """A text that begins with the stack loses nothing."""
    text = "Current thread 0x1 (most recent call first):\n  File \"a.py\", line 1 in f"
    assert crashed_stack(text) == text
