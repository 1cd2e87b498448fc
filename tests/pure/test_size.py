"""sensing/size.py: what class of size an input is of, found without running anybody's code."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.sensing import size
from offloop.sensing.size import size_up


@dataclass
class Box:
    """An object with a part."""

    inside: Any

    def work(self) -> None:
        """Be a method."""


class Named(NamedTuple):
    """A tuple with a name."""

    inside: Any


class Other(NamedTuple):
    """A tuple with another name."""

    inside: Any


class Listing(list[Any]):
    """A list of the user's own."""


class TupleOf(tuple[Any, ...]):
    """A tuple of the user's own."""

    __slots__ = ()


class Text(str):
    """A text of the user's own."""

    __slots__ = ()

    def __new__(cls, items: list[Any]) -> Text:
        """Make one of so many characters."""
        return str.__new__(cls, "x" * len(items))


class Queue(deque[Any]):
    """A queue of the user's own, which has nothing to say of its length."""

    __len__ = None  # type: ignore[assignment]


def closing_over(value: Any) -> Callable[[], Any]:
    """Return a function that has this value in its closure."""
    return lambda: value


def task(item: Any, scale: float = 1.0) -> Any:
    """Do nothing."""


MAKERS: dict[str, Callable[[int], Any]] = {
    "list": lambda n: [0.5] * n,
    "tuple": lambda n: (0.5,) * (n + 6),
    "deque": lambda n: deque([0] * n),
    "dict": lambda n: {f"{i:08}": i for i in range(n)},
    "set": lambda n: set(range(n)),
    "range": range,
    "text": lambda n: "x" * n,
    "bytes": bytes,
    "bytearray": bytearray,
    "array": np.zeros,
    "table": lambda n: np.zeros((n, 4), np.float32),
    "list of arrays": lambda n: [np.zeros(n), np.zeros(n)],
    "dictionary of columns": lambda n: {"a": [0] * n, "b": [1] * n},
    "arguments": lambda n: ([0] * n, 3),
    "nested": lambda n: [[[0] * n]],
    "object": lambda n: Box([0] * n),
    "object in an object": lambda n: Box(Box(bytes(n))),
    "partial": lambda n: partial(task, bytes(n)),
    "partial by name": lambda n: partial(task, scale=bytes(n)),
    "closure": lambda n: closing_over(bytes(n)),
    "method": lambda n: Box(bytes(n)).work,
    "method of a built-in": lambda n: ([0] * n).append,
}


@pytest.mark.parametrize("maker", MAKERS)
def test_classes_are_a_factor_of_two_wide(maker: str) -> None:
    """Data of a similar size is of one class, and twice as much of another; numbers inside don't count."""
    make = MAKERS[maker]
    sizes = {n: size_up(make(n)).key for n in (1100, 1900, 2300, 4500, 100_000)}
    assert sizes[1100] == sizes[1900]
    assert len(set(sizes.values())) == 4
    assert hash(sizes[1100]) == hash(size_up(make(1100)).key)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (100, 110, True),
        (40, 120, True),
        (64, 256, False),
        (1000, 10_000, False),
        (-100, 100, True),
        (0, 1, True),
        (0.6, 1.9, True),
        (0.01, 0.04, False),
        (float("inf"), float("inf"), True),
        (1, 1.0, False),
        ((10, 20), (11, 21), True),
        ((10, 20), (1000, 20), False),  # arguments count each
        ((10, 20), (10, 2000), False),
        (([1], 20), ([1000], 20), True),  # a number in data does not
        ([10, 20], [1000, 2000], True),
        (list(range(9)), list(range(1000, 1009)), True),
        ((0,) * 7, (10**9,) * 7, True),  # so many are data
        ({"n": 10}, {"n": 1000}, False),
        (partial(task, 10), partial(task, 1000), False),
        (partial(task, scale=1.0), partial(task, scale=100.0), False),
        (closing_over(10), closing_over(1000), False),
        (Box(10), Box(1000), True),
        (True, False, True),
        (None, None, True),
        (None, 0, False),
        ("abc", b"abc", False),
        ([1], (1,), False),
        ([1], ["1"], False),
        ([[]], [[1] * 100], False),
        (Box(1), Box("1"), False),
        (np.zeros(100), np.zeros(100, np.int64), True),
        (np.zeros(100), np.ones(100), True),
        (np.zeros(100), np.zeros(400), False),
        (np.zeros((10, 10)), np.zeros((5, 20)), True),
        (np.zeros(100), [0.0] * 100, False),
    ],
)
def test_what_is_of_one_class(one: Any, other: Any, is_same: bool) -> None:
    """Inputs are of one class if they are of the same types and similar in size: by 4 for numbers, by 2 for data."""
    assert (size_up(one).key == size_up(other).key) is is_same


