"""errors.py: the tree of errors and what they say."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

import offloop
from offloop import ask_error, errors
from offloop.ask_error import AskError
from offloop.errors import (
    AsyncFunctionError,
    BatchLengthError,
    BatchTypeError,
    ItemError,
    ItemTimeout,
    OffloopError,
    Overloaded,
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
from offloop.explaining import LABELS, Explained

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "errors.md"
DUMP = """Fatal Python error: Segmentation fault

Current thread 0x00007f03919dcb80 (most recent call first):
  File "app.py", line 44 in score

Extension modules: app._core (total: 1)
"""
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
    WorkerCrashed(3, 3, -9, "app.fn", "out of memory", DUMP),
    ItemTimeout(3, 0.5, 0.625, "app.fn"),
    ItemError(3, "SystemExit", "1", "why"),
    AskError("why", "fix"),
    BatchLengthError("app.fn", 256, 1),
    BatchTypeError("app.fn", "None", "which has no rows"),
    PayloadTooLarge(900, 100),
    Overloaded("max_pending", 0.5, 64, 64),
    Overloaded("max_pending_bytes", 2.0, 3, 1000),
    Overloaded("max_wait_s", 0.25, 17, 0.125),
    Overloaded("deadline", 0.1, 2, 0.03),
    SessionClosedError("closed"),
    SessionClosedError("draining"),
    TaskCancelled(),
]


def classes() -> set[type[BaseException]]:
    """Return every exception class that the modules of errors define."""
    return {
        value
        for module in (errors, ask_error)
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == module.__name__
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
    if isinstance(error, WorkerCrashed | Overloaded):
        return
    text = str(error)
    assert all(str(field) in text for field in error.args)


# --- codes and layout ------------------------------------------------------------------------------------------------


# Users write these in alerts and search for them: a code is never changed and never used for another error.
CODES = {
    "offloop-error": "OffloopError",
    "setting-value": "SettingError",
    "setting-type": "SettingTypeError",
    "async-function": "AsyncFunctionError",
    "unpicklable": "UnpicklableError",
    "unpicklable-function": "UnpicklableFunction",
    "unpicklable-item": "UnpicklableItem",
    "unpicklable-result": "UnpicklableResult",
    "payload-too-large": "PayloadTooLarge",
    "worker-error": "WorkerError",
    "worker-start-failed": "WorkerStartError",
    "worker-init-failed": "WorkerInitError",
    "worker-crashed": "WorkerCrashed",
    "item-timeout": "ItemTimeout",
    "batch-length": "BatchLengthError",
    "batch-type": "BatchTypeError",
    "item-error": "ItemError",
    "ask": "AskError",
    "overloaded": "Overloaded",
    "session-closed": "SessionClosedError",
    "task-cancelled": "TaskCancelled",
}


def test_codes_never_change() -> None:
    """Every class has a code of its own, and it is the one that it always had."""
    assert {vars(kind)["code"]: kind.__name__ for kind in classes()} == CODES
    assert len(classes()) == len(CODES)


@pytest.mark.parametrize("code", CODES)
def test_the_page_has_the_code(code: str) -> None:
    """docs/reference/errors.md has one section under each code, whose anchor is the code."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert PAGE.read_text(encoding="utf-8").splitlines().count(f"## {code}") == 1


def told_by(error: BaseException) -> tuple[str, dict[str, str]]:
    """Return the first line of an error's text and what it says below, by label; further lines of one are joined."""
    first, *lines = str(error).split("\n")
    told: dict[str, str] = {}
    for line in lines:
        label, text = line[:9].strip(), line[9:]
        if label:
            assert line.startswith(f"  {label:7}"), "not aligned"
            told[label.removesuffix(":")] = text
        else:
            told[list(told)[-1]] += f"\n{text}"
    return first, told


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_the_first_line_says_what_happened_and_the_code(error: BaseException) -> None:
    """The first line stands for itself: what happened, with the code in brackets at its end; known labels follow in order."""
    first, told = told_by(error)
    assert isinstance(error, Explained)
    assert re.fullmatch(rf"\S.* \[{error.code}\]", first)
    assert list(told) == [label for label in LABELS if label in told]
    assert all(text.strip() for text in told.values())


LABELS_OF = {
    SettingError: "",
    SettingTypeError: "",
    AsyncFunctionError: "fn fix",
    UnpicklableError: "where fn fix",
    UnpicklableFunction: "where fn fix",
    UnpicklableItem: "where fn fix",
    UnpicklableResult: "where fn fix",
    PayloadTooLarge: "cause fix",
    WorkerStartError: "cause fix",
    WorkerInitError: "cause fix",
    WorkerCrashed: "where fn fix",
    ItemTimeout: "where fn cause fix",
    ItemError: "where cause fix",
    AskError: "cause fix",
    BatchLengthError: "fn cause fix",
    BatchTypeError: "fn cause fix",
    Overloaded: "cause fix",
    SessionClosedError: "fix",
    TaskCancelled: "fix",
    OffloopError: "",
    WorkerError: "",
}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_says_where_and_what_to_do(error: BaseException) -> None:
    """Where it was, in which function, why and what to do are told where they apply, the fix always.

    Only the bases, which are not raised, have none, and a setting has it in its first line.
    """
    first, told = told_by(error)
    assert set(LABELS_OF[type(error)].split()) <= told.keys()
    if "where" in told and not isinstance(error, UnpicklableError):
        assert told["where"] in first
    if "fn" in told:
        assert told["fn"] == "app.fn"


