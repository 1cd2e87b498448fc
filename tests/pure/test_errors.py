"""errors.py: the tree of errors and what they say."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

import offloop
from offloop import errors
from offloop.errors import (
    AsyncFunctionError,
    BatchLengthError,
    BatchTypeError,
    ItemError,
    OffloopError,
    PayloadTooLarge,
    SessionClosedError,
    SettingError,
    SettingTypeError,
    TaskCancelled,
    UnpicklableError,
    UnpicklableFunction,
    UnpicklableItem,
    UnpicklableResult,
    WorkerCrashed,
    WorkerError,
    WorkerInitError,
    WorkerStartError,
)

EXAMPLES: list[BaseException] = [
    OffloopError("anything"),
    SettingError("workers", 0, "write 1."),
    SettingTypeError("workers", "auto", "write 1."),
    AsyncFunctionError("app.fn"),
    UnpicklableError("items[3]", "items[3].a", "_thread.lock", "app.fn"),
    UnpicklableFunction("the function", "fn.a", "_thread.lock", "app.fn"),
    UnpicklableItem("items[3]", "items[3].a", "_thread.lock", "app.fn"),
    UnpicklableResult("the result", "result.a", "_thread.lock", "app.fn"),
    WorkerError("anything"),
    WorkerStartError("no memory"),
    WorkerInitError("app.load", "ValueError: x"),
    WorkerCrashed(3, 5, -11, "app.fn"),
    WorkerCrashed(3, 3, None, "app.fn"),
    ItemError(3, "SystemExit", "1", "why"),
    BatchLengthError("app.fn", 256, 1),
    BatchTypeError("app.fn", "None", "which has no rows"),
    PayloadTooLarge(900, 100),
    SessionClosedError("closed"),
    TaskCancelled(),
]


def classes() -> set[type[BaseException]]:
    """Return every exception class that the module defines."""
    return {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == errors.__name__
    }


def test_every_class_has_an_example() -> None:
    """No class is left out of the tests below, nor of the public API."""
    assert {type(error) for error in EXAMPLES} == classes()
    assert {kind.__name__ for kind in classes()} <= set(offloop.__all__)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("way", [copy.copy, *(lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in range(6))])
def test_every_error_survives_a_round_trip(error: BaseException, way: Any) -> None:
    """A pickled copy has the same class, fields, text and notes."""
    error.__notes__ = ["a note"]
    back = way(error)
    assert type(back) is type(error)
    assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_fields_are_positional(error: BaseException) -> None:
    """Each field of an error is the attribute of the name of its positional parameter."""
    parameters = list(inspect.signature(type(error).__init__).parameters.values())[1:]
    if parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return
    assert all(p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for p in parameters)
    assert [getattr(error, p.name) for p in parameters] == list(error.args)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_the_text_has_every_field(error: BaseException) -> None:
    """What an error knows stands in its text."""
    if isinstance(error, WorkerCrashed):
        return
    text = str(error)
    assert all(str(field) in text for field in error.args)


def drawn_tree() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the tree in the docstring: the name of each class with the name above it and those in brackets."""
    tree: dict[str, tuple[str, tuple[str, ...]]] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^ {4}([│ ├└─]*)([A-Z]\w+)\s*(?:\((\w+)\))?", line)
        if match is None:
            continue
        indent, name, extra = match.groups()
        depth = len(indent) // 4
        above[depth] = name
        tree[name] = (above[depth - 1] if depth else "", tuple(filter(None, [extra])))
    return tree


def test_the_tree_is_as_drawn() -> None:
    """The tree at the top of the module shows every class under its base, with the standard class it also is."""
    actual = {}
    for kind in classes():
        bases = [base.__name__ for base in kind.__bases__]
        ours = [base for base in bases if base in {k.__name__ for k in classes()}]
        others = tuple(base for base in bases if base not in ours and base != "Exception")
        actual[kind.__name__] = (ours[0] if ours else "", others)
    assert drawn_tree() == actual


@pytest.mark.parametrize(
    ("error", "caught_as"),
    [
        (SettingError, ValueError),
        (SettingTypeError, TypeError),
        (SettingTypeError, ValueError),
        (AsyncFunctionError, TypeError),
        (UnpicklableFunction, TypeError),
        (UnpicklableItem, TypeError),
        (UnpicklableResult, TypeError),
        (WorkerCrashed, RuntimeError),
        (PayloadTooLarge, MemoryError),
        (SessionClosedError, RuntimeError),
    ],
)
def test_errors_are_what_users_catch_already(error: type[Exception], caught_as: type[Exception]) -> None:
    """Each error is also the standard class for its kind of mistake."""
    assert issubclass(error, caught_as)


@pytest.mark.parametrize(
    ("exit_code", "signal", "words"),
    [
        (-9, "SIGKILL", "out of memory"),
        (-11, "SIGSEGV", "compiled code"),
        (-200, "signal 200", "killed by signal 200"),
        (3, None, "exit code 3"),
        (0, None, "os._exit()"),
        (None, None, "isn't known"),
    ],
)
def test_a_crash_names_its_likely_cause(exit_code: int | None, signal: str | None, words: str) -> None:
    """A crash tells the signal or exit code and what usually leads to it."""
    error = WorkerCrashed(17, 17, exit_code, "app.fn")
    assert error.signal == signal
    assert words in str(error)
    assert "items[17] of app.fn" in str(error)


def test_a_crash_of_several_items_names_the_range() -> None:
    """A crash that concerns several items names the first and the last."""
    assert "items[3…5]" in str(WorkerCrashed(3, 5, 1, "fn"))


def test_what_cannot_travel_says_where_and_what_to_do() -> None:
    """The text has the subject, the path, the type, the function and a fix, each on a line of its own."""
    text = str(UnpicklableItem("items[17]", "items[17].client._lock", "_thread.lock", "app.fn (app.py:4)"))
    assert text.splitlines()[0] == "items[17] can't be sent to a worker"
    assert re.findall(r"^  (where|fn|fix): ", text, re.MULTILINE) == ["where", "fn", "fix"]
    assert "items[17].client._lock  (_thread.lock)" in text
    assert "worker_init" in text


def test_cancellation_passes_except_exception() -> None:
    """`except Exception` in the user's code lets a cancellation through."""
    assert not issubclass(TaskCancelled, Exception)
