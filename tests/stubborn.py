"""Work that is hard to stop; light, since workers import it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import offloop
import workloads as w


def say(path: str, what: str) -> None:
    """Note in a file which process has come to this."""
    w.append(f"{path}.{what}", os.getpid())


def spin(path: str) -> None:
    """Loop for ever, and say at the end that it is over."""
    try:
        say(path, "began")
        while True:
            pass
    finally:
        say(path, "stopped")


def sleep(path: str) -> None:
    try:
        say(path, "began")
        time.sleep(60)
    finally:
        say(path, "stopped")


def deadlock(path: str) -> None:
    """Wait for a lock that nobody will release."""
    lock = threading.Lock()
    lock.acquire()
    try:
        say(path, "began")
        lock.acquire()
    finally:
        say(path, "stopped")


def swallow_exceptions(path: str) -> None:
    """Loop for ever, whatever Exception comes."""
    try:
        say(path, "began")
        while True:
            try:
                for _ in range(1000):
                    pass
            except Exception:
                continue
    finally:
        say(path, "stopped")


def generate(path: str) -> None:
    """Loop for ever in a generator within a comprehension within a function that C code calls."""

    def numbers() -> Any:
        while True:
            yield 0

    try:
        say(path, "began")
        sum(map(sum, ([x, 0] for x in numbers())))
    finally:
        say(path, "stopped")


class _Slow:
    """Takes its time to go away, where exceptions are ignored."""

    def __del__(self) -> None:
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            pass


def delete_slowly(path: str) -> None:
    """Spend most of the time where an exception is ignored."""
    sys.unraisablehook = _ignore
    try:
        say(path, "began")
        while True:
            _Slow()
            w.spin(0.005)
    finally:
        say(path, "stopped")
        sys.unraisablehook = sys.__unraisablehook__


def _ignore(_: object) -> None:
    """Say nothing of an exception in ``__del__``."""


def clean_up(path: str) -> None:
    """Loop for ever, then clean up for much longer than the pause between two interrupts."""
    try:
        say(path, "began")
        while True:
            pass
    finally:
        w.spin(0.2)
        say(path, "stopped")


INTERRUPTIBLE = {
    function.__name__: function for function in (spin, swallow_exceptions, generate, delete_slowly, clean_up)
}
ONLY_IN_WORKERS = {function.__name__: function for function in (sleep, deadlock)}  # where signals end such waits


def refuse(path: str) -> None:
    """Loop for ever, whatever comes."""
    say(path, "began")
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def shield(path: str) -> None:
    """Wait for a file within a shield, say so, and loop for ever."""
    with offloop.shield():
        say(path, "began")
        while not os.path.exists(f"{path}.go"):
            offloop.checkpoint()
        say(path, "shielded")
    say(path, "exposed")
    while True:
        pass


def import_slowly(folder: str, path: str) -> str:
    """Import a module that takes its time."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    import slow_module

    return str(slow_module.made(path))


SLOW_MODULE = """
import os, time
import workloads as w
path = open(os.path.join(os.path.dirname(__file__), "path")).read()
w.append(path + ".began", os.getpid())
end = time.monotonic() + 0.3
while time.monotonic() < end:
    pass

def made(path):
    return "whole"
"""


def leak(what: str, path: str) -> None:
    """Change the process for good, and loop for ever."""
    if what == "thread":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    elif what == "handler":
        signal.signal(signal.SIGUSR1, lambda *_: None)
    elif what == "timer":
        signal.setitimer(signal.ITIMER_REAL, 600)
    spin(path)


def spin_if_odd(path: str, x: int) -> int:
    """Note the execution of an item; odd ones loop for ever."""
    w.append(f"{path}.ran", x)
    if x % 2:
        spin(path)
    return 2 * x


def open_pipe(path: str) -> None:
    """Wait in a single call into C until somebody opens the other end of a pipe."""
    with offloop.shield():
        say(path, "began")
        os.close(os.open(f"{path}.pipe", os.O_RDONLY))


def fit_for_ever(path: str, depth: int) -> float:
    """Cross-validate a model that never comes to an end, with errors scored."""
    import numpy as np
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.model_selection import cross_val_score

    class Endless(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:
            spin(path)

        def predict(self, X: Any) -> Any:
            return X[:, 0]

    X = np.arange(40.0).reshape(20, 2)
    return float(cross_val_score(Endless(), X, np.arange(20) % 2, cv=depth, error_score=0.0).sum())