def test_a_text_cannot_break_the_layout() -> None:
    """What is told of code and exceptions moves no cursor, colours nothing and looks like no other line."""
    name = "app.\x1b[31mred\r"
    first, told = told_by(ItemError(1, name, "one\n  fix:   none\n\n\x07three", "why\nindeed"))
    assert first == r"items[1] raised app.\x1b[31mred\r, why\nindeed [item-error]"
    assert told["cause"].split("\n") == [r"app.\x1b[31mred", ": one", "  fix:   none", r"\x07three"]


def test_an_empty_text_leaves_nothing_behind() -> None:
    """An exception without a text is told by its type alone."""
    assert told_by(ItemError(1, "SystemExit", "", "why"))[1]["cause"] == "SystemExit"
    assert str(OffloopError()) == "[offloop-error]"


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
        others = tuple(base for base in bases if base not in (*ours, "Exception", "Explained"))
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
        (ItemTimeout, TimeoutError),
        (Overloaded, RuntimeError),
        (SessionClosedError, RuntimeError),
    ],
)
def test_errors_are_what_users_catch_already(error: type[Exception], caught_as: type[Exception]) -> None:
    """Each error is also the standard class for its kind of mistake."""
    assert issubclass(error, caught_as)


@pytest.mark.parametrize(
    ("exit_code", "signal", "how", "cause"),
    [
        (-9, "SIGKILL", "killed by SIGKILL", "probably out of memory, or somebody killed it"),
        (-11, "SIGSEGV", "killed by SIGSEGV", "probably a bug in compiled code that the function calls"),
        (-200, "signal 200", "killed by signal 200", "somebody ended it: a supervisor, or code that signals processes"),
        (3, None, "exit code 3", "probably os._exit(), or C code that calls exit()"),
        (0, None, "exit code 0", "probably os._exit(), or C code that calls exit()"),
        (None, None, "how it ended isn't known", None),
    ],
)
def test_a_crash_names_its_likely_cause(exit_code: int | None, signal: str | None, how: str, cause: str | None) -> None:
    """A crash tells the signal or exit code and what usually leads to it."""
    error = WorkerCrashed(17, 17, exit_code, "app.fn")
    first, told = told_by(error)
    assert error.signal == signal
    assert first == f"a worker died on items[17]: {how} [worker-crashed]"
    assert told.get("cause") == cause
    assert told["fn"] == "app.fn"


def test_what_is_known_of_a_crash_takes_the_place_of_a_guess() -> None:
    """A crash whose cause is known tells that, and no guess beside it."""
    _, told = told_by(WorkerCrashed(17, 17, -9, "app.fn", cause="out of memory: its control group reached 512 MB"))
    assert told["cause"] == "out of memory: its control group reached 512 MB"
    assert "dmesg" in told["fix"]


def test_a_crash_shows_the_stack() -> None:
    """What faulthandler wrote of the thread that crashed is the last thing in the text, each line of it indented."""
    _, told = told_by(WorkerCrashed(17, 17, -11, "app.fn", dump=DUMP))
    assert list(told)[-1] == "stack"
    headline, *stack = told["stack"].splitlines()
    assert headline == "Fatal Python error: Segmentation fault"
    assert [line.strip() for line in stack] == [
        "Current thread 0x00007f03919dcb80 (most recent call first):",
        'File "app.py", line 44 in score',
    ]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (Overloaded("max_pending", 0.5, 64, 64), "64 calls wait or execute, and max_pending=64"),
        (Overloaded("max_pending_bytes", 0.5, 3, 1000), "3 calls under way bring it exceeds max_pending_bytes=1000"),
        (Overloaded("max_wait_s", 0.5, 17, 0.125), "for longer than max_wait_s=0.125"),
        (Overloaded("deadline", 0.5, 2, 0.03), "within the 0.03 s that its caller allows"),
    ],
    ids=lambda value: getattr(value, "why", ""),
)
def test_a_refusal_names_the_limit(error: Overloaded, cause: str) -> None:
    """What a call would have exceeded is told with its number, and when to come again."""
    _, told = told_by(error)
    assert cause in told["cause"]
    assert "again after 0.5 s" in told["fix"]


@pytest.mark.parametrize(
    ("state", "fix"), [("closed", "async with"), ("not open", "async with"), ("draining", "open another session")]
)
def test_a_session_that_takes_nothing_says_what_to_do(state: str, fix: str) -> None:
    """What to do depends on whether the session isn't open or finishes what it has."""
    first, told = told_by(SessionClosedError(state))
    assert first == f"the session is {state} [session-closed]"
    assert fix in told["fix"]
    assert ("cause" in told) == (state == "draining")


def test_a_crash_of_several_items_names_the_range() -> None:
    """A crash that concerns several items names the first and the last."""
    assert "items[3…5]" in str(WorkerCrashed(3, 5, 1, "fn"))


def test_what_cannot_travel_says_where_and_what_to_do() -> None:
    """The text has the subject, the path, the type, the function and a fix, each on a line of its own."""
    text = str(UnpicklableItem("items[17]", "items[17].client._lock", "_thread.lock", "app.fn (app.py:4)"))
    assert text.splitlines()[0] == "items[17] can't be sent to a worker [unpicklable-item]"
    assert re.findall(r"^  (where|fn|fix): ", text, re.MULTILINE) == ["where", "fn", "fix"]
    assert "items[17].client._lock  (_thread.lock)" in text
    assert "worker_init" in text


def test_cancellation_passes_except_exception() -> None:
    """`except Exception` in the user's code lets a cancellation through."""
    assert not issubclass(TaskCancelled, Exception)
