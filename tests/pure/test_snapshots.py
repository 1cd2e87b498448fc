"""snapshots.py: what is copied of an item before the next one is asked for, and what is passed as it is."""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from weakref import ref

import numpy as np
import pytest

from offloop.snapshots import Snapshots, TooLarge
from offloop.sources import source_of

LARGE = 1 << 16


def snapshot(value: Any) -> Any:
    """Return the snapshot of a value that stands alone."""
    return Snapshots().of(value)


class Point(NamedTuple):
    """A tuple with names."""

    where: Any
    label: str = ""


@dataclass
class Own:
    """An object of the user's."""

    data: Any


class Tagged(np.ndarray):
    """An array with an attribute."""

    tag: str

    def __array_finalize__(self, origin: Any) -> None:
        self.tag = getattr(origin, "tag", "none")


class Strange(type):
    """A class of classes that can't be compared or hashed."""

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("compared")

    __hash__ = None  # type: ignore[assignment]


class OfStrange(metaclass=Strange):
    """An object of a strange class."""


# --- what is copied --------------------------------------------------------------------------------------------------


def tagged() -> Any:
    """Return an array of a subclass."""
    made = np.arange(4.0).view(Tagged)
    made.tag = "mine"
    return made


ARRAYS: dict[str, Callable[[], Any]] = {
    "floats": lambda: np.arange(12.0).reshape(3, 4),
    "Fortran": lambda: np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "strided": lambda: np.arange(12.0)[::-2],
    "0-d": lambda: np.array(3.0),
    "empty": lambda: np.empty((0, 3)),
    "structured": lambda: np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]),
    "objects": lambda: np.array([None, "a", 3], dtype=object),
    "big-endian": lambda: np.arange(3, dtype=">f8"),
    "dates": lambda: np.arange(3).astype("M8[D]"),
    "strings": lambda: np.array(["a", "bc"]),
    "matrix": lambda: np.eye(2).view(np.matrix),
    "records": lambda: np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "a subclass": tagged,
    "large": lambda: np.arange(20_000.0),
    "large, Fortran": lambda: np.asfortranarray(np.arange(20_000.0).reshape(100, 200)),
    "large, strided": lambda: np.arange(40_000.0)[::2],
}


@pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS)
def test_an_array_is_copied(make: Callable[[], Any]) -> None:
    """The snapshot of an array shares no memory with it and is the same in type, dtype, order and content."""
    given = make()
    got = snapshot(given)
    assert got is not given
    assert not np.shares_memory(got, given)
    assert (type(got), got.dtype, got.shape) == (type(given), given.dtype, given.shape)
    assert got.flags.writeable
    copy = given.copy(order="K")
    assert (got.strides, got.flags.f_contiguous, got.flags.c_contiguous) == (
        *(copy.strides, copy.flags.f_contiguous, copy.flags.c_contiguous),
    )
    assert np.array_equal(got, given)
    assert getattr(got, "tag", None) == getattr(given, "tag", None)


def test_a_masked_array_is_copied_with_its_mask() -> None:
    """Neither the data nor the mask of a masked array can be changed through its snapshot."""
    given = np.ma.masked_array([1.0, 2.0, 3.0], mask=[False, True, False], fill_value=-1.0, hard_mask=True)
    got = snapshot(given)
    given.soften_mask()
    given[:] = 9.0
    assert (got.data.tolist(), got.mask.tolist()) == ([1.0, 2.0, 3.0], [False, True, False])
    assert (got.fill_value, got.hardmask) == (-1.0, True)


@pytest.mark.parametrize("size", [4, LARGE], ids=["small", "large"])
def test_a_read_only_view_of_what_is_written_to_is_copied(size: int) -> None:
    """A read-only array over memory that somebody can write to is copied, and stays read-only."""
    owner = np.zeros(size)
    view = owner[:]
    view.flags.writeable = False
    got = snapshot(view)
    owner[:] = 1
    assert not got.any()
    assert not got.flags.writeable


def test_a_mapped_file_is_copied(tmp_path: Any) -> None:
    """An array over a file is copied into memory, also where it is read-only here: the file may be written to."""
    path = tmp_path / "data"
    np.arange(4.0).tofile(path)
    got = snapshot(np.memmap(path, mode="r"))
    np.zeros(4).tofile(path)
    assert got.view("f8").tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_row_of_a_structured_array_is_copied() -> None:
    """A row of a structured array, which is a view of it, is copied."""
    rows = np.zeros(2, dtype=[("a", "i4"), ("b", "f8")])
    got = snapshot(rows[0])
    rows["a"] = 7
    assert got["a"] == 0


