"""Things of every kind to send to workers, and what to tell of them on either side: facts that can be compared."""

from __future__ import annotations

import datetime
import functools
import hashlib
import marshal
import tempfile
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

KIB = 1024
SMALL, LARGE = 1000, 300 * KIB
SIZES = {"small": SMALL, "300 KiB": LARGE, "3 MiB": 3 * KIB * KIB}  # in the pickle, copied out, mapped

Maker = Callable[[int], Any]  # of something with so many bytes of data


# --- what is told of a thing -----------------------------------------------------------------------------------------


def examine(thing: Any) -> tuple[Any, Any]:
    """Return the facts of a thing as it is where this runs, and the thing."""
    return facts(thing), thing


def examine_all(*things: Any) -> list[tuple[Any, Any]]:
    return [examine(thing) for thing in things]


def examine_bound(thing: Any, _: Any) -> tuple[Any, Any]:
    return examine(thing)


def closed_over(thing: Any) -> Callable[[Any], tuple[Any, Any]]:
    """Return a function that has the thing in its closure."""

    def look(_: Any) -> tuple[Any, Any]:
        return examine(thing)

    return look


def facts(thing: Any) -> Any:
    """Return plain data that is the same for two things just when they can't be told apart."""
    kind = type(thing)
    package = kind.__module__.partition(".")[0]
    return (kind.__module__, kind.__qualname__, *_FACTS.get(_family(thing, package), _of_other)(thing))


def _family(thing: Any, package: str) -> str:
    if isinstance(thing, np.ndarray):
        return "numpy"
    if isinstance(thing, memoryview):
        return "memoryview"
    if isinstance(thing, list | tuple):
        return "sequence"
    return package


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _digest_of(values: list[Any]) -> str:
    """Return a digest of a list, which is taken fast where only plain values are in it."""
    try:
        return _digest(marshal.dumps(values, 2))  # from version 3 on it depends on which values are one object
    except ValueError:
        return _digest(repr(values).encode())


def _of_other(thing: Any) -> tuple[Any, ...]:
    text = repr(thing)
    return (len(text), text if len(text) < 200 else _digest(text.encode()))


def _of_sequence(things: Any) -> tuple[Any, ...]:
    return tuple(facts(thing) for thing in things)


def _of_view(view: memoryview) -> tuple[Any, ...]:
    return view.format, view.shape, view.readonly, _digest(view.tobytes())