@given(st.integers(1, 10**30))
def test_numbers_tell_their_size(number: int) -> None:
    """A number and its quadruple are never of one class, whether it comes as int or float."""
    assert size_up(number).key != size_up(4 * number).key
    assert size_up(float(number)).key != size_up(4.0 * number).key
    assert size_up((number, "x")).key != size_up((4 * number, "x")).key


@pytest.mark.parametrize(
    ("value", "n_bytes"),
    [
        (7, 0),
        ("x" * 500, 500),
        (bytes(500), 500),
        (bytearray(500), 500),
        ([0] * 500, 4000),
        ([bytes(1000)] * 500, 504_000),
        ((bytes(100), bytes(200)), 316),
        ({"a": bytes(100)}, 108),
        (range(10**6), 0),
        (np.zeros((100, 3)), 2400),
        ([np.zeros(100)] * 10, 8080),
        (Box(bytes(100)), 100),
        (partial(task, bytes(100), scale=bytes(50)), 150),
        (closing_over(bytes(100)), 100),
        (task, 0),
        (None, 0),
        (Box, 0),
    ],
)
def test_bytes_of_data(value: Any, n_bytes: int) -> None:
    """About how much data is in an input is told; what wasn't looked at is taken to be like what was."""
    assert size_up(value).n_bytes == n_bytes


@pytest.mark.parametrize(
    ("value", "n_features"),
    [
        (np.zeros((100, 3)), 3),
        (np.zeros(100), None),
        (np.zeros((2, 3, 4)), None),
        ((np.zeros(5), np.zeros((100, 3)), np.zeros((100, 9))), 3),
        ([np.zeros((100, 7))], 7),
        (partial(task, np.zeros((4, 2))), 2),
        (Box(np.zeros((4, 2))), 2),
        (3, None),
    ],
)
def test_columns(value: Any, n_features: int | None) -> None:
    """The columns of the first two-dimensional thing in an input are told."""
    assert size_up(value).n_features == n_features


def test_tables_are_sized_by_their_shape() -> None:
    """A data frame is sized by rows and columns, whose bytes nobody adds up."""
    pandas = pytest.importorskip("pandas")
    found = size_up(pandas.DataFrame({"a": [1] * 100, "b": ["x"] * 100}))
    assert (found.n_bytes, found.n_features) == (1600, 2)
    assert found.key != size_up(pandas.DataFrame({"a": [1] * 400, "b": ["x"] * 400})).key


@pytest.mark.parametrize("make", [Listing, TupleOf, Text, Queue, lambda items: Counter(range(len(items)))])
def test_collections_of_other_kinds_count_by_their_size(make: Callable[[Any], Any]) -> None:
    """A subclass of a collection or of a text is not mistaken for one of another kind or with a hundred times as much."""
    sizes = {n: size_up(make([0] * n)) for n in (1100, 1900, 100_000)}
    assert sizes[1100].key == sizes[1900].key
    assert sizes[1100].key != sizes[100_000].key
    assert sizes[1100].key != size_up([0] * 1100).key
    assert 1100 <= sizes[1100].n_bytes <= 8800


def test_named_tuples_are_told_apart_by_name() -> None:
    """A named tuple counts by its name and its fields."""
    assert size_up(Named(1)).key == size_up(Named(1000)).key
    assert size_up(Named(1)).key != size_up(Other(1)).key
    assert size_up(Named(1)).key != size_up((1,)).key