BUFFERS: dict[str, Callable[[], Any]] = {
    "bytearray": lambda: bytearray(b"abcd"),
    "array.array": lambda: array("h", [1, 2]),
    "memoryview of bytearray": lambda: memoryview(bytearray(b"abcd")),
    "memoryview, typed": lambda: memoryview(array("d", [1.0, 2.0])),
    "memoryview, 2-d": lambda: memoryview(bytearray(b"abcdef")).cast("B", (2, 3)),
    "memoryview, read-only": lambda: memoryview(bytearray(b"abcd")).toreadonly(),
    "memoryview, strided": lambda: memoryview(bytearray(b"abcdef"))[::-2],
    "memoryview, big-endian": lambda: memoryview(np.arange(3, dtype=">i4")),
    "memoryview, 0-d": lambda: memoryview(np.array(2.5)),
    "memoryview, structured": lambda: memoryview(np.zeros(2, dtype=[("a", "i4"), ("b", "f8")])),
}


@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)
def test_a_buffer_is_copied(make: Callable[[], Any]) -> None:
    """The snapshot of a mutable buffer is an equal one of the same type, format and shape in other memory."""
    given = make()
    got = snapshot(given)
    assert type(got) is type(given)
    view, other = memoryview(given), memoryview(got)
    assert (other.format, other.shape, other.readonly) == (view.format, view.shape, view.readonly)
    assert other.tobytes() == view.tobytes()
    assert not np.shares_memory(np.asarray(view), np.asarray(other))


def test_frames_are_copied() -> None:
    """Writing into a DataFrame or a Series changes no snapshot of it, also where its memory is somebody else's."""
    pandas = pytest.importorskip("pandas", reason="snapshots of pandas objects need pandas")
    memory = np.zeros((3, 2))
    frame = pandas.DataFrame(memory, columns=["a", "b"], copy=False)
    series, values = pandas.Series([1, 2]), pandas.array([1, None])
    frames = snapshot((frame, series, values))
    memory[:] = 5
    series[0] = 9
    values[0] = 9
    assert (frames[0].to_numpy().sum(), frames[1].tolist(), frames[2].tolist()) == (0, [1, 2], [1, pandas.NA])


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse_matrices_are_copied(kind: str, form: str) -> None:
    """Writing into a sparse matrix changes no snapshot of it."""
    sparse = pytest.importorskip("scipy.sparse", reason="snapshots of sparse matrices need scipy")
    given = getattr(sparse, f"{form}_{kind}")(np.eye(4))
    got = snapshot(given)
    assert type(got) is type(given)
    if form in ("lil", "dok"):
        given[0, 0] = 5
    else:
        given.data[:] = 5
    assert np.array_equal(got.toarray(), np.eye(4))


def test_tensors_are_copied() -> None:
    """Writing into a tensor changes no snapshot of it, and whether it wants a gradient is kept."""
    torch = pytest.importorskip("torch", reason="snapshots of tensors need torch")
    given = torch.zeros(3)
    got = snapshot(given)
    given += 1
    assert got.tolist() == [0, 0, 0]
    assert snapshot(torch.zeros(3, requires_grad=True)).requires_grad


# --- containers ------------------------------------------------------------------------------------------------------


CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "list": lambda part: [part, 1],
    "tuple": lambda part: (part, 1),
    "dict": lambda part: {"a": part, "b": 1},
    "deque": lambda part: deque([part, 1], maxlen=5),
    "named tuple": Point,
    "nested": lambda part: [{"a": (1, deque([Point(part)]))}],
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_what_stands_in_a_container_is_copied(make: Callable[[Any], Any]) -> None:
    """A container of a built-in type is rebuilt with copies of the buffers in it."""
    part = bytearray(b"before")
    given = make(part)
    got = snapshot(given)
    part[:] = b"after!"
    assert got == make(bytearray(b"before"))
    assert type(got) is type(given)
    assert getattr(got, "maxlen", None) == getattr(given, "maxlen", None)


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, {1, 2}, deque([1])], ids=lambda value: type(value).__name__)
def test_a_mutable_container_is_copied(value: Any) -> None:
    """A list, dict, set or deque is copied also when only immutable things are in it: it may be refilled."""
    got = snapshot(value)
    assert (got, type(got)) == (value, type(value))
    assert got is not value


