"""What ends a command early."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_RUNNERS = ("asyncio", "anyio", "importlib")
_OURS = str(Path(__file__).parent.parent)


class UsageError(Exception):
    """What was written on the command line can't work.

    Args:
        what: What is wrong, in a line.
        fix: What to write instead.
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\n  fix: {self.fix}"


class UserCodeError(Exception):
    """The user's own code failed; what it raised is the ``__cause__``.

    Args:
        where: What of it was under way, for example ``importing mymodule``.
    """


def print_failure(failure: UserCodeError) -> None:
    """Print what the user's code raised on standard error, by the frames from the user's own first one on."""
    import traceback

    error = failure.__cause__
    if error is not None:
        trace = error.__traceback__
        while trace is not None and _is_foreign(trace.tb_frame.f_code.co_filename):
            trace = trace.tb_next
        # Notes tell of items, a syntax error of its file; else the fault may be ours.
        is_theirs = trace is not None or getattr(error, "__notes__", None) or isinstance(error, SyntaxError)
        traceback.print_exception(error.with_traceback(trace) if is_theirs else error)
    print(f"offloop: {failure} failed", file=sys.stderr)


def _is_foreign(file: str) -> bool:
    return file.startswith((_OURS, "<frozen")) or any(f"{os.sep}{name}{os.sep}" in file for name in _RUNNERS)
