"""Runs over blocks of rows: one result for all rows, whatever they are and wherever blocks execute."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.random import SeedSequence, default_rng

import offloop
import tables
import workloads as w
from offloop import BatchLengthError, BatchTypeError, Reason, SettingError, SettingTypeError, Strategy
from offloop.errors import AsyncFunctionError

pytestmark = pytest.mark.anyio


# --- all kinds of rows -----------------------------------------------------------------------------------------------


@pytest.mark.on_workers
@pytest.mark.one_loop
@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("kind", tables.KINDS)
async def test_all_rows_come_back_in_order(session: offloop.ParallelSession, kind: str, batch_size: int | None) -> None:
    """Rows of any kind, cut into blocks and put together again, are what they were: type, dtype, index and order."""
    rows = tables.KINDS[kind](40)
    assert tables.are_equal(await session.run_batches(w.echo, rows, batch_size=batch_size), rows)


@pytest.mark.on_workers
@pytest.mark.one_loop
@pytest.mark.parametrize("kind", tables.INPUTS)
async def test_blocks_are_of_the_type_of_the_rows(session: offloop.ParallelSession, kind: str) -> None:
    """fn gets blocks of the type that it would get the whole of."""
    rows = tables.INPUTS[kind](20)
    blocks = await session.run_batches(w.echo, rows, batch_size=8, combine="list")
    assert [type(block) for block in blocks] == [type(rows)] * 3


@pytest.mark.on_workers
@pytest.mark.one_loop
@pytest.mark.parametrize("kind", ["coo", "csc", "lil", "dok", "bsr", "dia"])
async def test_sparse_matrices_of_any_format_have_rows(session: offloop.ParallelSession, kind: str) -> None:
    """A sparse matrix that has no rows to cut out is converted to one that has."""
    rows = sp.random_array((40, 6), density=0.3, format=kind, random_state=1)
    doubled = await session.run_batches(w.double, rows, batch_size=16)
    assert (doubled != 2 * rows.tocsr()).nnz == 0


async def test_a_block_is_a_view_in_its_own_order(session: offloop.ParallelSession) -> None:
    """A block of a Fortran-ordered array is a view of the one copy that its process has."""
    rows = np.asfortranarray(np.zeros((300, 1)))
    assert set(await session.run_batches(w.layout_of, rows)) == {(np.ndarray, True, True)}


async def test_a_frame_is_worked_on_like_the_whole(session: offloop.ParallelSession) -> None:
    """fn on blocks gives what fn on the whole frame gives, index included; as does one that makes frames anew."""
    frame = tables.frame(700)[["x"]]
    assert tables.are_equal(await session.run_batches(w.double, frame, batch_size=64), frame * 2)
    anew: Callable[[Any], Any] = lambda block: pd.DataFrame({"p": block["x"].to_numpy()})  # noqa: E731
    assert tables.are_equal(await session.run_batches(anew, frame, batch_size=64), anew(frame))


async def test_several_inputs_go_side_by_side(session: offloop.ParallelSession) -> None:
    """fn gets the same rows of all inputs, whatever their types."""
    X, y, names = np.arange(100.0).reshape(50, 2), pd.Series(range(50)), [str(i) for i in range(50)]
    rows = await session.run_batches(lambda a, b, c: list(zip(a[:, 0], b, c, strict=True)), X, y, names, batch_size=8)
    assert rows == [(2.0 * i, i, str(i)) for i in range(50)]


async def test_tuples_are_put_together_by_element(session: offloop.ParallelSession) -> None:
    """A function of several results gives several wholes."""
    X = np.arange(100)
    doubled, texts = await session.run_batches(lambda x: (2 * x, [str(i) for i in x]), X, batch_size=9)
    assert (doubled == 2 * X).all()
    assert texts == [str(i) for i in X]


# --- blocks ----------------------------------------------------------------------------------------------------------


async def test_blocks_have_the_size_asked_for(session: offloop.ParallelSession) -> None:
    """Under batch_size all blocks have exactly so many rows, only the last one fewer."""
    blocks = await session.run_batches(w.echo, range(100), batch_size=np.int64(30), combine="list")
    assert blocks == [range(30), range(30, 60), range(60, 90), range(90, 100)]


async def test_each_row_is_in_one_block(session: offloop.ParallelSession) -> None:
    """Blocks that follow measured time cover the rows once, in order."""
    for _ in range(3):
        blocks = await session.run_batches(w.echo, range(5000), combine="list")
        assert [row for block in blocks for row in block] == [*range(5000)]


async def test_the_size_of_chunks_is_not_that_of_blocks(anyio_backend: object) -> None:
    """A session's chunk size, made for items, does not cut rows to pieces."""
    async with offloop.ParallelSession(strategy="serial", chunk_size=1) as session:
        blocks = await session.run_batches(w.echo, range(2000), combine="list")
    assert len(blocks[0]) >= 256


