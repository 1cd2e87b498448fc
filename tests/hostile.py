"""Values that do harm as they are pickled or rebuilt: in fn, items, results and exceptions, on either side."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
import time
from typing import Any

import offloop
import workloads as w

# Acts that end the process are for workers alone.
MILD = ("raise", "exit", "interrupt")
DEADLY = ("die", "segfault")


def act(how: str, path: str, side: str) -> int:
    """Do what `how` says if this is the side where it is to happen: "worker" or "parent"."""
    if side != ("worker" if offloop.in_worker() else "parent"):
        return 0
    w.append(f"{path}.began", os.getpid())
    match how:
        case "raise":
            raise w.OwnError("its own way")
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "die":
            os._exit(11)
        case "segfault":
            w.die("SIGSEGV")
        case "hang":
            _hang(f"{path}.go")
        case "hang deaf":
            while not os.path.exists(f"{path}.go"):
                with contextlib.suppress(BaseException):
                    _hang(f"{path}.go")
    return 0


def _hang(path: str) -> None:
    """Go on until there is such a file."""
    end = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.001)


class ActsOnPickling:
    """Acts in its __reduce__."""

    def __init__(self, how: str, path: str, side: str) -> None:
        self.deed = how, path, side

    def __reduce__(self) -> Any:
        act(*self.deed)
        return int, (0,)


class ActsOnRebuilding:
    """Acts in what its __reduce__ names."""

    def __init__(self, how: str, path: str, side: str) -> None:
        self.deed = how, path, side

    def __reduce__(self) -> Any:
        return act, self.deed


class ActsOnPicklingError(Exception):
    """Acts in its __reduce__."""

    def __init__(self, how: str, path: str, side: str) -> None:
        super().__init__("the text of it")
        self.deed = how, path, side

    def __reduce__(self) -> Any:
        act(*self.deed)
        return w.OwnError, ("another",)


class ActsOnRebuildingError(Exception):
    """Acts in what its __reduce__ names."""

    def __init__(self, how: str, path: str, side: str) -> None:
        super().__init__("the text of it")
        self.deed = how, path, side

    def __reduce__(self) -> Any:
        return _rebuilt, self.deed


def _rebuilt(how: str, path: str, side: str) -> ActsOnRebuildingError:
    act(how, path, side)
    return ActsOnRebuildingError(how, path, side)


def call_for_3(kind: Any, deed: tuple[str, str, str], x: Any) -> Any:
    """Return what acts for item 3, or raise it if it is an exception; else return the item."""
    if x != 3:
        return x
    value = kind(*deed)
    if isinstance(value, BaseException):
        raise value  # the line that fails
    return value


def take(_: Any, x: Any) -> Any:
    """Return an item, with something bound before it."""
    return x


def note(path: str, x: Any) -> Any:
    """Note that an item was executed."""
    w.append(path, "executed")
    return x


class Keyed:
    """A key that can't tell what it is."""

    def __repr__(self) -> str:
        raise w.OwnError("no text")


def nested_error(depth: int) -> Exception:
    """Return an exception that holds a structure so deep."""
    return w.OwnError(w.nest(depth))


def raise_nested_for_3(x: int) -> int:
    if x == 3:
        raise nested_error(100_000)
    return x


# --- a clock that nobody can trust -------------------------------------------------------------------------------------

_really = time.time
_jumps = itertools.cycle((0.0, 86_400.0, -86_400.0, 1e9, -1e9))


def wild_time() -> float:
    """Return another time of another year at each call."""
    return _really() + next(_jumps)


def wild_clock() -> None:
    """Be the worker_init of workers whose wall clock jumps at each look."""
    time.time = wild_time
    time.time_ns = lambda: int(wild_time() * 1e9)


# --- names that no terminal should see as they are ---------------------------------------------------------------------

EVIL = "evil\r\n\x1b[31mCRITICAL root logged in\x07\u202e\x9b2J"


def with_evil_name(fn: Any) -> Any:
    """Return a function that goes by such a name."""

    def called(*args: Any) -> Any:
        return fn(*args)

    called.__name__ = called.__qualname__ = EVIL
    return called


def evil_kind(*bases: type) -> Any:
    """Return a class of such a name."""
    return type(EVIL, bases, {"__module__": EVIL})


class EvilHolder:
    """Holds a lock under such a name."""

    def __init__(self) -> None:
        setattr(self, EVIL, threading.Lock())


def evil_return(_: Any) -> Any:
    """Return something that can't be pickled, named so all the way down."""
    value = evil_kind(EvilHolder)()
    return {EVIL: [value]}


def evil_raise(_: Any) -> Any:
    """Raise an exception of such a class that can't be pickled."""
    error = evil_kind(Exception)("harmless")
    error.lock = threading.Lock()
    raise error


def evil_exit(_: Any) -> Any:
    raise evil_kind(SystemExit)("harmless")


# --- secrets -----------------------------------------------------------------------------------------------------------

SECRET = "hunter2-correct-horse"


class Secretive:
    """Shows a secret to whoever asks for its text."""

    def __init__(self) -> None:
        self.secret, self.lock = SECRET, None

    def __repr__(self) -> str:
        return f"Secretive({SECRET})"

    __str__ = __repr__


def keep_secret(bound: Any, item: Any) -> str:
    """Fail, crash or succeed, with a secret in hand."""
    what = item[1] if isinstance(item, tuple) else item
    match what:
        case "raise":
            raise w.OwnError(SECRET, bound)
        case "unpicklable error":
            raise w.HoldsLock(SECRET)
        case "exit":
            sys.exit(SECRET)
        case "die":
            w.die("SIGKILL")
        case "unpicklable result":
            return {SECRET: threading.Lock(), "more": SECRET}  # type: ignore[return-value]
        case "slow":
            w.loop_deaf(os.devnull)
    return SECRET


def show_self(_: Any = None) -> tuple[int, bytes, list[str]]:
    """Return the process, its command line, and what its sockets and files are called."""
    with open("/proc/self/cmdline", "rb") as file:
        line = file.read()
    names = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
    return os.getpid(), line, names


def none_of(_: Any) -> None:
    """Return nothing, so that results take no memory of their own."""


# --- memory that runs out ----------------------------------------------------------------------------------------------


def limit_memory(spare: int) -> int:
    """Let this process have so much more address space than it has now; return what that makes."""
    import resource

    with open("/proc/self/statm") as file:
        total = int(file.read().split()[0]) * resource.getpagesize() + spare
    resource.setrlimit(resource.RLIMIT_AS, (total, resource.RLIM_INFINITY))
    return total


def bytes_of(size: int) -> bytes:
    return bytes(size)


def ones_of(size: int) -> Any:
    import numpy

    return numpy.ones(size, "u1")
