"""What loky leaves open where the system refuses it a process or a pipe: ends of pipes that nobody else has a name for."""

from __future__ import annotations

import os
import select
import stat
from types import CodeType


def shortage(error: BaseException) -> OSError | RuntimeError | MemoryError | None:
    """Return what the system refused; None if it was not that.

    loky 3.7 fails with a NameError of its own, as it cleans up after a pipe that it could not have.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError | RuntimeError | MemoryError) and not isinstance(link, NotImplementedError):
            return link
        link = link.__context__ if isinstance(link, NameError) else None
    return None


def close_left_open(error: BaseException) -> None:
    """Close the end of a pipe that loky's launch of a process has left open when it failed."""
    from loky.backend.popen_loky_posix import Popen

    launch: CodeType = Popen._launch.__code__
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is launch:
            left = trace.tb_frame.f_locals
            for name in ("parent_w", "child_w"):
                if isinstance(end := left.get(name), int) and _is_orphan(end, left.get("parent_r")):
                    os.close(end)
            return
        trace = trace.tb_next


def _is_orphan(end: int, reader: object) -> bool:
    """Whether this is the writing end of a pipe which nobody reads, or whose reader is the other one that was left.

    It may have been closed, and its number given to something else.
    """
    try:
        if not stat.S_ISFIFO(os.fstat(end).st_mode):
            return False
        if isinstance(reader, int) and os.path.sameopenfile(end, reader):
            return True
    except OSError:  # closed
        return False
    poll = select.poll()
    poll.register(end, select.POLLOUT)
    return any(events & select.POLLERR for _, events in poll.poll(0))