@pytest.mark.on_workers
@pytest.mark.one_loop
@pytest.mark.parametrize("kind", tables.KINDS)
async def test_no_rows_are_one_empty_block(session: offloop.ParallelSession, kind: str) -> None:
    """Without rows fn is called with none, so that the result has the right type and columns."""
    rows = tables.KINDS[kind](0)
    assert tables.are_equal(await session.run_batches(w.echo, rows), rows)


async def test_no_rows_are_no_results(session: offloop.ParallelSession) -> None:
    """Without rows there is no block, so the list of results is empty."""
    assert await session.run_batches(w.double, np.zeros((0, 3)), combine="list") == []


async def test_no_rows_are_executed_where_they_should_be(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """The empty block as well never executes in this process if that is not wanted."""
    path = tmp_path / "pids"
    assert await workers.run_batches(partial(w.log_pid, str(path)), []) == []
    assert {*map(int, w.lines(path))} <= {*workers.statistics().workers}
    assert workers.decisions[-1].strategy is Strategy.PROCESSES


# --- seeds -----------------------------------------------------------------------------------------------------------


def expected(X: Any, seed: int, size: int) -> Any:
    """Return what `w.noisy` gives for blocks of a size."""
    starts = range(0, len(X), size)
    children = [SeedSequence(seed, spawn_key=(index,)) for index in range(len(starts))]
    return np.concatenate([w.noisy(X[i : i + size], rng=default_rng(c)) for i, c in zip(starts, children, strict=True)])


@pytest.mark.parametrize("batch_size", [None, 50])
@pytest.mark.parametrize("workers", [None, 1, -1])
async def test_seeded_results_depend_on_nothing_else(
    session: offloop.ParallelSession, workers: int | None, batch_size: int | None
) -> None:
    """Bit for bit the same for every strategy and worker count, also when costs are known."""
    X = np.arange(2000.0).reshape(1000, 2)
    for _ in range(2):
        result = await session.run_batches(w.noisy, X, seed=3, workers=workers, batch_size=batch_size)
        assert (result == expected(X, 3, batch_size or 256)).all()


async def test_auto_draws_the_same(anyio_backend: object) -> None:
    """Blocks that are measured first draw what they would draw anywhere; several inputs and a lambda too."""
    X = np.arange(1000.0)
    async with offloop.ParallelSession() as session:
        assert (await session.run_batches(w.noisy, X, seed=3) == expected(X, 3, 256)).all()
        both = await session.run_batches(w.noisy_pair, X, np.zeros(1000), seed=3)
        assert (both == expected(X, 3, 256)).all()
        assert (await session.run_batches(lambda x, rng: w.noisy(x, rng=rng), X, seed=3) == both).all()


async def test_no_rows_draw_nothing(session: offloop.ParallelSession) -> None:
    """The empty block gets a generator as well."""
    assert (await session.run_batches(w.noisy, np.zeros(0), seed=1)).shape == (0,)


# --- errors ----------------------------------------------------------------------------------------------------------


async def test_a_wrong_number_of_rows_is_an_error(session: offloop.ParallelSession) -> None:
    """A function that drops rows gets an error that says both numbers, unless results are a list."""
    X = np.arange(100)
    odd = lambda block: block[::2]  # noqa: E731
    with pytest.raises(BatchLengthError, match="returned 10 rows for a block of 20"):
        await session.run_batches(odd, X, batch_size=20)
    assert [len(block) for block in await session.run_batches(odd, X, batch_size=20, combine="list")] == [10] * 5


@pytest.mark.one_loop
@pytest.mark.parametrize("value", [None, 3.0, np.float64(3), "text", {"a": 1}])
async def test_what_has_no_rows_is_an_error(session: offloop.ParallelSession, value: Any) -> None:
    """A function that aggregates gets an error that names the type and the way out, which gives one result a block."""
    with pytest.raises(BatchTypeError, match=r'combine="list"'):
        await session.run_batches(lambda block: value, range(100))
    assert await session.run_batches(lambda block: value, range(100), combine="list", batch_size=50) == [value] * 2


async def test_results_that_do_not_fit_are_an_error(session: offloop.ParallelSession) -> None:
    """Blocks whose results are of different types are an error that names both."""
    mixed = lambda block: [*block] if block[0] else np.asarray(block)  # noqa: E731
    with pytest.raises(BatchTypeError, match="ndarray and list"):
        await session.run_batches(mixed, range(100), batch_size=50)


async def test_a_failing_block_raises(session: offloop.ParallelSession) -> None:
    """What fn raises arrives as itself, with the index of the block in its notes."""
    with pytest.raises(ZeroDivisionError) as found:
        await session.run_batches(partial(w.fail_at_row, 45), np.arange(100), batch_size=20)
    assert "items[2]" in found.value.__notes__[0]


async def test_failures_may_be_collected_or_grouped(session: offloop.ParallelSession) -> None:
    """All other blocks run: failures stand in the list, or come as a group, also where results are concatenated."""
    fn = partial(w.fail_at_row, 45)
    entries = await session.run_batches(fn, range(100), batch_size=20, combine="list", on_error="collect")
    assert [type(entry) for entry in entries] == [range, range, ZeroDivisionError, range, range]
    with pytest.raises(ExceptionGroup) as found:
        await session.run_batches(fn, list(range(100)), batch_size=20, on_error="group")
    assert len(found.value.exceptions) == 1


@pytest.mark.one_loop
@pytest.mark.parametrize(
    "wrong", [3, None, {1: 2}, {3}, "text", np.array(3), (i for i in range(3)), object()], ids=lambda wrong: type(wrong).__name__
)
async def test_what_has_no_rows_is_refused(session: offloop.ParallelSession, wrong: Any) -> None:
    """What isn't made of rows is a TypeError that says which input it is and what would do."""
    with pytest.raises(TypeError, match=f"input 0 must have rows.*not {type(wrong).__name__}"):
        await session.run_batches(w.double, wrong)
    with pytest.raises(TypeError, match="input 1 must have rows"):
        await session.run_batches(w.add, [1, 2, 3], wrong)


async def test_inputs_of_different_lengths_are_refused(session: offloop.ParallelSession) -> None:
    """Inputs that can't be row-aligned are a ValueError with both lengths."""
    with pytest.raises(ValueError, match="input 0 has 100, input 1 has 99"):
        await session.run_batches(w.add, np.zeros((100, 2)), range(99))


@pytest.mark.one_loop
@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        *(({"batch_size": size}, SettingError, f"batch_size={size!r}") for size in (0, -1)),
        *(({"batch_size": size}, SettingTypeError, "batch_size=") for size in (2.5, True, "x", float("nan"))),
        ({"combine": "sum"}, SettingError, "combine='sum'"),
        ({"combine": None}, SettingTypeError, "combine=None"),
        ({"on_error": "collect"}, SettingError, 'combine="list"'),
        ({"chunk_size": 3}, SettingTypeError, "batch_size"),
    ],
)
async def test_options_that_cannot_work_are_refused(
    session: offloop.ParallelSession, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    """An option that can't work, by itself or with another, is refused at once and by its name."""
    with pytest.raises(kind, match=text):
        await session.run_batches(w.echo, [1], **options)


async def test_async_functions_are_refused(session: offloop.ParallelSession) -> None:
    """A coroutine can't be awaited in a worker, whether that can be seen before or only from what fn returns."""
    with pytest.raises(AsyncFunctionError):
        await session.run_batches(w.async_double, [1, 2])
    with pytest.raises(AsyncFunctionError):
        await session.run_batches(lambda block: w.async_double(block), [1, 2])


# --- running ---------------------------------------------------------------------------------------------------------


async def test_a_cancelled_run_has_stopped_when_it_returns(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """Blocks under way stop at their checkpoint and no other begins; the session is usable after."""
    path = f"{tmp_path}/run"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(session.run_batches, partial(w.loop_until_cancelled_as, path), range(10_000), batch_size=10))
        await w.appears(f"{path}.began")
        tasks.cancel_scope.cancel()
    assert sorted(w.lines(Path(f"{path}.began"))) == sorted(w.lines(Path(f"{path}.stopped")))
    assert await session.run_batches(w.double, np.arange(3)) is not None


async def test_each_block_executes_once(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """No row is executed twice, however blocks travel."""
    path = tmp_path / "blocks"
    await session.run_batches(partial(w.log_span, str(path)), range(1000), batch_size=7, combine="list")
    spans = sorted(tuple(map(int, line.split("-"))) for line in w.lines(path))
    assert spans == [(start, min(start + 6, 999)) for start in range(0, 1000, 7)]


async def test_a_crash_costs_one_block(anyio_backend: object, tmp_path: Path) -> None:
    """A block whose worker dies runs once more, and the rows are complete."""
    fn = partial(w.die_once_in_block, str(tmp_path / "died"))
    async with offloop.ParallelSession(workers=2, strategy="processes") as session:
        assert (await session.run_batches(fn, np.arange(400), batch_size=50) == np.arange(400)).all()
        assert session.statistics().retried == 1


async def test_records_count_rows(anyio_backend: object) -> None:
    """The decision and its event have rows, columns and seconds per row; a second call knows what a row costs."""
    X = np.arange(4000.0).reshape(1000, 4)
    async with offloop.ParallelSession() as session:
        with w.heard("parallel.decision") as told:
            await session.run_batches(w.double, X)
            await session.run_batches(w.double, X, batch_size=100)
        first, second = told[0], told[-1]
        assert (first.n_items, first.n_features, first.chunk_size) == (1000, 4, None)
        assert (second.n_items, second.n_features, second.chunk_size) == (1000, 4, 100)
        assert second.reason is not Reason.MEASURING
        assert second.item_s is not None
        assert 1000 * second.item_s < 1.0
        known = session.decisions[-1]
        assert (known.n_items, known.n_features, known.item_s) == (1000, 4, second.item_s)


async def test_what_a_row_costs_is_known_for_any_number_of_rows(anyio_backend: object) -> None:
    """What a row costs is known for other numbers of rows too."""
    async with offloop.ParallelSession() as session:
        await session.run_batches(w.double, np.zeros((300, 4)))
        await session.run_batches(w.double, np.zeros((9000, 4)))
        assert session.decisions[-1].reason is not Reason.MEASURING


async def test_a_hint_stands_in_for_a_measurement(anyio_backend: object) -> None:
    """With item_cost_s, here of a row, nothing is measured first and the first block follows time."""
    async with offloop.ParallelSession(strategy="serial") as session:
        blocks = await session.run_batches(w.echo, range(10_000), item_cost_s=1e-3, combine="list")
        assert len(blocks[0]) <= 45
        assert session.decisions[0].item_s == 1e-3


async def test_the_module_has_it_too(anyio_backend: object) -> None:
    """The function of the module runs on the process-wide session."""
    X = np.arange(1000)
    try:
        assert (await offloop.run_batches(w.double, X) == 2 * X).all()
    finally:
        await offloop.close_default_session()