def test_one_object_stays_one_object() -> None:
    """What stands twice in an item stands twice in its snapshot, as one object."""
    part, inner = np.zeros(3), [1]
    first, second, (third, fourth), fifth = snapshot([part, part, (inner, inner), {"a": part}])
    assert first is second is fifth["a"]
    assert first is not part
    assert third is fourth
    assert third is not inner


def test_a_container_that_contains_itself_is_copied() -> None:
    """A list that is in itself is copied to a list that is in itself."""
    given: list[Any] = [bytearray(b"x")]
    given += [given, {"me": given}, (given,)]
    got = snapshot(given)
    assert got[1] is got
    assert got[2]["me"] is got
    assert got[3][0] is got
    assert got[0] is not given[0]


def test_containers_are_entered_to_a_bounded_depth() -> None:
    """What is nested deeper than eight levels is passed as it is, however deep it goes."""
    deep: list[Any] = [bytearray(b"x")]
    for _ in range(100_000):
        deep = [deep]
    got = snapshot(deep)
    for _ in range(8):
        assert got is not deep
        got, deep = got[0], deep[0]
    assert got is deep
    while deep:  # taken apart from outside: freeing it from inside would recurse
        got = deep = deep[0] if isinstance(deep, list) else None  # type: ignore[assignment]


def test_a_dict_keeps_its_order_and_its_keys() -> None:
    """Keys are passed as they are, in their order."""
    keys = [object(), "b", (1, 2)]
    assert list(snapshot({key: bytearray(1) for key in keys})) == keys


# --- what is passed as it is -----------------------------------------------------------------------------------------


def frozen() -> Any:
    """Return a read-only view of a read-only array."""
    owner = np.zeros(4)
    owner.flags.writeable = False
    return owner[1:]


PASSED: dict[str, Callable[[], Any]] = {
    "int": lambda: 3,
    "str": lambda: "text",
    "bytes": lambda: b"data",
    "float": lambda: 1.5,
    "None": lambda: None,
    "frozenset": lambda: frozenset({1}),
    "range": lambda: range(3),
    "function": lambda: frozen,
    "type": lambda: Own,
    "partial": lambda: partial(frozen),
    "tuple of atoms": lambda: (1, "a", None),
    "tuple of tuples": lambda: (1, (2, (3,))),
    "named tuple": lambda: Point(1, "a"),
    "numpy scalar": lambda: np.float64(2),
    "read-only array": frozen,
    "array over bytes": lambda: np.frombuffer(b"12345678"),
    "memoryview of bytes": lambda: memoryview(b"1234"),
    "an object of one's own": lambda: Own(bytearray(3)),
    "an object of a strange class": OfStrange,
    "a subclass of list": lambda: type("Own", (list,), {})([bytearray(3)]),
    "a subclass of bytearray": lambda: type("Own", (bytearray,), {})(b"abc"),
}


@pytest.mark.parametrize("make", PASSED.values(), ids=PASSED)
def test_what_cannot_change_is_passed(make: Callable[[], Any]) -> None:
    """What is immutable, and what is of the user's own class, is passed as it is, alone and in a container."""
    given = make()
    snapshots = Snapshots()
    for _ in range(2):
        assert snapshots.of(given) is given
        assert snapshots.of([given])[0] is given


def test_immutable_tables_are_passed() -> None:
    """Polars and Arrow objects are passed as they are."""
    polars = pytest.importorskip("polars", reason="polars objects need polars")
    arrow = pytest.importorskip("pyarrow", reason="Arrow objects need pyarrow")
    for given in (polars.DataFrame({"a": [1]}), polars.Series([1]), arrow.table({"a": [1]}), arrow.array([1])):
        assert snapshot(given) is given


def test_a_released_view_is_passed() -> None:
    """A memoryview that was released is passed: what is wrong with it is said where it is used."""
    view = memoryview(bytearray(3))
    view.release()
    assert snapshot([view])[0] is view


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_an_unchanged_array_is_copied_once() -> None:
    """A large array that is yielded again with what it contained is passed as its earlier snapshot."""
    snapshots, data = Snapshots(), np.arange(20_000.0)
    first = snapshots.of((data, 1))[0]
    assert first is not data
    assert snapshots.of((data, 2))[0] is first
    data[-1] = np.nan
    second = snapshots.of((data, 3))[0]
    assert second is not first
    assert (first[-1], str(second[-1])) == (19_999.0, "nan")
    assert snapshots.of((data, 4))[0] is second