def _of_array(given: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    plain = given.view(np.ndarray) if type(given) is not np.ndarray else given
    dtype = given.dtype
    found = (repr(dtype), dtype.isalignedstruct, dtype.itemsize, given.shape, given.flags.writeable, _order(given))
    found += (_content(plain),)
    if isinstance(given, np.ma.MaskedArray):
        fill_value = None if given is np.ma.masked else repr(given.fill_value)
        found += (facts(np.array(np.ma.getmaskarray(given))), fill_value, given.hardmask, given is np.ma.masked)
    return (*found, repr(getattr(given, "tag", None)))


def _order(given: np.ndarray[Any, Any]) -> tuple[bool, bool]:
    """Return whether it is in C's and in Fortran's order; what is in neither arrives in C's, as numpy pickles it."""
    flags = given.flags
    if flags.c_contiguous or flags.f_contiguous:
        return flags.c_contiguous, flags.f_contiguous
    return True, np.empty(given.shape, bool).flags.f_contiguous


def _content(given: np.ndarray[Any, Any]) -> Any:
    """Return what is in an array bit by bit, without what lies between the fields."""
    if given.dtype.names:
        return tuple(_content(given[name]) for name in given.dtype.names)
    if given.dtype.hasobject:
        return repr(given[()]) if given.ndim == 0 else _digest_of(given.tolist())
    return _digest(given.tobytes())


def _of_pandas(thing: Any) -> tuple[Any, ...]:
    import pandas as pd

    if isinstance(thing, pd.DataFrame):
        columns = tuple(_of_pandas(thing.iloc[:, i]) for i in range(thing.shape[1]))
        return thing.shape, facts(thing.columns), facts(thing.index), repr(thing.attrs), columns
    if isinstance(thing, pd.Series):
        return repr(thing.name), repr(thing.attrs), facts(thing.index), facts(thing.array)
    if isinstance(thing, pd.MultiIndex):
        return repr(thing.names), repr([level.dtype for level in thing.levels]), _digest_of(thing.tolist())
    names = repr(getattr(thing, "name", None))
    inside = repr(getattr(thing, "categories", None)), getattr(thing, "ordered", None), repr(getattr(thing, "freq", None))
    return names, *inside, repr(thing.dtype), _digest_of(thing.tolist())


def _of_polars(thing: Any) -> tuple[Any, ...]:
    rows = thing.rows() if hasattr(thing, "rows") else thing.to_list()
    return repr(getattr(thing, "schema", None)), thing.shape, _digest(repr(rows).encode())


def _of_arrow(thing: Any) -> tuple[Any, ...]:
    kind = thing.schema.to_string() if hasattr(thing, "schema") else str(thing.type)
    thing.validate(full=True)
    return kind, _digest(repr(thing.to_pylist()).encode())


def _of_sparse(thing: Any) -> tuple[Any, ...]:
    parts = [name for name in ("data", "indices", "indptr", "offsets", "row", "col") if hasattr(thing, name)]
    inside = tuple(facts(getattr(thing, name)) for name in parts) if thing.format not in ("lil", "dok") else ()
    whole = None if thing.format == "dia" else facts(thing.toarray())
    return thing.format, repr(thing.dtype), thing.shape, whole, inside


def _of_torch(thing: Any) -> tuple[Any, ...]:
    values = facts(thing.detach().numpy())
    return str(thing.dtype), tuple(thing.shape), thing.stride(), thing.requires_grad, values


_FACTS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "sequence": _of_sequence,
    "numpy": _of_array,
    "memoryview": _of_view,
    "pandas": _of_pandas,
    "polars": _of_polars,
    "pyarrow": _of_arrow,
    "scipy": _of_sparse,
    "torch": _of_torch,
}


# --- arrays ----------------------------------------------------------------------------------------------------------


class Tagged(np.ndarray):
    """A subclass whose attribute travels, since it says how."""

    tag: Any

    def __new__(cls, data: Any, tag: Any) -> Tagged:
        made = np.asarray(data).view(cls)
        made.tag = tag
        return made

    def __array_finalize__(self, origin: Any) -> None:
        self.tag = getattr(origin, "tag", "none")

    def __reduce__(self) -> Any:
        rebuild, arguments, state = super().__reduce__()  # type: ignore[misc]
        return rebuild, arguments, (state, self.tag)

    def __setstate__(self, state: Any) -> None:
        inner, self.tag = state
        super().__setstate__(inner)


class Plain(np.ndarray):
    """A subclass that says nothing of pickling."""


NUMBERS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "g", "F", "D", "G")
OTHERS = (">i2", ">u8", ">f4", ">f8", ">c16", "M8[ns]", "M8[D]", "m8[us]", "S7", "U5", ">U3", "V12")
STRUCTURES: dict[str, Any] = {
    "structured": [("a", "i4"), ("b", ">f8"), ("c", "S3")],
    "nested": [("a", "i2"), ("b", [("x", "f4"), ("y", "M8[s]")])],
    "subarray": [("a", "u1"), ("b", "f8", (2, 3))],
    "aligned": np.dtype([("a", "i1"), ("b", "f8"), ("c", "i2")], align=True),
    "with gaps": np.dtype({"names": ["a", "b"], "formats": ["i4", "f8"], "offsets": [4, 16], "itemsize": 32}),
}