@pytest.mark.parametrize("number", [10**30, -(10**30)])
def test_a_range_of_any_length_has_a_size(number: int) -> None:
    """A range with more members than a length can tell has a size like any other."""
    assert size_up(range(number)) == size_up(range(number))


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_the_look_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many parts there are, no more than a few dozen are looked at."""
    looks = [0]
    plain = size._Look.at

    def counted(*args: Any, **keywords: Any) -> Any:
        looks[0] += 1
        return plain(*args, **keywords)

    monkeypatch.setattr(size._Look, "at", counted)
    wide = [[[[0] * 10] * 10] * 10] * 100_000
    many = Box(None)
    vars(many).update({f"part{i}": [i] for i in range(1000)})
    for value in (wide, [wide] * 6, tuple([wide] * 6), many, partial(task, *[many] * 50), dict.fromkeys(range(6), wide)):
        looks[0] = 0
        size_up(value)
        assert looks[0] <= 2 * size._MAX_PARTS


def test_what_contains_itself_has_a_size() -> None:
    """A list in itself, an object that knows itself and a function that closes over itself are looked at to a depth."""
    cyclic: list[Any] = [1]
    cyclic.append(cyclic)
    box = Box(None)
    box.inside = box

    def recursive() -> Any:
        return recursive

    for value in (cyclic, box, recursive, box.work):
        assert size_up(value).key == size_up(value).key


def test_an_empty_cell_has_no_size() -> None:
    """A closure over a variable that has no value yet is no failure."""

    def outer() -> Any:
        def inner() -> Any:
            return later

        found = size_up(inner)
        later = 1
        return found

    assert outer().n_bytes == 0


# --- nobody's code runs ----------------------------------------------------------------------------------------------


ran: list[object] = []


def bad(*_args: object, **_kwargs: object) -> NoReturn:
    """Note that this was called, and fail."""
    ran.append(_args)
    raise AssertionError("code of the user's has run")


class Hostile:
    """Fails when anything of it is used."""

    def __init__(self) -> None:
        vars(self)["inside"] = 1

    __getattr__ = __len__ = __iter__ = __hash__ = __eq__ = __bool__ = __int__ = __repr__ = __call__ = bad  # type: ignore[assignment]
    shape = nbytes = dtype = property(bad)


class Asked(Hostile):
    """Fails when it is asked for any attribute at all."""

    __getattribute__ = bad  # type: ignore[assignment]


class Disguised(Hostile):
    """Fails when it is asked what it is."""

    __class__ = property(bad)  # type: ignore[assignment]


class Hiding(Hostile):
    """Fails when it is asked for its dictionary."""

    __dict__ = property(bad)  # type: ignore[assignment]


class Placeless(Hostile):
    """Has a module that is no text."""

    __module__ = property(bad)  # type: ignore[assignment]


class Meta(type):
    """Fails when a class is asked for anything."""

    __getattribute__ = __getattr__ = __instancecheck__ = __subclasscheck__ = __hash__ = __eq__ = bad  # type: ignore[assignment]


class Kept(metaclass=Meta):
    """Has a class that fails."""


class Lists(list[Any]):
    """A list that fails when it is used."""

    __len__ = __iter__ = __getitem__ = bad  # type: ignore[assignment]


HOSTILE: dict[str, Callable[[], Any]] = {
    "attributes": lambda: Hostile(),
    "any attribute": lambda: object.__new__(Asked),
    "class": lambda: object.__new__(Disguised),
    "dictionary": lambda: object.__new__(Hiding),
    "module": lambda: object.__new__(Placeless),
    "class of the class": lambda: object.__new__(Kept),
    "collection": lambda: list.__new__(Lists),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nobodys_code_runs(hostile: str) -> None:
    """Sizing up an object, wherever it is, calls none of its methods, properties or hooks, nor its class's."""
    value = HOSTILE[hostile]()
    ran.clear()
    for place in (value, [value], (value, 1), {"a": value}, partial(task, value), closing_over(value), Box(value)):
        assert size_up(place).n_bytes >= 0
        assert not ran
