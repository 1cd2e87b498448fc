"""wire/reducers.py: objects whose own way of pickling can't be used, or copies what could travel out of band."""

from __future__ import annotations

import copyreg
import functools
import pickle
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import faithful as f
from offloop.wire.pickling import dumps, dumps_apart, loads
from offloop.wire.reducers import dispatch_table

SIZES = (100, 20_000, 100_000)  # below, around and above what is worth a way of its own


def apart(value: Any) -> Any:
    """Pickle and rebuild with every buffer out of band, into memory of its own."""
    data, buffers = dumps_apart(value, 1)
    return pickle.loads(data, buffers=[bytearray(b) for b in buffers])


def in_band(value: Any) -> Any:
    return loads(dumps(value))


def by_cloudpickle(value: Any) -> Any:
    return loads(dumps(value, by_value=True))


WAYS = {"in band": in_band, "cloudpickle": by_cloudpickle}


def cases(makers: dict[str, f.Maker]) -> Callable[[Any], Any]:
    """Run a test with something of each kind in each size, by each pickler."""

    def mark(test: Any) -> Any:
        test = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)(test)
        test = pytest.mark.parametrize("n_bytes", SIZES)(test)
        return pytest.mark.parametrize("make", makers.values(), ids=makers)(test)

    return mark


@cases(f.ARRAYS)
def test_arrays(make: f.Maker, n_bytes: int, way: Callable[[Any], Any]) -> None:
    """An array of any kind is rebuilt with its type, dtype, order, bits, mask, and whether it can be written to."""
    made = make(n_bytes)
    assert f.facts(way(made)) == f.facts(made)


@cases({name: make for name, make in f.BUFFERS.items() if "array" not in name})
def test_buffers(make: f.Maker, n_bytes: int, way: Callable[[Any], Any]) -> None:
    """Bytes, bytearrays and views of any format and shape are rebuilt as they were."""
    made = make(n_bytes)
    assert f.facts(way(made)) == f.facts(made)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i2", "u4", "f8", "c16", "U5", "M8[ns]", "m8[s]"])
@pytest.mark.parametrize("n_bytes", SIZES)
def test_byte_order_is_kept(order: str, kind: str, n_bytes: int) -> None:
    """Numbers in another order than this machine's arrive in that order, whatever numpy makes of them by itself."""
    made = f.values(order + kind, n_bytes)
    back = in_band(made)
    assert (back.dtype, back.dtype.str) == (made.dtype, made.dtype.str)
    assert back.tobytes() == made.tobytes()


@pytest.mark.parametrize("n_bytes", [20_000, 100_000])
@pytest.mark.parametrize(
    "name", ["dtype f8", "dtype >f8", "dtype M8[ns]", "structured", "transposed", "strided", "read-only", "dtype U5", "a slice"]
)
def test_large_data_is_left_apart(name: str, n_bytes: int) -> None:
    """The data of an array that is worth it is in no pickle, also where numpy by itself would put it there."""
    made = f.ARRAYS[name](n_bytes)
    data, buffers = dumps_apart(made, 1)
    assert len(data) < 1000
    assert sum(b.nbytes for b in buffers) == made.nbytes


@pytest.mark.parametrize("name", ["dtype f8", "dtype >f8", "dtype M8[ns]", "structured", "transposed", "Fortran order"])
def test_what_lies_side_by_side_is_not_copied(name: str) -> None:
    """What is left apart is the array's own memory wherever its items lie side by side."""
    made = f.ARRAYS[name](100_000)
    _, (raw,) = dumps_apart(made, 1)
    assert np.shares_memory(np.frombuffer(raw, "u1"), made.view(np.ndarray))


@pytest.mark.parametrize("name", ["strided", "reversed"])
def test_what_does_not_is_copied_together(name: str) -> None:
    """What doesn't lie side by side is left apart as a copy, so that the original stays what it is."""
    made = f.ARRAYS[name](100_000)
    before = f.facts(made)
    _, (raw,) = dumps_apart(made, 1)
    assert raw.nbytes == made.nbytes
    raw.cast("B")[:] = bytes([9]) * raw.nbytes
    assert f.facts(made) == before


@pytest.mark.parametrize("name", ["read-only", "dtype f8", "dtype M8[ns]", "Fortran order"])
@pytest.mark.parametrize("n_bytes", SIZES)
def test_what_is_read_only_stays_so(name: str, n_bytes: int) -> None:
    """Whether an array can be written to is kept, both in band and, by the kind of the buffer, apart."""
    made = f.read_only(f.ARRAYS[name](n_bytes))
    assert not in_band(made).flags.writeable
    _, buffers = dumps_apart(made, 1)
    assert all(b.readonly for b in buffers)
    made = f.ARRAYS["dtype f8"](n_bytes)
    assert in_band(made).flags.writeable
    assert not any(b.readonly for b in dumps_apart(made, 1)[1])