def values(dtype: Any, n_bytes: int) -> Any:
    """Return a flat array of so many bytes, in which every byte pattern of its own appears."""
    dtype = np.dtype(dtype)
    count = max(1, n_bytes // dtype.itemsize)
    if dtype.names or dtype.kind == "V":
        bits = (np.arange(count * dtype.itemsize, dtype="u4") * 7 % 120).astype("u1")
        return bits.view(dtype)
    if dtype.kind in "SU":
        return np.array([str(i % 997) for i in range(count)]).astype(dtype)
    made = (np.arange(count) % 120).astype("i8").astype(dtype)
    if dtype.kind in "fc" and count > 4:
        made[1:4] = np.nan, np.inf, -0.0
    if dtype.kind in "mM":
        made[-1] = "NaT"
    return made


def floats(n_bytes: int) -> Any:
    return values("f8", n_bytes)


def table(n_bytes: int) -> Any:
    """Return a table of four columns."""
    return floats(n_bytes // 32 * 32).reshape(-1, 4)


def read_only(given: Any) -> Any:
    given.flags.writeable = False
    return given


def text_array(n_bytes: int, **options: Any) -> Any:
    """Return an array of strings of any length."""
    if not hasattr(np.dtypes, "StringDType"):
        pytest.skip("StringDType needs numpy 2")
    texts: list[Any] = ["", "short", "α" * 30, "longer than what is kept inside of an entry"] * (n_bytes // 64)
    if options:
        texts[0] = options["na_object"]
    return np.array(texts, dtype=np.dtypes.StringDType(**options))


def objects(n_bytes: int) -> Any:
    made = np.empty(n_bytes // 8, dtype=object)
    made[:] = [(i, "text", None, 1.5)[i % 4] for i in range(len(made))]
    return made


def unaligned(n_bytes: int) -> Any:
    return np.frombuffer(bytearray(n_bytes // 8 * 8 + 1), dtype="f8", offset=1)


def mapped(n_bytes: int, mode: Any = "r+") -> Any:
    """Return an array over a file that has no name."""
    with tempfile.TemporaryFile() as file:
        floats(n_bytes).tofile(file)
        file.flush()
        return np.memmap(file, dtype="f8", mode=mode)


def masked(n_bytes: int, **options: Any) -> Any:
    data = floats(n_bytes)
    return np.ma.MaskedArray(data, mask=np.arange(len(data)) % 3 == 0, **options)


ARRAYS: dict[str, Maker] = {
    **{f"dtype {dtype}": functools.partial(values, dtype) for dtype in (*NUMBERS, *OTHERS)},
    **{name: functools.partial(values, dtype) for name, dtype in STRUCTURES.items()},
    "StringDType": text_array,
    "StringDType with None": functools.partial(text_array, na_object=None),
    "objects": objects,
    "objects in a structure": lambda n: np.array([(i, {"a": i}) for i in range(n // 16)], dtype=[("a", "i8"), ("b", "O")]),
    "C order": table,
    "Fortran order": lambda n: np.asfortranarray(table(n)),
    "Fortran order, objects": lambda n: np.asfortranarray(objects(n // 32 * 32).reshape(-1, 4)),
    "transposed": lambda n: table(n).T,
    "transposed 3-d": lambda n: floats(n // 64 * 64).reshape(-1, 4, 2).transpose(1, 2, 0),
    "strided": lambda n: floats(2 * n)[::2],
    "reversed": lambda n: floats(n)[::-1],
    "columns": lambda n: table(2 * n)[:, 1:3],
    "a slice": lambda n: floats(n + 800)[50:-50],
    "unaligned": unaligned,
    "read-only": lambda n: read_only(floats(n)),
    "read-only, Fortran order": lambda n: read_only(np.asfortranarray(table(n))),
    "a read-only slice of a writable one": lambda n: read_only(floats(n + 800)[50:-50]),
    "over bytes": lambda n: np.frombuffer(floats(n).tobytes()),
    "masked": masked,
    "masked, fill value": functools.partial(masked, fill_value=-1.5),
    "masked, hard": functools.partial(masked, hard_mask=True),
    "masked, no mask": lambda n: np.ma.MaskedArray(floats(n)),
    "masked, structured": lambda n: np.ma.MaskedArray(values(STRUCTURES["structured"], n)),
    "masked, 2-d": lambda n: np.ma.masked_equal(table(n), 3.0),
    "matrix": lambda n: table(n).view(np.matrix),
    "records": lambda n: values(STRUCTURES["structured"], n).view(np.recarray),
    "memmap": mapped,
    "memmap, private": functools.partial(mapped, mode="c"),
    "memmap, a slice": lambda n: mapped(n + 800)[50:-50],
    "a subclass that says how": lambda n: Tagged(floats(n), {"unit": "m"}),
    "a subclass": lambda n: floats(n).view(Plain),
}
READ_ONLY_ARRAYS: dict[str, Maker] = {  # what numpy by itself pickles as writable
    "dates": lambda n: read_only(values("M8[ns]", n)),
    "strided": lambda n: read_only(floats(2 * n)[::2]),
    "broadcast": lambda n: np.broadcast_to(floats(n // 4), (4, n // 4 // 8)),
    "broadcast from one value": lambda n: np.broadcast_to(np.float64(2.5), (n // 8,)),
    "objects": lambda n: read_only(objects(n)),
    "a subclass": lambda n: read_only(floats(n).view(Plain)),
    "memmap": functools.partial(mapped, mode="r"),
    "masked": lambda n: read_only(masked(n)),
    "StringDType": lambda n: read_only(text_array(n)),
}
BIG_ENDIAN_ARRAYS: dict[str, Maker] = {  # what numpy by itself pickles as little-endian
    "dates": lambda n: values(">M8[s]", n),
    "strided": lambda n: values(">f8", 2 * n)[::2],
    "a subclass": lambda n: values(">f8", n).view(Plain),
    "masked": lambda n: np.ma.MaskedArray(values(">f8", n), mask=np.arange(n // 8) % 2),
    "read-only and strided": lambda n: read_only(values(">i4", 2 * n)[::2]),
}
TINY: dict[str, Callable[[], Any]] = {
    "0-d": lambda: np.array(2.5),
    "0-d, read-only": lambda: read_only(np.array(2.5)),
    "0-d, object": lambda: np.array(None),
    "0-d, structured": lambda: np.array((1, 2.0), dtype=[("a", "i4"), ("b", "f8")]),
    "zero-size": lambda: np.empty(0),
    "zero-size 3-d": lambda: np.empty((3, 0, 2), dtype=">i4"),
    "zero-size, Fortran order": lambda: np.empty((4, 0, 3), order="F"),
    "zero-size, read-only": lambda: read_only(np.empty(0)),
    "zero-size, objects": lambda: np.empty((0, 2), dtype=object),
    "zero-size, masked": lambda: np.ma.MaskedArray(np.empty(0)),
    "no item size": lambda: np.zeros(3, dtype="V0"),
    "masked constant": lambda: np.ma.masked,
    "empty bytes": lambda: b"",
    "empty bytearray": lambda: bytearray(),
    "empty memoryview": lambda: memoryview(b""),
    "0-d memoryview": lambda: memoryview(np.array(2.5)),
    "empty array.array": lambda: array("d"),
    "scalars": lambda: [np.float32(1.5), np.int8(3), np.datetime64("2020-01-01"), np.str_("a"), np.bool_(True)],
    "a row of a structure": lambda: np.zeros(1, dtype=[("a", "i4"), ("b", "f8")])[0],
}


# --- buffers ---------------------------------------------------------------------------------------------------------


def pattern(n_bytes: int) -> bytes:
    return bytes(range(251)) * (n_bytes // 251 + 1)


BUFFERS: dict[str, Maker] = {
    "bytes": pattern,
    "bytearray": lambda n: bytearray(pattern(n)),
    "memoryview of bytes": lambda n: memoryview(pattern(n)),
    "memoryview of a bytearray": lambda n: memoryview(bytearray(pattern(n))),
    "memoryview, read-only of a bytearray": lambda n: memoryview(bytearray(pattern(n))).toreadonly(),
    "memoryview, typed": lambda n: memoryview(array("d", range(n // 8))),
    "memoryview, signed chars": lambda n: memoryview(array("b", [1, -1] * (n // 2))),
    "memoryview, 2-d": lambda n: memoryview(bytearray(n // 6 * 6)).cast("B", (n // 6, 6)),
    "memoryview, 3-d typed": lambda n: memoryview(np.arange(n // 48 * 6, dtype="i8").reshape(-1, 2, 3)),
    "memoryview, a slice": lambda n: memoryview(bytearray(pattern(n + 200)))[100:-100],
    "memoryview, strided": lambda n: memoryview(bytearray(pattern(2 * n)))[::2],
    "memoryview, reversed and read-only": lambda n: memoryview(pattern(n))[::-1],
    "memoryview, Fortran order": lambda n: memoryview(np.asfortranarray(table(n))),
    "memoryview, big-endian": lambda n: memoryview(values(">f8", n)),
    "memoryview, structured": lambda n: memoryview(values([("a", "i4"), ("b", "f8")], n)),
    "memoryview, bool": lambda n: memoryview(values("?", n)),
    **{f"array.array {code}": functools.partial(lambda code, n: array(code, [1] * (n // 4)), code) for code in "bHifdQ"},
}


# --- tables ----------------------------------------------------------------------------------------------------------


def _pandas() -> Any:
    return pytest.importorskip("pandas", reason="frames need pandas")


def frame(n_bytes: int) -> Any:
    """Return a frame of numbers of several kinds."""
    n = n_bytes // 24
    data = {"a": np.arange(n), "b": values("f8", 8 * n), "c": values("i2", 2 * n), "d": values("?", n), "e": np.ones(n)}
    return _pandas().DataFrame(data)


def column(n_bytes: int, dtype: Any, given: Callable[[int], Any], width: int = 8) -> Any:
    """Return a frame of two columns of this dtype, one of them with a missing value."""
    pd = _pandas()
    n = max(4, n_bytes // width)
    whole = [given(i) for i in range(n)]
    return pd.DataFrame({"whole": pd.array(whole, dtype=dtype), "missing": pd.array([*whole[:-1], None], dtype=dtype)})


def arrow_column(n_bytes: int, name: str, given: Callable[[int], Any]) -> Any:
    pa = pytest.importorskip("pyarrow", reason="Arrow dtypes need pyarrow")
    kinds = {"int": pa.int64(), "text": pa.string(), "list": pa.list_(pa.int32()), "time": pa.timestamp("us", "UTC")}
    return column(n_bytes, _pandas().ArrowDtype(kinds[name]), given, 32)


def _day(i: int) -> datetime.datetime:
    return datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(minutes=i)


def with_attrs(made: Any) -> Any:
    made.attrs = {"source": "here", "units": ["m", "s"]}
    return made


def multi_index(n_bytes: int, is_on_columns: bool = False) -> Any:
    made = frame(n_bytes).iloc[:, :3]
    pd = _pandas()
    if is_on_columns:
        made.columns = pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)], names=["outer", None])
        return made
    made.index = pd.MultiIndex.from_arrays([np.arange(len(made)) % 7, [f"k{i}" for i in range(len(made))]], names=["i", "k"])
    return made


def categories(n_bytes: int, ordered: bool = False) -> Any:
    pd = _pandas()
    kinds = pd.CategoricalDtype(["low", "high", "unused"], ordered=ordered)
    return pd.DataFrame({"a": pd.Categorical(["low", "high", None, "low"] * (n_bytes // 4), dtype=kinds)})


def sparse_columns(n_bytes: int) -> Any:
    pd = _pandas()
    return pd.DataFrame({"a": pd.arrays.SparseArray(np.where(np.arange(n_bytes // 8) % 3, 0.0, 1.5), fill_value=0.0)})


def mixed(n_bytes: int) -> Any:
    """Return a frame with a column of each common kind."""
    pd, n = _pandas(), n_bytes // 32
    return pd.DataFrame(
        {
            "number": np.arange(float(n)),
            "text": [f"text {i}" for i in range(n)],
            "kind": pd.Categorical([f"k{i % 3}" for i in range(n)]),
            "when": pd.date_range("2020-01-01", periods=n, freq="min", tz="Europe/Zurich"),
            "maybe": pd.array([i if i % 2 else None for i in range(n)], dtype="Int64"),
        }
    )


FRAMES: dict[str, Maker] = {
    "numbers": frame,
    "one block": lambda n: _pandas().DataFrame(table(n)),
    "one block, Fortran order": lambda n: _pandas().DataFrame(np.asfortranarray(table(n))),
    "mixed": mixed,
    "str": lambda n: column(n, "str", lambda i: f"text {i}"),
    "string": lambda n: column(n, "string", lambda i: f"text {i}"),
    "object strings": lambda n: column(n, object, lambda i: f"text {i}"),
    "Int64": lambda n: column(n, "Int64", lambda i: i),
    "boolean": lambda n: column(n, "boolean", lambda i: i % 2 == 0, 1),
    "Float32": lambda n: column(n, "Float32", lambda i: i / 2, 4),
    "categories": categories,
    "ordered categories": functools.partial(categories, ordered=True),
    "dates with a time zone": lambda n: column(n, "datetime64[ns, UTC]", _day),
    "Arrow int": lambda n: arrow_column(n, "int", lambda i: i),
    "Arrow text": lambda n: arrow_column(n, "text", lambda i: f"text {i}"),
    "Arrow lists": lambda n: arrow_column(n, "list", lambda i: [i, None, 3]),
    "Arrow times": lambda n: arrow_column(n, "time", _day),
    "MultiIndex": multi_index,
    "MultiIndex columns": functools.partial(multi_index, is_on_columns=True),
    "sparse columns": sparse_columns,
    "attrs": lambda n: with_attrs(frame(n)),
    "series": lambda n: with_attrs(_pandas().Series(floats(n), name="s")),
    "series of a slice": lambda n: _pandas().Series(floats(n + 800), name=("a", 1)).iloc[50:-50],
    "index": lambda n: _pandas().Index(floats(n), name="i"),
    "dates index": lambda n: _pandas().date_range("2020-01-01", periods=n // 8, freq="min", name="when"),
    "range index": lambda n: _pandas().RangeIndex(5, 5 + n),
    "intervals": lambda n: _pandas().interval_range(0, n // 16),
    "no rows": lambda n: frame(n).iloc[:0],
    "no columns": lambda n: frame(n).iloc[:, :0],
}


def polars_frame(n_bytes: int) -> Any:
    pl, n = pytest.importorskip("polars", reason="polars frames need polars"), n_bytes // 24
    return pl.DataFrame(
        {
            "number": list(range(n)),
            "text": [None if i % 5 == 0 else f"text {i}" for i in range(n)],
            "lists": [[i, None] for i in range(n)],
            "when": [_day(i) for i in range(n)],
        }
    ).with_columns(pl.col("text").cast(pl.Categorical).alias("kind"))


def arrow_table(n_bytes: int) -> Any:
    pa, n = pytest.importorskip("pyarrow", reason="Arrow tables need pyarrow"), n_bytes // 32
    return pa.table(
        {
            "number": pa.array(np.arange(float(n))),
            "missing": pa.array([None if i % 3 == 0 else i for i in range(n)]),
            "kind": pa.array([f"k{i % 3}" for i in range(n)]).dictionary_encode(),
            "nested": pa.array([{"a": i, "b": [f"{i}", None]} for i in range(n)]),
        },
        metadata={"who": "me"},
    )


TABLES: dict[str, Maker] = {
    "polars frame": polars_frame,
    "polars series": lambda n: polars_frame(n)["text"],
    "polars numbers": lambda n: polars_frame(n)["number"],
    "polars slice": lambda n: polars_frame(n)[3:-3],
    "Arrow table": arrow_table,
    "Arrow table, a slice": lambda n: arrow_table(n).slice(3, 20),
    "Arrow table of two parts": lambda n: _joined(arrow_table(n // 2)),
    "Arrow batch": lambda n: arrow_table(n).to_batches()[0],
    "Arrow array": lambda n: arrow_table(n)["missing"].chunk(0),
    "Arrow chunked array": lambda n: arrow_table(n)["nested"],
    "Arrow dictionary": lambda n: arrow_table(n)["kind"].chunk(0),
}


def _joined(part: Any) -> Any:
    import pyarrow as pa

    return pa.concat_tables([part, part])


def sparse(form: str, kind: str, n_bytes: int) -> Any:
    scipy = pytest.importorskip("scipy.sparse", reason="sparse matrices need scipy")
    if form == "dia":
        bands = floats(n_bytes // 64 * 64).reshape(8, -1)
        return getattr(scipy, f"dia_{kind}")((bands, range(-4, 4)), shape=(bands.shape[1],) * 2)
    side = max(8, int((n_bytes / 4) ** 0.5) // 4 * 4)  # of 8 bytes, half of them there
    data = np.where(np.arange(side * side) % 2, np.arange(float(side * side)), 0).reshape(side, side)
    return getattr(scipy, f"{form}_{kind}")(data)


SPARSE: dict[str, Maker] = {
    f"{form}_{kind}": functools.partial(sparse, form, kind)
    for form in ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")
    for kind in ("matrix", "array")
}


def tensor(n_bytes: int, view: str = "") -> Any:
    torch = pytest.importorskip("torch", reason="tensors need torch")
    made = torch.from_numpy(table(n_bytes))
    if view == "gradient":
        return made.clone().requires_grad_()
    return made.T if view == "transposed" else made.to(torch.float32) if view == "float32" else made


TENSORS: dict[str, Maker] = {
    "tensor": tensor,
    "tensor, float32": functools.partial(tensor, view="float32"),
    "tensor, transposed": functools.partial(tensor, view="transposed"),
    "tensor that wants a gradient": functools.partial(tensor, view="gradient"),
}

MIXTURES: dict[str, Maker] = {
    "a tuple of arrays": lambda n: (floats(n), values("i4", n), "text", objects(800)),
    "a dict of frames": lambda n: [frame(n), floats(n), bytearray(pattern(n)), pattern(n)],
    "large and small": lambda n: [floats(n), floats(80), values("u1", 7), floats(n)[::2], read_only(floats(n))],
}


# --- what workers do with things -------------------------------------------------------------------------------------


def overwrite(thing: Any) -> float:
    """Write over all that is in a thing, and return its first value as it was."""
    if isinstance(thing, tuple):
        thing = thing[0]
    if hasattr(thing, "iloc"):
        first = float(thing.iloc[0, 0])
        for place, dtype in enumerate(thing.dtypes):
            thing.iloc[:, place] = np.full(len(thing), 9, dtype)
        return first
    first = float(thing[0])
    thing[:] = bytes([9]) * len(thing) if isinstance(thing, bytearray | memoryview) else 9
    return first


def overwrite_bound(thing: Any, _: Any) -> float:
    return overwrite(thing)


def overwrite_closed(thing: Any) -> Callable[[Any], float]:
    def write(_: Any) -> float:
        return overwrite(thing)

    return write


def are_one(one: Any, other: Any) -> bool:
    return one is other


def is_pair_of_one(pair: Any) -> tuple[bool, Any]:
    """Return whether both are one object, and both."""
    return pair[0] is pair[1], pair


@functools.cache
def kept(n_bytes: int) -> Any:
    """Return the same array each time."""
    return np.zeros(n_bytes // 8)


def kept_of(n_bytes: int, _: Any) -> Any:
    return kept(n_bytes)


def address_facts(given: Any) -> tuple[Any, int]:
    """Return the facts of an array, and how far its data is from an address that is a multiple of 64."""
    return facts(given), given.ctypes.data % 64
