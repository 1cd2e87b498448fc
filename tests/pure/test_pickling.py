"""wire/pickling.py: what may be pickled where, and what to say when it can't be done."""

from __future__ import annotations

import functools
import math
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections import OrderedDict
from dataclasses import dataclass
from enum import IntEnum
from types import FunctionType
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

import offloop
from offloop.wire.functions import pack_function, unpack_function
from offloop.wire.pickling import (
    DIGEST_SIZE,
    INLINE_BYTES,
    StaleFunction,
    describe_function,
    dumps,
    dumps_plain,
    fingerprint,
    function_name,
    is_plain,
    loads,
    travels_by_name,
)
from offloop.wire.unpicklable import find_unpicklable


class Text(str):
    """A subclass, whose pickling may run anybody's code."""


class Level(IntEnum):
    """An int that isn't exactly one."""

    LOW = 1


def nested(depth: int) -> list[Any]:
    """Return lists within a list, this many levels in all."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("values", "plain"),
    [
        ([], True),
        ([1, 2.5, True, None, 1j], True),
        (["text", b"bytes"], True),
        ([{"a": [1, (2, {3}), frozenset({"x"})]}], True),
        ([[1] * (1 << 14)], False),
        ([1] * (1 << 14), True),
        ([1] * ((1 << 14) + 1), False),
        ([b"x" * INLINE_BYTES], True),
        ([b"x" * (INLINE_BYTES + 1)], False),
        (["x" * 60_000, ["x" * 60_000]], False),
        ([{"k": "x" * 60_000, "l": "x" * 60_000}], False),
        (nested(9), True),
        (nested(10), False),
        ([1 << 1000], True),
        ([-(1 << 1025)], False),
        ([1 << (8 * INLINE_BYTES + 8), None], False),
        ([Text("x")], False),
        ([Level.LOW], False),
        ([OrderedDict()], False),
        ([bytearray(b"x")], False),
        ([{"a": Text("x")}], False),
        ([{Text("x"): 1}], False),
        ([math.sin], False),
        ([object()], False),
        ([(1, [object()])], False),
    ],
)
def test_plain(values: list[Any], plain: bool) -> None:
    """Only exact built-in types within the bounds of count, bytes and depth are pickled on the loop."""
    assert is_plain(values) is plain


def test_a_cycle_is_not_plain() -> None:
    """A value that contains itself ends the search instead of going round."""
    loop: list[Any] = []
    loop.append(loop)
    assert not is_plain(loop)


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(plain_values, max_size=5))
def test_plain_values_round_trip(values: list[Any]) -> None:
    """What is pickled on the loop arrives equal, types included."""
    if is_plain(values):
        back = loads(dumps_plain(values))
        assert back == values
        assert repr(back) == repr(values)


def in_a_fresh_process(code: str, **environment: str) -> bytes:
    """Return what a program writes to stdout, run in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_what_plain_pickle_can_name_goes_by_name() -> None:
    """Where plain pickle suffices it is used: a worker imports what it can."""
    assert dumps(os.path.join) == pickle.dumps(os.path.join, 5)


def test_what_plain_pickle_cannot_name_goes_by_value() -> None:
    """Lambdas and closures travel as code."""
    offset = 3
    assert loads(dumps(lambda number: number + offset))(4) == 7


def test_main_goes_by_value() -> None:
    """What is defined in __main__ is rebuilt in a process whose __main__ is another program."""
    data = in_a_fresh_process(
        """
        import sys
        from offloop.wire.pickling import dumps
        class Point:
            def __init__(self, x): self.x = x
            def double(self): return 2 * self.x
        sys.stdout.buffer.write(dumps([Point(21), Point(4).double]))
        """
    )
    point, double = loads(data)
    assert (point.double(), double()) == (42, 8)


# --- functions -------------------------------------------------------------------------------------------------------


def by_name(number: int) -> bool:
    """Have a constant whose order depends on the process: a frozenset of strings, within a tuple and without."""
    return str(number) in {"alpha", "beta", "gamma", "delta"} or number in {(1, "a"), (2, "b"), (3, "c")}


class Scorer:
    """Has methods to send."""

    def score(self, number: int) -> int:
        """Return the double."""
        return 2 * number


class Callable_:
    """A callable object."""

    def __call__(self, number: int) -> int:
        """Return the double."""
        return 2 * number


@pytest.mark.parametrize("seed", ["0", "1", "2", "3"])
def test_a_fingerprint_is_the_same_in_every_process(seed: str) -> None:
    """The fingerprint of the same code is the same whatever the process's hash seed."""
    code = f"""
        import ast, sys
        source = open({__file__!r}).read()
        tree = ast.parse(source)
        keep = [n for n in tree.body if getattr(n, "name", "") == "by_name"]
        namespace = {{}}
        exec(compile(ast.Module(keep, []), "x.py", "exec"), namespace)
        from offloop.wire.pickling import fingerprint
        sys.stdout.buffer.write(fingerprint(namespace["by_name"]))
        """
    found = {in_a_fresh_process(code, PYTHONHASHSEED=each) for each in ("0", seed)}
    assert len(found) == 1
    assert found != {bytes(DIGEST_SIZE)}


