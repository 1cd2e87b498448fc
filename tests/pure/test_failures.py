"""wire/failures.py: how an exception travels from a worker."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.errors import ItemError, OffloopError, WorkerCrashed
from offloop.wire.failures import (
    PackedFailure,
    add_notes,
    pack_failure,
    safe_text,
    traceback_text,
    type_name,
    unpack_failure,
    unpicklable_result,
    unreadable_item,
)


class Coded(Exception):
    """Takes other arguments than it hands to its base, so plain pickle can't rebuild it."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"code {code}")
        self.code, self.detail = code, detail


class Swapped(Exception):
    """Is rebuilt by plain pickle with the wrong arguments."""

    def __init__(self, message: str) -> None:
        super().__init__(f"swapped: {message}")


class Silent(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("broken")


class Heavy(Exception):
    """Holds what can't be pickled."""

    def __init__(self) -> None:
        super().__init__("heavy")
        self.handle = (number for number in "ab")


class Poison(Exception):
    """Its own way of pickling can't be unpickled."""

    def __reduce__(self) -> Any:
        """Rebuild by a function that fails."""
        return _explode, ()


def _explode() -> None:
    raise SystemExit("poisoned")


class Impostor(Exception):
    """Its own way of pickling makes something that is no exception."""

    def __reduce__(self) -> Any:
        """Rebuild as a string."""
        return str, ("not an exception",)


@dataclass(frozen=True)
class Frozen(Exception):
    """Refuses new attributes, notes among them."""

    code: int


def travel(error: BaseException, index: int = 3) -> Exception:
    """Raise, pack, pickle, unpickle and unpack an exception as a worker and its parent do."""
    try:
        raise error
    except BaseException as caught:
        packed = pack_failure(caught)
    return unpack_failure(PackedFailure(*pickle.loads(pickle.dumps(tuple(packed)))), index, "app.fn (app.py:1)")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad", 3),
        KeyError("k"),
        OSError(2, "No such file", "/x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ExceptionGroup("two", [ValueError(1), KeyError(2)]),
        Coded(4, detail="d"),
        Swapped("m"),
        WorkerCrashed(1, 2, -9, "fn"),
        Poison("x"),
        Impostor("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_arrive_as_themselves(error: Exception) -> None:
    """An exception arrives with its class, arguments, attributes and text, whatever its __init__ takes."""
    arrived = travel(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    if not isinstance(error, ExceptionGroup):
        assert arrived.args == error.args
        mine = {name: value for name, value in vars(arrived).items() if name != "__notes__"}
        assert mine == vars(error)


@given(st.text(), st.integers())
def test_any_text_arrives(text: str, number: int) -> None:
    """Arguments of any text and number arrive equal."""
    assert travel(ValueError(text, number)).args == (text, number)


def test_notes_say_where_it_comes_from() -> None:
    """The notes name index and function, and hold the traceback up to the user's own line."""
    arrived = travel(ValueError("bad"), index=17)
    assert arrived.__notes__[0] == "offloop: raised by items[17] of app.fn (app.py:1)"
    assert arrived.__notes__[1].startswith("offloop: in the worker\nTraceback")
    assert arrived.__notes__[1].splitlines()[-1].strip().startswith("raise error")


def test_own_notes_stay() -> None:
    """Notes that the user's code added come first and stay."""
    error = ValueError("bad")
    error.add_note("mine")
    assert travel(error).__notes__[0] == "mine"


def test_the_cause_is_in_the_traceback() -> None:
    """What an exception was raised from is told in the remote traceback."""
    error = ValueError("bad")
    error.__cause__ = KeyError("root")
    assert "KeyError: 'root'" in travel(error).__notes__[-1]


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), StopIteration(4), StopAsyncIteration(), GeneratorExit()]
)
def test_what_would_end_the_caller_arrives_wrapped(error: BaseException) -> None:
    """An exception that would end the caller's loop or coroutine arrives as the cause of an ItemError."""
    arrived = travel(error, index=5)
    assert isinstance(arrived, ItemError)
    assert (arrived.index, arrived.type_name) == (5, type(error).__name__)
    assert type(arrived.__cause__) is type(error)
    assert arrived.__cause__.args == error.args


def test_what_cannot_be_rebuilt_has_a_stand_in() -> None:
    """An exception that can't travel harms its own item alone: an ItemError tells its class, text and traceback."""
    arrived = travel(Heavy(), index=5)
    assert isinstance(arrived, ItemError)
    assert (arrived.index, arrived.type_name, arrived.message) == (5, f"{__name__}.Heavy", "heavy")
    assert "raise error" in arrived.__notes__[-1]


@pytest.mark.parametrize("kind", [Poison, Impostor])
def test_bytes_that_cannot_be_loaded_here_are_harmless(kind: type[Exception]) -> None:
    """Bytes that raise even SystemExit when they are unpickled here, or are no exception, become a stand-in."""
    packed = PackedFailure(pickle.dumps(kind("x")), "app.Error", "x", "")
    arrived = unpack_failure(packed, 0, "fn")
    assert isinstance(arrived, ItemError)
    assert (arrived.type_name, arrived.message) == ("app.Error", "x")


def test_a_broken_str_is_survived() -> None:
    """An exception whose __str__ raises still has a packed form, and says so in its text."""
    assert safe_text(Silent()) == "<no text: its __str__ raised RuntimeError>"
    try:
        raise Silent("arg")
    except Silent as error:
        packed = pack_failure(error)
    assert packed.message == safe_text(Silent())
    assert travel(Silent("arg")).args == ("arg",)


def test_an_exception_that_takes_no_notes_is_survived() -> None:
    """An exception that refuses attributes, as a frozen dataclass does, arrives without notes or as a stand-in."""
    with pytest.raises(FrozenInstanceError):
        Frozen(3).add_note("x")
    arrived = travel(Frozen(3))
    assert isinstance(arrived, Frozen | ItemError)


def test_notes_of_the_wrong_type_are_survived() -> None:
    """An exception that has something else in place of its notes arrives all the same."""
    error = ValueError("bad")
    error.__notes__ = ("a tuple",)  # type: ignore[assignment]
    assert isinstance(travel(error), ValueError | ItemError)


def test_type_names() -> None:
    """Built-in classes go by their bare name, others with their module."""
    assert type_name(ValueError()) == "ValueError"
    assert type_name(Silent()) == f"{__name__}.Silent"


def test_the_traceback_is_the_users_part() -> None:
    """Frames of offloop's own that a traceback begins with are left out."""
    from offloop.wire.status_page import new_page
    from offloop.worker.execute import execute
    from offloop.worker.interrupt import Guard
    from offloop.worker.task import Task

    class Keep:
        def __init__(self) -> None:
            self.texts: list[str] = []

        def gather(self, start: int, values: list[Any]) -> None:
            """Ignore where outcomes are put."""

        def values(self, start: int, values: list[Any], elapsed_ns: int) -> None:
            """Ignore values."""

        def failure(self, index: int, error: BaseException) -> None:
            """Keep the traceback."""
            self.texts.append(traceback_text(error))

    def users(number: int) -> float:
        return 1 / number

    keep = Keep()
    task = Task(new_page(bytearray(4096)), 1, None, False, Guard())
    execute(users, [0], start=0, flags=0, budget_ns=0, task=task, emit=keep)
    assert "execute.py" not in keep.texts[0]
    assert "return 1 / number" in keep.texts[0]


def test_an_unpicklable_result_is_explained() -> None:
    """A result that can't be sent back names the path to the culprit, its type and the pickling error."""
    cause = TypeError("cannot pickle")
    error = unpicklable_result(3, {"gen": (n for n in "ab")}, "app.fn", cause)
    assert (error.path, error.type_name, error.function) == ("results[3]['gen']", "generator", "app.fn")
    assert error.__cause__ is cause
    assert isinstance(error, TypeError)


def test_an_unreadable_item_is_explained() -> None:
    """An item that can't be rebuilt in the worker names its index and what unpickling raised."""
    cause = AttributeError("gone")
    error = unreadable_item(4, "app.fn", cause)
    assert "items[4]" in str(error)
    assert "AttributeError" in str(error)
    assert error.__cause__ is cause
    assert isinstance(error, OffloopError)


def test_notes_are_added_in_order() -> None:
    """Without a remote traceback there is one note."""
    error = ValueError("x")
    add_notes(error, 2, "fn", "")
    assert error.__notes__ == ["offloop: raised by items[2] of fn"]