# --- subclasses ------------------------------------------------------------------------------------------------------


class Late(np.ndarray):
    """A subclass without a way of its own."""


class LateSays(np.ndarray):
    """A subclass with a way of its own."""

    def __reduce__(self) -> Any:
        """Say that it went this way."""
        return _late_says, (self.tolist(),)


def _late_says(values: list[float]) -> Any:
    made = np.array(values).view(LateSays)
    made[0] = -1
    return made


@pytest.mark.parametrize("n_bytes", SIZES)
def test_a_subclass_says_how(n_bytes: int) -> None:
    """A subclass that says how it is pickled is pickled so, at any size; one that doesn't keeps its class."""
    made = f.floats(n_bytes)
    assert in_band(made.view(LateSays))[0] == -1
    back = in_band(made.view(Late))
    assert type(back) is Late
    assert back.tobytes() == made.tobytes()


def test_classes_that_are_defined_later() -> None:
    """A class that is defined after arrays have been pickled is recognised, also one that derives from a derived one."""
    dumps(np.zeros(9))

    def fresh(base: Any) -> Any:
        return type("Fresh", (base,), {"__module__": __name__})

    first = fresh(np.ndarray)
    second = fresh(first)
    made = f.floats(100_000)
    for kind in (first, second):
        data, buffers = dumps_apart(made.view(kind), 1, by_value=True)
        assert sum(b.nbytes for b in buffers) == made.nbytes
        assert len(data) < 20_000
        back = pickle.loads(data, buffers=buffers)
        assert type(back).__name__ == "Fresh"
        assert back.tobytes() == made.tobytes()


def test_a_class_below_a_known_one() -> None:
    """A class that derives from a subclass that was there before is recognised too, though numpy has no new one."""
    dumps(np.zeros(9).view(Late))

    class Below(Late):
        """Derives from what is known."""

    below: Any = Below
    globals()["Below"] = below
    Below.__qualname__ = "Below"
    try:
        made = f.floats(100_000).view(below)
        assert f.facts(in_band(made)) == f.facts(made)
        assert sum(b.nbytes for b in dumps_apart(made, 1)[1]) == made.nbytes
    finally:
        del globals()["Below"]


# --- masked arrays ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_bytes", SIZES)
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("mask", ["none", "some", "all false"])
def test_masks(n_bytes: int, hard: bool, mask: str) -> None:
    """A mask arrives as it was: hard or soft, none or of all False, with its fill value; and it does what it did."""
    data = f.floats(n_bytes)
    masks = {"none": np.ma.nomask, "some": np.arange(len(data)) % 3 == 0, "all false": np.zeros(len(data), bool)}
    made: Any = np.ma.MaskedArray(data, mask=masks[mask], hard_mask=hard, fill_value=7.5)
    back = in_band(made)
    assert f.facts(back) == f.facts(made)
    assert (back.mask is np.ma.nomask) is (mask == "none")
    back[0] = 5.0
    made[0] = 5.0
    assert (back.mask == made.mask).all()
    assert f.facts(back) == f.facts(made)


class Unusual(np.ma.MaskedArray):
    """A subclass of one."""


def test_other_masked_arrays() -> None:
    """A subclass, one over a matrix, a structured one and the masked constant arrive as what they are."""
    with pytest.warns(PendingDeprecationWarning):
        over_matrix: Any = np.ma.MaskedArray(np.matrix([[1.0, 2.0]]), mask=[[True, False]])
    records = np.ma.MaskedArray(f.values(f.STRUCTURES["structured"], 1000))
    records.mask[2] = True
    for made in (np.ma.MaskedArray(f.floats(100_000)).view(Unusual), over_matrix, records):
        back = in_band(made)
        assert type(back) is type(made)
        assert back._baseclass is made._baseclass
        assert f.facts(back) == f.facts(made)
    assert in_band(np.ma.masked) is np.ma.masked


# --- memoryviews -----------------------------------------------------------------------------------------------------

FORMATS = "cbB?hHiIlLqQnNfd"
SHAPES = ((0,), (1,), (24,), (2, 12), (2, 3, 4))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("is_read_only", [False, True])
def test_memoryviews_of_any_format(format: str, shape: tuple[int, ...], is_read_only: bool) -> None:
    """A view arrives with its format, its shape, its bytes, and whether it can be written to."""
    size = memoryview(bytearray(8)).cast(format).itemsize
    count = int(np.prod(shape))
    pattern = bytes(i % 2 for i in range(count * size))
    flat = memoryview(pattern if is_read_only else bytearray(pattern))
    view = flat.cast(format, shape) if len(shape) > 1 else flat.cast(format)  # type: ignore[call-overload]
    for back in (in_band(view), apart(view) if not is_read_only else in_band(view)):
        assert (back.format, back.shape, back.readonly) == (view.format, view.shape, view.readonly)
        assert back.tobytes() == view.tobytes()