def variants() -> list[FunctionType]:
    """Return functions that differ from each other in code, constants, names, inner functions, signature or defaults."""
    sources = [
        "def f(x): return x + 1",
        "def f(x): return x + 2",
        "def f(x): return x - 1",
        "def f(x): return len(x)",
        "def f(x): return sum(x)",
        "def f(x): return (lambda y: y + 1)(x)",
        "def f(x): return (lambda y: y + 2)(x)",
        "def f(x): return x in {'a', 'b'}",
        "def f(x): return x in {'a', 'c'}",
        "def f(x): return -0.0",
        "def f(x): return 0.0",
        "def f(x): return 1",
        "def f(x): return True",
        "def f(x, y=1): return x + y",
        "def f(x, y=2): return x + y",
        "def f(x, *, y=2): return x + y",
        "def f(x, *y): return x + y",
    ]
    functions: list[FunctionType] = []
    for source in sources:
        namespace: dict[str, Any] = {}
        exec(source, namespace)
        functions.append(namespace["f"])
    return functions


def test_other_code_has_another_fingerprint() -> None:
    """A change of an operator, a constant, a name, an inner function, the signature or a default changes the fingerprint."""
    assert len({fingerprint(function) for function in variants()}) == len(variants())


def test_a_fingerprint_survives_use() -> None:
    """Running a function until the interpreter has specialised it doesn't change its fingerprint."""
    first, second = variants()[0], variants()[0]
    before = fingerprint(first)
    for number in range(10_000):
        second(number)
    assert fingerprint(second) == before


@pytest.mark.parametrize(
    "fn",
    [
        functools.partial(by_name, 1),
        offloop.star(by_name),
        offloop.call(by_name, 1),
        functools.partial(functools.partial(by_name)),
    ],
    ids=["partial", "star", "call", "nested"],
)
def test_a_wrapper_has_the_fingerprint_of_what_it_wraps(fn: Any) -> None:
    """The code that counts is that of the function inside."""
    assert fingerprint(fn) == fingerprint(by_name)


@pytest.mark.parametrize("fn", [len, Scorer, Callable_(), math.sin], ids=["builtin", "class", "object", "c"])
def test_what_has_no_code_has_no_fingerprint(fn: Any) -> None:
    """Callables without Python code of their own have zeros, which match anything."""
    assert fingerprint(fn) == bytes(DIGEST_SIZE)
    assert unpack_function(pack_function(fn).data)


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (by_name, True),
        (functools.partial(by_name), 9),
        (Scorer().score, 18),
        (Callable_(), 18),
        (lambda number: number * 3, 27),
        (abs, 9),
    ],
    ids=["function", "partial", "method", "object", "lambda", "builtin"],
)
def test_functions_round_trip(fn: Any, expected: object) -> None:
    """A packed function is rebuilt and does the same."""
    packed = pack_function(fn)
    assert unpack_function(packed.data)(9) == fn(9)
    assert unpack_function(memoryview(packed.data))(9) == fn(9)
    assert len(packed.digest) == DIGEST_SIZE


def test_a_digest_tells_functions_apart() -> None:
    """The same function has the same digest again; other bound data makes another one."""
    assert pack_function(functools.partial(by_name, 1)) == pack_function(functools.partial(by_name, 1))
    assert pack_function(functools.partial(by_name, 1)).digest != pack_function(functools.partial(by_name, 2)).digest


