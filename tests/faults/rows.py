"""The faults that must be survived, by number, and what is expected of each.

Whatever the fault, beyond what its row says:

- our error class names the item, the exit code or signal, the likely cause and the remedy;
- each index gets exactly one outcome, and only items in progress on a dead worker may run again;
- siblings and other sessions are unharmed;
- no descendant, shared memory or temporary file is left two seconds after a close or an exit;
- a cancel returns within grace + 0.5 s, and the loop is held for less than 50 ms;
- the next call works, or raises `SessionClosedError`.

Tests say which rows they prove with ``@pytest.mark.fault(1, 2)``, in this folder or any other.  A row with no test
fails the suite, as does one whose tests were all skipped, unless `MISSING` names the capability that it waits for.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import offloop


@dataclass(frozen=True)
class Row:
    """Faults of one kind, and what is expected of them."""

    faults: dict[int, str]
    expected: str


def _row(number: int, fault: str, expected: str) -> Row:
    return Row({number: fault}, expected)


ROWS = (
    # workers that die
    _row(1, "SIGKILL amid a chunk, once", "all results arrive; only items in progress run again"),
    _row(2, "an item that kills its worker every time", "it fails as crashed after two deaths; no innocent is lost"),
    _row(3, "a segfault, an abort, a SIGBUS", "the signal is named, faulthandler's text attached"),
    _row(4, "os._exit(0)", "counts as a crash"),
    _row(5, "a kill for want of memory", "says out of memory where the control group's counter rose"),
    _row(6, "SystemExit, KeyboardInterrupt or another BaseException in fn", "a failure of the item, never raw in the loop"),
    _row(7, "death while writing a result of 600 MB", "nobody stalls"),
    _row(8, "death after the result was sent", "it is accepted once and not run again"),
    _row(9, "death at every step of the protocol, by each signal", "what holds for every row"),
    _row(10, "an idle worker is killed", "callers don't see it"),
    _row(11, "an initializer or an import that always dies", "no more starts after 3; its stderr is shown"),
    _row(12, "starting fails: EMFILE, EAGAIN, ENOMEM", "backs off, takes fewer workers, or raises"),
    _row(13, "random kills during a map", "every result is right"),
    _row(14, "a deadlock in a worker", "its timeout kills that worker only"),
    _row(15, "a worker under SIGSTOP", "its timeout kills that worker only"),
    # data that fails on its way
    _row(16, "an fn or an argument that can't be pickled", "raised before dispatch, and the path is named"),
    _row(17, "a result that can't be pickled", "type and path are named"),
    _row(18, "an exception that can't be pickled", "type, text and traceback arrive"),
    _row(19, "an exception with an __init__ of its own", "the class itself where it can be rebuilt, else a wrapper"),
    _row(20, "an argument that fails to unpickle in the worker", "fails alone; the frames after it are read"),
    _row(21, "a result that fails to unpickle here", "fails alone; whoever reads goes on"),
    _row(22, "a structure 100,000 deep", "fails alone"),
    _row(23, "a __reduce__ that exits, crashes or hangs", "as if fn did the same"),
    _row(24, "a huge result", "arrives, or a limit is named with both numbers"),
    _row(25, "/dev/shm or memory is full", "another way is taken or a clear error raised; never SIGBUS"),
    _row(26, "a temporary folder that is full, read-only, gone", "another way is taken, or the variable is named"),
    # cancelling
    _row(27, "an endless loop in Python", "flag, then interrupt, then kill"),
    _row(28, "C code that holds the GIL, with SIGTERM ignored", "killed after grace"),
    _row(29, "a cancel in each phase, starting and closing included", "no orphan"),
    _row(30, "a storm of cancels", "never more than n workers"),
    _row(31, "a cancel during __aexit__", "clean-up is shielded and bounded"),
    _row(32, "a consumer that raises in mid-stream", "what is in flight is cancelled, the source closed once"),
    Row(
        {
            33: "a slow consumer",
            34: "an endless source",
            35: "a source that raises",
            36: "a stream that is never closed",
        },
        "no more is read ahead than the window; finished results first, then the error; ResourceWarning, and the session lives",
    ),
    # sessions and their process
    Row(
        {37: "a double close, use after a close", 38: "a session that is dropped"},
        "no-op, SessionClosedError; warning, and the workers are gone at exit",
    ),
    _row(39, "a loop closed in mid-run, a session used from another loop", "a clear error"),
    _row(40, "a sink, callback or hook that raises", "logged, never fatal"),
    Row(
        {41: "concurrent and nested sessions", 42: "a nested run in a worker"},
        "one budget of cores, no cancel crosses over; the nested run is inline",
    ),
    Row(
        {
            43: "timeouts 0, -1, inf, NaN",
            54: "garbage in the environment",
            55: 'workers 0, -5, "x", NaN, 2.5, 1e6',
            56: "chunk sizes and hints -1, 0, NaN, inf, bool, numpy.int64",
        },
        "validated at once, value and variable named",
    ),
    Row(
        {44: "the parent is killed, busy, idle or with arrays", 45: "its whole process group is"},
        "no descendant within 0.5 s; nothing that has a name remains",
    ),
    Row(
        {46: "SIGTERM, SIGHUP", 47: "Ctrl-C in each phase, and twice"},
        "the host's handlers are untouched; one traceback, exit within grace",
    ),
    Row(
        {48: "a worker forks a child", 49: "a worker starts threads that are no daemons"},
        "closed within grace; the policy is documented",
    ),
    Row(
        {50: "a fork after the start", 51: "a session is pickled", 52: "the resource tracker is killed"},
        "a clear error in the child, the parent's lanes are safe; TypeError with advice; no effect",
    ),
    _row(53, "stdio is closed, C code writes to descriptor 1", "works: lanes have descriptors of their own"),
    _row(57, "a quota of half a core in a nested control group, an affinity of one", "one worker"),
    _row(58, "no main guard, stdin, -c, the REPL, a notebook", "works"),
    Row(
        {59: "uvloop, trio, guest mode", 60: "the wall clock jumps"},
        "the same contract; monotonic clocks only",
    ),
    # data as it arrives
    Row(
        {
            61: "arrays of every kind",
            62: "frames of every kind",
            63: "a worker changes its input",
            64: "the same at any size",
            65: "a result is kept after the close",
            66: "the parent changes its input in flight",
        },
        "equal on arrival, dtype and flags too; the same rule at any size; still valid; a documented snapshot",
    ),
    # load
    Row(
        {
            67: "1,000 callers over capacity",
            68: "a deadline that passes in the queue",
            69: "retries that multiply",
            70: "a million items",
        },
        "shed by time in the queue; never started; budgeted; flat memory",
    ),
    # what others can read or write
    Row(
        {
            76: "newlines and ANSI codes in names",
            77: "secrets in arguments",
            78: "pickles from strangers",
            79: "modes of files, and symlinks",
            80: "options that are strings",
        },
        "escaped; never logged; no listening socket, no fixed key; 0700, O_EXCL, O_NOFOLLOW; never evaluated",
    ),
)

FAULTS = {number: fault for row in ROWS for number, fault in row.faults.items()}


@dataclass(frozen=True)
class Missing:
    """Faults of one row that can't be met yet, since what they happen to does not exist."""

    numbers: tuple[int, ...]
    capability: str


MISSING: tuple[Missing, ...] = ()
MOST_MISSING = 0
WAITING = frozenset(number for missing in MISSING for number in missing.numbers)


def exists(capability: str) -> bool:
    """Return whether a public class has this attribute or setting by now."""
    owner, name = capability.split(".")
    cls = getattr(offloop, owner)
    return hasattr(cls, name) or (owner == "ParallelConfig" and name in {field.name for field in fields(cls)})