CHANGES: dict[str, Callable[[Any], Any]] = {
    "its last byte": lambda data: data.view("u1").__setitem__(-1, 1),
    "its first byte": lambda data: data.view("u1").__setitem__(0, 1),
    "its middle": lambda data: data.__setitem__(len(data) // 2, 1),
    "its shape": lambda data: setattr(data, "shape", (-1, 2)),
    "its dtype": lambda data: setattr(data, "dtype", "u8"),
    "a zero's sign": lambda data: data.__setitem__(0, -0.0),
    "its writeability": lambda data: setattr(data.flags, "writeable", False),
}


@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_array_is_copied_again(change: Callable[[Any], Any]) -> None:
    """Whatever has changed of an array, its bits or how it looks at them, it is copied again."""
    snapshots, data = Snapshots(), np.zeros(LARGE)[:]  # a view, so that it is not frozen when it is read-only
    first = snapshots.of(data)
    change(data)
    second = snapshots.of(data)
    assert second is not first
    assert (second.tobytes(), second.shape, second.dtype) == (data.tobytes(), data.shape, data.dtype)
    assert second.flags.writeable == data.flags.writeable


def test_an_object_array_is_copied_each_time() -> None:
    """An array of objects is never compared: that would be the business of its objects."""
    snapshots, data = Snapshots(), np.full(LARGE, None)
    assert snapshots.of(data) is not snapshots.of(data)


def test_snapshots_are_not_kept() -> None:
    """A snapshot that nobody uses any more is freed, and another array at its place is not taken for it."""
    snapshots, data = Snapshots(), np.arange(20_000.0)
    kept = ref(snapshots.of(data))
    assert kept() is None
    for number in range(40):
        assert snapshots.of(np.full(LARGE, float(number)))[0] == number


def test_no_more_is_copied_than_allowed() -> None:
    """What is too large, by its bytes or by how many parts it has, is refused before much time was spent on it."""
    snapshots, data = Snapshots(), np.zeros(LARGE)
    for given in (data, [data], [[[1]]] * 10 + [[i, []] for i in range(5000)], list(range(100_000)), bytearray(1 << 19)):
        with pytest.raises(TooLarge):
            snapshots.of(given, max_bytes=1 << 18)
    assert len(snapshots.of((data, [1]), max_bytes=1 << 20)) == 2


# --- where they are taken --------------------------------------------------------------------------------------------


def refilling(size: int) -> Iterator[Any]:
    """Yield one buffer with several contents."""
    buffer = np.empty(size)
    for number in range(8):
        buffer[:] = number
        yield buffer


async def refilling_async(size: int) -> AsyncIterator[Any]:
    """Yield one buffer with several contents."""
    for buffer in refilling(size):
        yield buffer


@pytest.mark.anyio
@pytest.mark.parametrize("size", [3, 300_000], ids=["small", "large"])
@pytest.mark.parametrize("make", [refilling, refilling_async], ids=["plain", "async"])
async def test_a_source_takes_snapshots(make: Callable[[int], Any], size: int) -> None:
    """An iterator that yields the same buffer again and again gives as many different items."""
    source = source_of(make(size))
    async with source.reading():
        while not source.is_read:
            await source.pull(3)
        assert [item[-1] for item in source.take(100)] == list(range(8))


COLLECTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "values": lambda items: dict(enumerate(items)).values(),
}


@pytest.mark.parametrize("make", COLLECTIONS.values(), ids=COLLECTIONS)
def test_a_collection_is_not_copied(make: Callable[[list[Any]], Any]) -> None:
    """Items that stand in a collection, the values of a dict included, are taken as they are."""
    items = [np.zeros(3) for _ in range(3)]
    assert all(one is other for one, other in zip(source_of(make(items)).take(3), items, strict=True))


@pytest.mark.anyio
@pytest.mark.parametrize(("size", "is_on_loop"), [(10, True), (400_000, False)], ids=["small", "large"])
async def test_large_items_of_an_async_source_are_copied_off_the_loop(size: int, is_on_loop: bool) -> None:
    """What an async iterable yields is copied in a thread where that would hold the loop."""
    threads: list[int] = []

    class Told(np.ndarray):
        """An array that tells where it is copied."""

        def copy(self, order: Any = "C") -> Any:
            threads.append(threading.get_ident())
            return super().copy(order)

    async def items() -> AsyncIterator[Any]:
        yield np.zeros(size).view(Told)

    source = source_of(items())
    async with source.reading():
        await source.pull(1)
        assert [thread == threading.get_ident() for thread in threads] == [is_on_loop]
