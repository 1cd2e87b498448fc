"""Work that asks its caller; light, since workers import it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import offloop
import workloads as w


def ask(question: Any) -> Any:
    return offloop.ask(question)


def ask_each(questions: list[Any]) -> list[Any]:
    return [offloop.ask(question) for question in questions]


def ask_and_catch(question: Any) -> tuple[str, list[str]]:
    """Return what `ask` raised, and its notes."""
    try:
        offloop.ask(question)
    except BaseException as error:
        return repr(error), list(getattr(error, "__notes__", []))
    return "nothing", []


def ask_elsewhere(question: Any) -> str:
    """Ask in a thread that this item starts, and return the error's code."""
    caught: list[str] = []

    def ask_there() -> None:
        try:
            offloop.ask(question)
        except offloop.AskError as error:
            caught.append(error.why)

    thread = threading.Thread(target=ask_there)
    thread.start()
    thread.join()
    return caught[0]


def tell_then_ask(text: str) -> Any:
    print(text)
    return offloop.ask(text)


def ask_and_note(path: str, question: Any = None) -> Any:
    """Ask, and note in files when the item began and when it stopped, and why."""
    w.append(f"{path}.began", os.getpid())
    try:
        return offloop.ask(question)
    finally:
        w.append(f"{path}.stopped", type(sys.exc_info()[1]).__name__)


def ask_at_the_end(path: str) -> None:
    """Wait to be cancelled, then ask in ``finally``, and note the answer."""
    try:
        w.loop_until_cancelled(path)
    finally:
        w.append(f"{path}.answer", offloop.ask("at the end"))


def ask_shielded(path: str) -> None:
    """Ask where nothing interrupts, and note the answer and how the shield's end went."""
    try:
        with offloop.shield():
            w.append(f"{path}.began", os.getpid())
            w.append(f"{path}.answer", offloop.ask("shielded"))
    except offloop.TaskCancelled:
        w.append(f"{path}.stopped", "cancelled")
        raise


def ask_once_told(path: str) -> None:
    """Wait to be told of the cancelling, then ask, and note the answer."""
    w.append(f"{path}.began", os.getpid())
    while not offloop.is_cancelled():
        time.sleep(0.001)
    w.append(f"{path}.answer", offloop.ask("told"))


def ask_too_late(path: str) -> None:
    """Ask after the cancelling, where that may interrupt; note what came of it."""
    with offloop.shield():
        w.append(f"{path}.began", os.getpid())
        while not offloop.is_cancelled():
            time.sleep(0.001)
    offloop.ask("never")


def ask_under_alarm(question: Any) -> tuple[str, Any]:
    """Have a signal handler of fn's own break the wait for an answer, then ask again."""

    def on_alarm(number: int, frame: object) -> None:
        raise TimeoutError("alarm")

    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            first = offloop.ask(("slow", question))
        except TimeoutError as error:
            first = str(error)
        return first, offloop.ask(("quick", question))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def ask_then_die(path: str, question: Any) -> Any:
    """Die while the first question waits for its answer; ask again in the second life."""
    killer = threading.Thread(target=_die_once_asked, args=(path,), daemon=True)
    if not Path(f"{path}.dead").exists():
        killer.start()
    return offloop.ask(question)


def _die_once_asked(path: str) -> None:
    while not Path(f"{path}.asked").exists():
        time.sleep(0.001)
    Path(f"{path}.dead").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def ask_forked(question: Any) -> str:
    """Ask in a process forked by this item, and return the first line of what that raised there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            offloop.ask(question)
        except BaseException as error:
            os.write(writing, repr(error).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        text = said.read().decode()
    os.waitpid(child, 0)
    return text


class Unreadable:
    """Can be pickled, and not be unpickled."""

    def __reduce__(self) -> Any:
        return _fail, ()


def _fail() -> None:
    raise ZeroDivisionError("unreadable")


class Odd(Exception):
    """Can't be pickled."""

    def __init__(self) -> None:
        super().__init__("odd")
        self.lock = threading.Lock()


class Late(Exception):
    """Its own way of pickling loses it: `__init__` takes what `args` has not."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


def ask_for_lock() -> Any:
    """Ask what can't be pickled."""
    return offloop.ask([threading.Lock()])


def ask_unreadably() -> Any:
    """Ask what can't be unpickled."""
    return offloop.ask(Unreadable())


def unreadable(_: Any) -> Any:
    return Unreadable()


def lock(_: Any) -> Any:
    return {"lock": threading.Lock()}


def oddly(_: Any) -> Any:
    raise Odd
