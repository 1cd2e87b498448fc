"""What is known of how a process ended: its exit code, and what faulthandler wrote."""

from __future__ import annotations

import signal
from typing import NamedTuple

_OURS = "/offloop/worker/execute.py"
_MAX_STACK_LINES = 20  # deep enough for the call that crashed and who called it


class Ending(NamedTuple):
    """What an exit code tells.

    Attributes:
        how: How the process ended.
        cause: What usually leads to that.
        fix: What to do about it.
    """

    how: str
    cause: str
    fix: str


_COMPILED = (
    "probably a bug in compiled code that the function calls",
    "call it by hand for this item under python -X faulthandler; update the library that it ends in",
)
_LIMIT = (
    "its process reached a limit of the operating system",
    "compare ulimit -a with what the function needs",
)
_ENDED = (
    "somebody ended it: a supervisor, or code that signals processes",
    "look for what sends that signal; retries= executes such items again",
)
_BY_SIGNAL = {
    "SIGKILL": (
        "probably out of memory, or somebody killed it",
        "fewer workers or smaller items; the kernel's log (dmesg) names what it killed",
    ),
    **dict.fromkeys(("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"), _COMPILED),
    **dict.fromkeys(("SIGXCPU", "SIGXFSZ"), _LIMIT),
}


def signal_name(exit_code: int | None) -> str | None:
    """Return the name of the signal that ended a process, for example ``SIGSEGV``; None if it exited by itself.

    Args:
        exit_code: As `os.waitstatus_to_exitcode` gives it: negative for a signal, None where it isn't known.
    """
    if exit_code is None or exit_code >= 0:
        return None
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"


def ending_of(exit_code: int | None) -> Ending:
    """Return what an exit code tells.

    Args:
        exit_code: As `signal_name` takes it.
    """
    if exit_code is None:
        return Ending("how it ended isn't known", "", "the system's log may tell; retries= executes such items again")
    name = signal_name(exit_code)
    if name is None:
        return Ending(
            f"exit code {exit_code}",
            "probably os._exit(), or C code that calls exit()",
            "find what ends the process, and raise an exception there instead",
        )
    return Ending(f"killed by {name}", *_BY_SIGNAL.get(name, _ENDED))


def crashed_stack(dump: str) -> str:
    """Return what tells most of a text of faulthandler's: its headline and the stack of the thread that crashed.

    The innermost calls come first in it. A text without such a stack is as good as its last lines.
    """
    lines = [line for line in dump.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if line.startswith("Current thread")]
    if not starts:
        return "\n".join(lines[-_MAX_STACK_LINES:])
    head = lines[: min(starts[0], 1)]
    stack = lines[starts[0] : starts[0] + 1]
    for line in lines[starts[0] + 1 :]:
        if not line.startswith("  ") or _OURS in line:  # another thread, or what called the function
            break
        stack.append(line)
    n_more = len(head) + len(stack) - _MAX_STACK_LINES
    more = [f"  … and {n_more} more"] if n_more > 0 else []
    return "\n".join([*head, *stack][:_MAX_STACK_LINES] + more)