def test_changed_code_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function whose name leads to other code where it arrives is refused, not run."""
    packed = pack_function(by_name)

    def by_name_edited(number: int) -> bool:
        return number > 3

    monkeypatch.setattr(by_name, "__code__", by_name_edited.__code__)
    with pytest.raises(StaleFunction):
        unpack_function(packed.data)


def test_by_value_carries_the_edited_code() -> None:
    """A function that is sent by value arrives as it is here, though an import would find another one."""
    before = by_name.__code__
    replacement = functools.partial(lambda number: number == 77)
    by_name.__code__ = replacement.func.__code__
    try:
        packed = pack_function(by_name, by_value=True)
    finally:
        by_name.__code__ = before
    assert unpack_function(packed.data)(77) is True
    assert by_name(77) is False


def test_by_value_leaves_no_registration() -> None:
    """Sending one function by value doesn't change how its module's other functions are pickled."""
    pack_function(functools.partial(by_name, 1), by_value=True)
    assert cloudpickle.list_registry_pickle_by_value() == set()
    assert dumps(Scorer) == pickle.dumps(Scorer, 5)


def test_functions_that_travel_by_name() -> None:
    """Only importable functions travel by name: everything else may carry data."""
    assert travels_by_name(by_name)
    assert travels_by_name(len)
    assert not travels_by_name(lambda: 1)
    assert not travels_by_name(Scorer().score)
    assert not travels_by_name([].append)
    assert not travels_by_name(functools.partial(by_name))


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (by_name, f"{__name__}.by_name"),
        (functools.partial(by_name, 1), f"{__name__}.by_name"),
        (offloop.star(by_name), f"{__name__}.by_name"),
        (Scorer().score, f"{__name__}.Scorer.score"),
        (Callable_(), "Callable_"),
        (len, "builtins.len"),
    ],
)
def test_names(fn: Any, name: str) -> None:
    """A callable is called by the name of what it leads to."""
    assert function_name(fn) == name


def test_descriptions_give_the_place() -> None:
    """A description has name, file and line of the function, and of the one inside a wrapper."""
    line = by_name.__code__.co_firstlineno
    assert describe_function(by_name) == f"{__name__}.by_name (test_pickling.py:{line})"
    assert describe_function(functools.partial(by_name)).startswith("partial of ")
    assert "by_name" in describe_function(functools.partial(by_name))


class Endless:
    """A callable that has every attribute, as a Mock has."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Endless()

    def __call__(self, *args: object) -> None:
        """Do nothing."""


@pytest.mark.timeout(10)
@pytest.mark.parametrize("look", [fingerprint, function_name, describe_function])
def test_a_callable_with_every_attribute_is_no_wrapper(look: Any) -> None:
    """An object that answers to any attribute, like a Mock, is looked through no further than it is a wrapper."""
    assert look(Endless()) in (bytes(DIGEST_SIZE), "Endless")


# --- what can't be pickled -------------------------------------------------------------------------------------------


class Client:
    """Holds a lock deep inside, as clients do."""

    def __init__(self) -> None:
        self.name = "client"
        self._lock = threading.Lock()


class Item:
    """An item with a client."""

    def __init__(self) -> None:
        self.number = 1
        self.client = Client()

    def work(self, number: int) -> int:
        """Do something."""
        return number


@dataclass(slots=True)
class Slotted:
    """An item without a __dict__."""

    number: int
    lock: Any


class Refuses:
    """Refuses to be pickled itself."""

    def __reduce__(self) -> Any:
        """Refuse."""
        raise TypeError("no")


class Selfish:
    """Refers to itself before it refers to what can't be pickled."""

    def __init__(self) -> None:
        self.me = self
        self.lock = threading.Lock()


def closure_over(value: object) -> Any:
    """Return a function that has something bound."""

    def inner(number: int) -> object:
        return number, value

    return inner


LOCK = "_thread.lock"


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        (Item(), "x.client._lock", LOCK),
        ([1, {"a": (2, threading.Lock())}], "x[1]['a'][1]", LOCK),
        (Refuses(), "x", f"{__name__}.Refuses"),
        ({"k": Refuses()}, "x['k']", f"{__name__}.Refuses"),
        (closure_over(Client()), "x.value._lock", LOCK),
        (Item().work, "x.__self__.client._lock", LOCK),
        (functools.partial(by_name, Client()), "x.args[0]._lock", LOCK),
        (functools.partial(by_name, number=Client()), "x.keywords['number']._lock", LOCK),
        (functools.partial(closure_over(Client())), "x.func.value._lock", LOCK),
        (offloop.star(closure_over(Client())), "x.fn.value._lock", LOCK),
        (Slotted(1, threading.Lock()), "x.lock", LOCK),
        (Selfish(), "x.lock", LOCK),
        ((number for number in "ab"), "x", "generator"),
    ],
    ids=[
        "attributes",
        "containers",
        "itself",
        "a dict's value",
        "closure",
        "bound method",
        "partial's argument",
        "partial's keyword",
        "partial's function",
        "star's function",
        "slots",
        "cycle",
        "generator",
    ],
)
def test_the_culprit_is_found(value: object, path: str, kind: str) -> None:
    """The path leads to the innermost part that can't be pickled, with its type."""
    assert find_unpicklable(value, "x") == (path, kind)


def test_the_path_of_an_item() -> None:
    """An item's path reads as one would write it."""
    assert find_unpicklable(Item(), "items[17]")[0] == "items[17].client._lock"


def test_no_property_is_run() -> None:
    """Looking for the culprit reads no property: that would run the user's code."""

    class Careful:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        @property
        def trap(self) -> object:
            raise AssertionError("run")

    assert find_unpicklable(Careful(), "x") == ("x.lock", LOCK)


@pytest.mark.timeout(20)
def test_the_search_is_bounded() -> None:
    """A huge value isn't searched to its end: an answer that is less exact comes soon."""
    path, _ = find_unpicklable([[number] for number in range(10**5)] + [threading.Lock()], "x")
    assert path.startswith("x")
