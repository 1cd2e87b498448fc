"""Work that logs, warns and prints; light, since workers import it."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from typing import Any

import workloads as w


def context_of(_: Any = None) -> dict[str, Any]:
    """Return what is bound to structlog's context."""
    structlog: Any = sys.modules.get("structlog")
    return {} if structlog is None else structlog.contextvars.get_contextvars()


def rebind(_: Any = None) -> None:
    """Bind something, unbind all else, and leave it like that."""
    import structlog

    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(left="behind")


def log(x: Any) -> int:
    """Log by the standard library, with a field of its own and what can't travel."""
    logging.getLogger("talkative.log").warning("item %s is %s", x, object, extra={"shelf": 3, "thing": {1, 2}})
    return os.getpid()


def log_failure(x: Any) -> None:
    try:
        raise w.OwnError(x)
    except w.OwnError:
        logging.getLogger("talkative").exception("it failed")


def log_below_warning(_: Any = None) -> None:
    """Log what usually nobody asks for."""
    for name in ("talkative.asked", "talkative.other"):
        logging.getLogger(name).info("by %s", name)


def log_event(x: Any) -> int:
    """Log by structlog."""
    import structlog

    structlog.contextvars.bind_contextvars(step="second")
    structlog.get_logger("talkative").warning("checked", number=x, thing=(1, 2), level="high")
    return os.getpid()


def import_structlog() -> None:
    import structlog  # noqa: F401


def print_by_own_structlog() -> None:
    """Configure structlog as an application would that prints."""
    import structlog

    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])


def warn(text: str) -> int:
    warnings.warn(text, RuntimeWarning, stacklevel=1)
    return os.getpid()


class OwnWarning(UserWarning):
    """A warning that the parent knows too."""


def warn_of_own(text: str) -> None:
    warnings.warn(text, OwnWarning, stacklevel=1)


def speak(x: Any) -> int:
    """Print a line and one without end to each stream."""
    print("line", x)
    print(f"line {x} on stderr", file=sys.stderr)
    sys.stdout.write(f"rest {x}")
    return os.getpid()


def begin_lines(x: Any) -> None:
    """Print what the next item ends."""
    sys.stdout.write(f" ended by {x}\nbegun by {x}")


def speak_and_wait(path: str) -> None:
    """Print, and go on once that was heard."""
    print(path)
    w.wait_for_file(path)


def speak_and_die(*_: Any) -> None:
    """Print, and die."""
    print("first words")
    print("last words")
    os._exit(9)


def speak_for_ever(path: str) -> None:
    """Do nothing but print."""
    try:
        w.append(f"{path}.began", os.getpid())
        while True:
            print("again")
    finally:
        print("once more")
        w.append(f"{path}.stopped", os.getpid())


def speak_in_background(count: int) -> None:
    """Print from another thread only."""

    def speak() -> None:
        for number in range(count):
            print("number", number)

    thread = threading.Thread(target=speak)
    thread.start()
    thread.join()


def speak_later(path: str) -> None:
    """Print, log and warn from another thread once a file is there."""

    def speak() -> None:
        w.wait_for_file(path)
        print("late line")
        logging.getLogger("talkative").warning("late record")
        w.append(f"{path}.said", os.getpid())

    threading.Thread(target=speak, daemon=True).start()


def fork_and_speak(x: Any) -> int:
    """Print in a forked process, and here."""
    sys.stdout.write("begun before, ")
    child = os.fork()
    if child == 0:
        try:
            print("child's line")
            logging.getLogger("talkative").warning("child's record")
            sys.stdout.flush()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    print("ended after")
    return os.getpid()


def describe_streams() -> list[Any]:
    """Return what other libraries look at, after writing through each of them."""
    sys.stdout.buffer.write(b"raw bytes\n")
    os.write(sys.stdout.fileno(), b"by descriptor\n")
    sys.stdout.writelines(["two\n", "lines\n"])
    return [sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout.isatty(), sys.stdout.writable(), sys.stdout.encoding]


def init_aloud() -> None:
    """As worker_init: print and log."""
    print("getting ready")
    logging.getLogger("talkative").warning("nearly ready")


def fail_aloud() -> None:
    """As worker_init: print, and fail."""
    print("can't get ready")
    raise w.OwnError("no licence")
