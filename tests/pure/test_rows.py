"""worker/rows.py: what has rows, and how blocks of them are cut out."""

from __future__ import annotations

import pickle
from collections import UserList
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import tables
from offloop.errors import AsyncFunctionError, BatchLengthError, BatchTypeError
from offloop.functions import check_function
from offloop.wire.pickling import fingerprint, function_name
from offloop.worker.rows import Rows, count_rows, cut


def echo(*blocks: Any) -> Any:
    """Return a block, or several as a tuple."""
    return blocks[0] if len(blocks) == 1 else blocks


@pytest.mark.parametrize("kind", tables.INPUTS)
def test_a_block_is_what_a_slice_is(kind: str) -> None:
    """A block has the rows from its first to its last, and is of the type of the whole."""
    rows = tables.INPUTS[kind](20)
    assert count_rows(rows) == 20
    block = cut(rows, 5, 12)
    assert count_rows(block) == 7
    assert tables.are_equal(cut(block, 1, 3), cut(rows, 6, 8))
    assert type(block) is type(rows)


@pytest.mark.parametrize("kind", ["ndarray", "ndarray, Fortran order", "ndarray, strided"])
def test_a_block_of_an_array_is_a_view(kind: str) -> None:
    """Cutting out of an array copies nothing."""
    rows = tables.INPUTS[kind](20)
    assert np.shares_memory(cut(rows, 5, 12), rows)


def test_an_unusual_sequence_gives_lists() -> None:
    """A sequence that may not know slices is asked for one row after another."""
    assert cut(UserList("abcdef"), 1, 3) == ["b", "c"]


@pytest.mark.parametrize(
    "value",
    [
        *(None, 3, 2.5, "text", {1: 2}, {3}, object(), iter([1]), (i for i in range(3)), range),
        *(np.float64(1), np.array(3), np.ma.masked, pd.Timestamp(0), pa.scalar([1, 2]), pa.py_buffer(b"12"), pl.LazyFrame()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_made_of_rows_has_none(value: Any) -> None:
    """Scalars, texts, mappings, sets, iterators and the like have no rows."""
    assert count_rows(value) is None


@given(st.integers(1, 40), st.data())
def test_spans_cover_their_rows(n_rows: int, data: st.DataObject) -> None:
    """Any blocks that follow each other give, one after another, the rows of the whole."""
    bounds = sorted(data.draw(st.sets(st.integers(1, n_rows))) | {0, n_rows})
    rows = Rows(echo, (np.arange(n_rows), list(range(n_rows))), is_checked=True)
    blocks = [rows(span) for span in pairwise(bounds)]
    assert [row for block, _ in blocks for row in block] == [row for _, block in blocks for row in block] == [*range(n_rows)]


def returning(value: Any) -> Rows:
    """Return a function of blocks of five that returns always this."""
    return Rows(lambda block: value, (np.arange(10),), is_checked=True)


@pytest.mark.parametrize(
    "value", [np.zeros(4), np.zeros((6, 5)), [1], [], (np.zeros(5), [1, 2]), ((np.zeros(5), np.zeros(3)),), sp.csr_array((1, 5))]
)
def test_a_wrong_number_of_rows_is_an_error(value: Any) -> None:
    """fn that returns another number of rows gets an error with both numbers, its name, and what else there is."""
    with pytest.raises(BatchLengthError, match=r"(?s)^fn returned \d rows? for a block of 5 .*<lambda>.*combine=\"list\"") as found:
        returning(value)((0, 5))
    assert found.value.n_rows == 5
    assert found.value.n_returned != 5


@pytest.mark.parametrize("value", [None, 3, np.float64(1), np.array(3), "fives", {}, {1: 2}, (), (np.zeros(5), None), range(5)])
def test_what_cannot_be_concatenated_is_an_error(value: Any) -> None:
    """What has no rows, or is of no kind that can be put together, is an error that says so."""
    with pytest.raises(BatchTypeError, match=r"(?s)can't be concatenated.*<lambda>.*combine=\"list\""):
        returning(value)((0, 5))


def test_a_list_is_not_checked() -> None:
    """Where results are not concatenated they may be anything."""
    assert Rows(lambda block: None, (np.arange(10),), is_checked=False)((0, 5)) is None


def test_fn_is_looked_through() -> None:
    """Names, fingerprints and checks see the user's function, not what calls it."""
    rows = Rows(echo, ([1],), is_checked=True)
    assert function_name(rows) == function_name(echo)
    assert fingerprint(rows) == fingerprint(echo)

    async def later(block: Any) -> Any:
        return block

    with pytest.raises(AsyncFunctionError):
        check_function(Rows(later, ([1],), is_checked=True))


def test_a_copy_from_elsewhere_does_the_same() -> None:
    """Pickled and unpickled, as in a worker, it cuts and checks alike."""
    rows = pickle.loads(pickle.dumps(Rows(echo, (np.arange(10), list(range(10))), is_checked=True)))
    assert tables.are_equal(rows((2, 4)), (np.array([2, 3]), [2, 3]))