@settings(max_examples=100)
@given(st.integers(0, 50), st.integers(-5, 60), st.sampled_from([-3, -1, 1, 2, 5]), st.sampled_from("BhId"))
def test_memoryviews_of_anything_cut(start: int, stop: int, step: int, format: str) -> None:
    """A slice of a view, also one whose items don't lie side by side, arrives as its items alone."""
    view = memoryview(bytearray(range(256))).cast(format)[start:stop:step]
    back = in_band(view)
    assert (back.tobytes(), back.format, back.shape, back.readonly) == (view.tobytes(), view.format, view.shape, False)


@pytest.mark.parametrize("dtype", ["i4", ">i4", "c16", [("a", "i4"), ("b", "f8")], "S3"])
@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_memoryviews_of_arrays(dtype: Any, shape: tuple[int, ...]) -> None:
    """A view of an array arrives also where its format is none that Python by itself knows."""
    made = f.values(dtype, np.dtype(dtype).itemsize * 6).reshape(shape)
    back = in_band(memoryview(made))
    assert (back.format, back.shape) == (memoryview(made).format, shape)
    assert back.tobytes() == memoryview(made).tobytes()


def test_a_view_without_dimensions() -> None:
    """A view of a single value arrives as one."""
    view = memoryview(np.array(1.5))
    back = in_band(view)
    assert (back.shape, back.format, back.tobytes()) == ((), "d", view.tobytes())


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_usual_reducers_are_kept() -> None:
    """Reducers that libraries have registered hold, by both picklers, and nothing is written into their tables."""
    for usual in (copyreg.dispatch_table, cloudpickle.Pickler.dispatch_table):
        before = set(usual)
        table = dispatch_table(usual)
        assert set(usual) == before
        assert {kind: table[kind] for kind in before - {memoryview}} == {k: usual[k] for k in before - {memoryview}}
        assert table[memoryview] is not usual.get(memoryview)


class Registered:
    """Something whose reducer is registered."""


def _registered() -> str:
    return "as registered"


def test_what_is_registered_later_holds() -> None:
    """A reducer that is registered after the first pickling holds too."""
    dumps(np.zeros(9))
    copyreg.pickle(Registered, lambda _: (_registered, ()))  # type: ignore[arg-type,return-value]
    try:
        assert in_band(Registered()) == "as registered"
    finally:
        del copyreg.dispatch_table[Registered]
    assert isinstance(in_band(Registered()), Registered)


def test_nothing_is_imported_for_plain_objects() -> None:
    """Pickling and rebuilding objects without arrays imports neither numpy nor torch; with numpy there, arrays travel."""
    code = """
        import sys
        from offloop.wire.pickling import dumps, loads
        class Plain: pass
        values = [{"a": (1, b"x", bytearray(b"y"))}, lambda x: x, memoryview(b"abc"), Plain()]
        back = [loads(dumps(value)) for value in values]
        assert back[2] == b"abc" and back[1](3) == 3
        for name in ("numpy", "torch", "pandas"):
            assert name not in sys.modules, name
        import numpy as np
        assert loads(dumps(np.zeros(9).astype(">f8"))).dtype == ">f8"
        big = np.ma.masked_array(np.zeros(100_000), hard_mask=True)
        assert loads(dumps(big)).hardmask
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_numpy_half_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread is importing numpy or torch, plain objects are pickled as ever."""
    half = {"numpy": types.ModuleType("numpy"), "torch": types.ModuleType("torch")}
    monkeypatch.setattr("offloop.wire.reducers.sys", types.SimpleNamespace(modules={**half}))
    assert in_band([1, {"a": memoryview(b"x")}]) == [1, {"a": b"x"}]


@pytest.mark.parametrize("make", f.TENSORS.values() if f.TENSORS else [], ids=f.TENSORS)
def test_tensors(make: f.Maker) -> None:
    """A tensor arrives with its dtype, its shape and whether it wants a gradient."""
    made = make(100_000)
    assert f.facts(in_band(made)) == f.facts(made)


def test_objects_are_left_to_numpy() -> None:
    """Arrays of objects keep what is one object among their entries one, at any size and order."""
    one = ["x"]
    made = np.empty((5000, 2), dtype=object, order="F")
    made[:] = functools.reduce(lambda a, _: a, range(3), 0)
    made[3, 1] = made[4, 0] = one
    back, other = in_band((made, one))
    assert back[3, 1] is back[4, 0] is other
    assert back.flags.f_contiguous
