"""Faithful travel: what arrives in a worker, and what comes back, can't be told from what was sent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import faithful as f
import offloop
import workloads as w

pytestmark = pytest.mark.anyio

WORTH_A_FILE = 64 * 1024  # bytes from which on a buffer travels by itself


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Asyncio alone: what travels is the same on every loop, of which test_faithful_loops.py has a sample."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def polars_runtime() -> None:
    """Have polars start the runtime that it keeps for as long as the process lives."""
    with suppress(pytest.skip.Exception):
        f.polars_frame(f.SMALL).rows()


def cases(things: dict[str, f.Maker], sizes: dict[str, int]) -> Any:
    """Parametrize over things of several sizes."""
    found = [pytest.param(make, n, id=f"{name}, {size}") for name, make in things.items() for size, n in sizes.items()]
    return pytest.mark.parametrize(("make", "n_bytes"), found)


def things(made: dict[str, Any]) -> Any:
    """Parametrize over makers of things."""
    return pytest.mark.parametrize("make", made.values(), ids=made)


BRIEF = {"100 KiB": 100 * f.KIB}  # for what takes long to compare
MODERATE = {"300 KiB": f.SIZES["300 KiB"]}
ENDS = {"3 MiB": f.SIZES["3 MiB"]}
TWO = {size: f.SIZES[size] for size in ("small", "300 KiB")}


async def assert_faithful(workers: offloop.ParallelSession, thing: Any) -> None:
    """Send a thing as an item and as an argument, and compare what arrived and what came back."""
    expected = f.facts(thing)
    [(arrived, returned)] = await workers.run_parallel(f.examine, [thing])
    assert arrived == expected
    assert f.facts(returned) == expected
    [(arrived, returned)] = await workers.run(f.examine_all, thing)
    assert arrived == expected
    assert f.facts(returned) == expected


# --- things of every kind --------------------------------------------------------------------------------------------


@cases(f.ARRAYS, TWO)
@pytest.mark.fault(61, 64)
async def test_arrays(workers: offloop.ParallelSession, make: f.Maker, n_bytes: int) -> None:
    """An array arrives with its type, dtype, shape, order, mask and contents, and writable if it was."""
    await assert_faithful(workers, make(n_bytes))


@cases(f.READ_ONLY_ARRAYS, MODERATE)
@pytest.mark.fault(61, 64)
async def test_read_only_arrays(workers: offloop.ParallelSession, make: f.Maker, n_bytes: int) -> None:
    """A read-only array of any kind is read-only on arrival."""
    await assert_faithful(workers, make(n_bytes))


@cases(f.BIG_ENDIAN_ARRAYS, MODERATE)
@pytest.mark.fault(61, 64)
async def test_big_endian_arrays(workers: offloop.ParallelSession, make: f.Maker, n_bytes: int) -> None:
    """An array of any kind keeps its byte order."""
    await assert_faithful(workers, make(n_bytes))


@things(f.TINY)
async def test_tiny_things(workers: offloop.ParallelSession, make: Callable[[], Any]) -> None:
    """What has no dimensions, or nothing in it, arrives as it was."""
    await assert_faithful(workers, make())


@cases(f.BUFFERS, TWO)
async def test_buffers(workers: offloop.ParallelSession, make: f.Maker, n_bytes: int) -> None:
    """Bytes, bytearrays, arrays of the standard library and views of any format and shape arrive equal."""
    await assert_faithful(workers, make(n_bytes))


@cases(f.FRAMES, BRIEF)
@pytest.mark.fault(62, 64)
async def test_pandas(workers: offloop.ParallelSession, make: f.Maker, n_bytes: int) -> None:
    """Frames, series and indexes arrive with their dtypes, indexes, names, attrs and missing values."""
    await assert_faithful(workers, make(n_bytes))


@cases(f.TABLES, BRIEF)
@pytest.mark.fault(62, 64)
async def test_tables(workers: offloop.ParallelSession, make: f.Maker, n_bytes: int) -> None:
    """Polars and Arrow objects arrive with their schema, nulls, dictionaries and nesting."""
    await assert_faithful(workers, make(n_bytes))


@cases(f.SPARSE, MODERATE)
async def test_sparse_matrices(workers: offloop.ParallelSession, make: f.Maker, n_bytes: int) -> None:
    """Sparse matrices and arrays of every format arrive in their format, with their parts equal."""
    await assert_faithful(workers, make(n_bytes))


@cases(f.TENSORS, MODERATE)
async def test_tensors(workers: offloop.ParallelSession, make: f.Maker, n_bytes: int) -> None:
    """CPU tensors arrive with their dtype, strides and whether they want a gradient."""
    await assert_faithful(workers, make(n_bytes))


@cases(f.MIXTURES, f.SIZES)
async def test_mixtures(workers: offloop.ParallelSession, make: f.Maker, n_bytes: int) -> None:
    """Several things within one item, large and small ones, arrive each as it was."""
    await assert_faithful(workers, make(n_bytes))


BOUND = {"partial": lambda thing: partial(f.examine_bound, thing), "closure": f.closed_over}
SOME = ("dtype f8", "dtype >f8", "dtype M8[ns]", "structured", "objects", "Fortran order", "strided", "read-only", "memmap")
KINDS = (f.ARRAYS, f.BUFFERS, f.FRAMES, f.TABLES, f.SPARSE, f.TENSORS)
SOME += ("masked, hard", "a subclass that says how", "bytes", "bytearray", "memoryview of a bytearray", "array.array d")
SOME += ("mixed", "one block", "Arrow text", "series", "polars frame", "Arrow table", "csr_matrix", "tensor")
ALL = {name: make for kind in KINDS for name, make in kind.items() if name in SOME}


@pytest.mark.parametrize("bind", BOUND.values(), ids=BOUND)
@cases(ALL, MODERATE)
async def test_what_is_bound_in_a_function(
    workers: offloop.ParallelSession, make: f.Maker, n_bytes: int, bind: Callable[[Any], Any]
) -> None:
    """What a partial or a closure holds arrives as faithfully as an item."""
    thing = make(n_bytes)
    expected = f.facts(thing)
    for arrived, returned in await workers.run_parallel(bind(thing), range(2)):
        assert arrived == expected
        assert f.facts(returned) == expected


async def test_many_items_of_all_kinds_in_one_map(workers: offloop.ParallelSession) -> None:
    """A list of things of all kinds and sizes arrives item by item as it was."""
    made = [make(n) for make in (*f.ARRAYS.values(), *f.BUFFERS.values()) for n in (f.SMALL, 70 * f.KIB)]
    expected = [f.facts(thing) for thing in made]
    results = await workers.run_parallel(f.examine, made)
    assert [arrived for arrived, _ in results] == expected
    assert [f.facts(returned) for _, returned in results] == expected


# --- arrays that nobody has thought of -------------------------------------------------------------------------------

DTYPES = st.one_of(
    *(hnp.boolean_dtypes(), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes()),
    *(hnp.complex_number_dtypes(), hnp.datetime64_dtypes(endianness="="), hnp.timedelta64_dtypes(endianness="=")),
    *(hnp.byte_string_dtypes(min_len=1, max_len=9), hnp.unicode_string_dtypes(min_len=1, max_len=5)),
    *(hnp.array_dtypes(allow_subarrays=True), hnp.nested_dtypes(max_leaves=4)),
)
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda a: a,
    "transposed": lambda a: a.T,
    "Fortran": np.asfortranarray,
    "reversed": lambda a: a[::-1] if a.ndim else a,
    "strided": lambda a: a[..., ::2] if a.ndim else a,
    "a slice": lambda a: a[1:] if a.ndim else a,
    "axes swapped": lambda a: a.swapaxes(0, -1) if a.ndim else a,
    "broadcast and copied": lambda a: np.broadcast_to(a, (2, *a.shape)).copy("K"),
    "one axis more": lambda a: a[..., None],
}


def exports_buffer(made: Any) -> bool:
    """Whether this is not among what numpy by itself pickles as writable, see READ_ONLY_ARRAYS."""
    try:
        return bool(memoryview(made).contiguous)
    except ValueError:
        return False


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Draw an array of any dtype and shape, small or large, and a view of it."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    made = draw(hnp.arrays(draw(DTYPES), shape))
    if made.nbytes and made.ndim and draw(st.booleans()):
        made = np.repeat(made, WORTH_A_FILE // made.nbytes + draw(st.integers(1, 3)), axis=draw(st.integers(0, made.ndim - 1)))
    for layout in draw(st.lists(st.sampled_from(sorted(LAYOUTS)), max_size=3)):
        made = LAYOUTS[layout](made)
    if made.dtype.byteorder == ">" and not exports_buffer(made):  # one of BIG_ENDIAN_ARRAYS
        made = made.astype(made.dtype.newbyteorder("="))
    if draw(st.booleans()) and exports_buffer(made):
        made = made.view()
        made.flags.writeable = False
    return made


USUAL = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


@settings(max_examples=150, **USUAL)  # type: ignore[arg-type]
@given(made=st.lists(arrays(), min_size=1, max_size=4))
@pytest.mark.fault(61)
async def test_arrays_of_any_dtype_shape_and_strides(workers: offloop.ParallelSession, made: list[Any]) -> None:
    """Whatever numpy can make of a dtype, a shape and strides, it arrives and comes back as it was."""
    expected = [f.facts(thing) for thing in made]
    [(arrived, returned)] = await workers.run_parallel(f.examine, [made])
    assert list(arrived[2:]) == expected
    assert [f.facts(thing) for thing in returned] == expected


@settings(max_examples=60, **USUAL)  # type: ignore[arg-type]
@given(
    dtype=DTYPES,
    count=st.integers(WORTH_A_FILE, WORTH_A_FILE + 200),
    order=st.sampled_from("CF"),
    before=st.lists(st.integers(1, 100_000), max_size=3),
)
async def test_large_arrays_are_aligned(
    workers: offloop.ParallelSession, dtype: Any, count: int, order: Any, before: list[int]
) -> None:
    """The data of a large array begins at a multiple of 64 bytes in a worker, whatever travels before it."""
    made = np.zeros((-(-count // max(1, dtype.itemsize)), 1), dtype=dtype, order=order)
    made.flags.writeable = bool(count % 2) or not exports_buffer(made)
    pieces = [np.zeros(n, dtype="u1") for n in before]
    found = await workers.run(f.examine_all, *pieces, made)
    assert [f.facts(returned) for _, returned in found] == [f.facts(thing) for thing in (*pieces, made)]
    results = await workers.run_parallel(f.address_facts, [*pieces, made])
    assert [arrived for arrived, _ in results] == [f.facts(thing) for thing in (*pieces, made)]
    large = [exports_buffer(thing) and thing.nbytes >= WORTH_A_FILE for thing in (*pieces, made)]
    assert [offset for is_large, (_, offset) in zip(large, results, strict=True) if is_large] == [0] * sum(large)


@pytest.mark.parametrize("dtype", ["M8[ns]", "m8[us]", f.STRUCTURES["nested"]], ids=["dates", "durations", "nested"])
async def test_large_arrays_of_dates_are_aligned(workers: offloop.ParallelSession, dtype: Any) -> None:
    """So does that of dates, also within a structure, which numpy by itself gives out no buffer of."""
    results = await workers.run_parallel(f.address_facts, [f.values(dtype, f.LARGE) for _ in range(8)])
    assert [offset for _, offset in results] == [0] * 8


# --- writing ---------------------------------------------------------------------------------------------------------

WRITABLE: dict[str, f.Maker] = {
    "array": f.floats,
    "Fortran order": lambda n: np.asfortranarray(f.floats(2 * n // 16 * 16).reshape(-1, 2))[:, 0],
    "bytearray": lambda n: bytearray(f.pattern(n)),
    "memoryview": lambda n: memoryview(np.arange(n, dtype="u1") % 120),
    "memmap": f.mapped,
    "frame": f.frame,
    "frame of one block": f.FRAMES["one block"],
    "series in a frame": lambda n: f.FRAMES["series"](n).to_frame(),
}
EACH_PART_LARGE = WRITABLE | {"frame": lambda n: f.frame(max(n, 24 * WORTH_A_FILE))}
WAYS: dict[str, Callable[[offloop.ParallelSession, Any], Any]] = {
    "item": lambda session, thing: session.run_parallel(f.overwrite, [thing]),
    "argument": lambda session, thing: session.run(f.overwrite, thing),
    "partial": lambda session, thing: session.run_parallel(partial(f.overwrite_bound, thing), range(4), chunk_size=1),
    "closure": lambda session, thing: session.run_parallel(f.overwrite_closed(thing), range(4), chunk_size=1),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@cases(WRITABLE, MODERATE)
@pytest.mark.fault(63, 64)
async def test_what_a_worker_writes_is_not_seen_here(
    workers: offloop.ParallelSession, make: f.Maker, n_bytes: int, way: Callable[[offloop.ParallelSession, Any], Any]
) -> None:
    """A worker may write into whatever it gets, and nothing changes in the process that sent it."""
    thing = make(n_bytes)
    before = f.facts(thing)
    await way(workers, thing)
    assert f.facts(thing) == before


@pytest.mark.parametrize("chunk_size", [8, None], ids=["chunks of 8", "chunks as decided"])
@pytest.mark.parametrize("in_tuple", [False, True], ids=["alone", "in a tuple"])
@cases(EACH_PART_LARGE, MODERATE)
@pytest.mark.fault(63)
async def test_what_an_item_writes_is_not_seen_by_another(
    workers: offloop.ParallelSession, make: f.Maker, n_bytes: int, in_tuple: bool, chunk_size: int | None
) -> None:
    """A large thing that stands in several items is in each as it was sent, though every one writes into it."""
    thing = make(n_bytes)
    first = f.overwrite(make(n_bytes))
    items = [(thing, i) if in_tuple else thing for i in range(16)]
    assert await workers.run_parallel(f.overwrite, items, chunk_size=chunk_size) == [first] * 16


@pytest.mark.fault(63)
async def test_what_a_call_writes_is_not_seen_by_the_next(workers: offloop.ParallelSession) -> None:
    """A thing that is sent again is again as it is here, though a worker wrote into it."""
    thing = f.floats(f.LARGE)
    thing[0] = 5
    for _ in range(6):
        assert await workers.run(f.overwrite, thing) == 5
    thing[0] = 6
    assert await workers.run(f.overwrite, thing) == 6


# --- results ---------------------------------------------------------------------------------------------------------


@cases(WRITABLE, TWO)
async def test_results_are_writable(workers: offloop.ParallelSession, make: f.Maker, n_bytes: int) -> None:
    """A result can be written into as what was returned could be."""
    [returned] = await workers.run_parallel(w.echo, [make(n_bytes)])
    first = f.overwrite(make(n_bytes))
    assert f.overwrite(returned) == first
    assert f.overwrite(returned) == 9


@pytest.mark.parametrize("n_bytes", f.SIZES.values(), ids=f.SIZES)
@pytest.mark.fault(65)
async def test_results_outlive_their_session(anyio_backend: str, n_bytes: int) -> None:
    """Results that are kept after their session is closed are still what they were, and can be written into."""
    made = [make(n_bytes) for make in WRITABLE.values()]
    expected = [f.facts(thing) for thing in made]
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        results = await session.run_parallel(w.echo, [*made, *made])
        alone = await session.run(w.echo, made[0])
    assert [f.facts(result) for result in (*results, alone)] == [*expected, *expected, expected[0]]
    for result in (*results, alone):
        f.overwrite(result)
        assert f.overwrite(result) == 9
    assert [f.facts(thing) for thing in made] == expected


@pytest.mark.parametrize("chunk_size", [1, 8, None], ids=["chunks of 1", "chunks of 8", "chunks as decided"])
@pytest.mark.parametrize("n_bytes", f.SIZES.values(), ids=f.SIZES)
async def test_results_are_independent(workers: offloop.ParallelSession, n_bytes: int, chunk_size: int | None) -> None:
    """Writing into one result changes no other, also where the function returned one array each time."""
    results = await workers.run_parallel(partial(f.kept_of, n_bytes), range(16), chunk_size=chunk_size)
    for number, result in enumerate(results):
        assert not result.any()
        result[:] = number + 1
    assert [(result[0], result[-1]) for result in results] == [(i, i) for i in range(1, 17)]


@pytest.mark.parametrize("n_bytes", f.SIZES.values(), ids=f.SIZES)
async def test_results_of_calls_are_independent(workers: offloop.ParallelSession, n_bytes: int) -> None:
    """Writing into the result of a call changes neither that of another nor what the worker keeps."""
    first = await workers.run(f.kept, n_bytes)
    first[:] = 1
    second = await workers.run(f.kept, n_bytes)
    assert not second.any()
    second[:] = 2
    assert first.all()
    assert first[-1] == 1


# --- identity --------------------------------------------------------------------------------------------------------

SAME: dict[str, f.Maker] = {
    "array": f.floats,
    "strided": f.ARRAYS["strided"],
    "objects": f.objects,
    "masked": f.masked,
    "bytes": f.pattern,
    "bytearray": WRITABLE["bytearray"],
    "memoryview": WRITABLE["memoryview"],
    "frame": f.FRAMES["mixed"],
    "Arrow table": f.arrow_table,
    "csr_matrix": f.SPARSE["csr_matrix"],
}


@cases(SAME, ENDS)
async def test_one_object_in_an_item_is_one_object_there(
    workers: offloop.ParallelSession, make: f.Maker, n_bytes: int
) -> None:
    """What stands twice in an item arrives as one object, in a worker and back here."""
    thing = make(n_bytes)
    [(is_one, returned)] = await workers.run_parallel(f.is_pair_of_one, [(thing, thing)])
    assert is_one
    assert returned[0] is returned[1]
    assert await workers.run(f.are_one, thing, thing)


@cases(SAME, ENDS)
async def test_two_objects_in_an_item_are_two_there(
    workers: offloop.ParallelSession, make: f.Maker, n_bytes: int
) -> None:
    """What is equal and not the same arrives as two objects."""
    [(is_one, returned)] = await workers.run_parallel(f.is_pair_of_one, [(make(n_bytes), make(n_bytes))])
    assert not is_one
    assert returned[0] is not returned[1]
