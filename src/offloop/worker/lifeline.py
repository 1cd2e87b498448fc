"""The lifeline: a worker is gone as soon as its parent is, whatever it is doing.

The worker holds the far end of a socket pair on which nothing is ever written. When the last near end closes, the
kernel itself sends SIGKILL to the worker's process group: O_ASYNC asks for a signal on any change, F_SETSIG makes it
SIGKILL, F_SETOWN with a negative number addresses the group. Measured: gone after 0.7 to 3 ms, in a Python loop, in C
code that holds the GIL, with every signal masked. See fcntl(2), "Managing signals".
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading


def arm(lifeline: socket.socket) -> None:
    """Tie this process, in a group of its own, to the other end of the lifeline; end it if that is closed already."""
    os.setpgid(0, 0)
    if hasattr(fcntl, "F_SETSIG"):
        fd = lifeline.fileno()
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgid(0))
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
        lifeline.setblocking(False)
    else:  # platforms that can only send SIGIO, which a masked signal set would hold back
        threading.Thread(target=_watch, args=(lifeline,), name="offloop-lifeline", daemon=True).start()
        return
    try:
        lifeline.recv(1)  # the parent may have died before the arming
    except BlockingIOError:
        return
    _end()


def _watch(lifeline: socket.socket) -> None:
    lifeline.setblocking(True)
    lifeline.recv(1)
    _end()


def _end() -> None:
    os.killpg(os.getpgid(0), signal.SIGKILL)
