"""combining.py: results of blocks put together."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import tables
from offloop.combining import combine
from offloop.errors import BatchTypeError
from offloop.worker.rows import count_rows, cut


class Pair(NamedTuple):
    """A tuple with names."""

    left: Any
    right: Any


@pytest.mark.parametrize("kind", tables.KINDS)
def test_blocks_become_the_whole(kind: str) -> None:
    """Blocks of anything with rows, put together, are what they were cut from."""
    rows = tables.KINDS[kind](23)
    blocks = [cut(rows, start, min(start + 5, 23)) for start in range(0, 23, 5)]
    assert tables.are_equal(combine(blocks, "app.fn"), rows)


@given(st.sampled_from(sorted(tables.KINDS)), st.integers(1, 30), st.data())
def test_bounds_do_not_matter(kind: str, n_rows: int, data: st.DataObject) -> None:
    """However rows are cut into blocks, together they are the same; empty blocks at either end included."""
    rows = tables.KINDS[kind](n_rows)
    bounds = [0, *sorted(data.draw(st.sets(st.integers(0, n_rows)))), n_rows]
    blocks = [cut(rows, start, stop) for start, stop in pairwise(bounds)]
    assert tables.are_equal(combine(blocks, "app.fn"), rows)


def test_a_single_block_is_not_copied() -> None:
    """What is one block already is returned as it is."""
    rows = np.arange(3)
    assert combine([rows], "app.fn") is rows


def test_tuples_are_combined_by_their_elements() -> None:
    """A tuple of results, also one with names or one in another, is combined element by element."""
    blocks = [Pair(np.arange(n), ([n] * n, pd.Series(range(n)))) for n in (2, 3)]
    whole = combine(blocks, "app.fn")
    assert type(whole) is Pair
    assert whole.left.tolist() == [0, 1, 0, 1, 2]
    assert whole.right[0] == [2, 2, 3, 3, 3]
    assert count_rows(whole.right[1]) == 5


def test_an_index_that_fn_made_anew_goes_on() -> None:
    """Frames that begin at 0 in every block become one that counts on, as it would be for all rows at once."""
    blocks = [pd.DataFrame({"p": np.zeros(n)}) for n in (3, 2)]
    assert combine(blocks, "app.fn").index.equals(pd.RangeIndex(5))


def test_an_index_of_the_rows_is_kept() -> None:
    """Frames with the index of their rows keep it, whatever it is, a range or one with repetitions."""
    for index in (pd.RangeIndex(10, 20), pd.Index([0, 1] * 5), pd.Index(range(10), name="n")):
        frame = pd.DataFrame({"x": np.arange(10)}, index=index)
        assert tables.are_equal(combine([frame.iloc[:4], frame.iloc[4:]], "app.fn"), frame)


def test_dtypes_are_joined() -> None:
    """Blocks of different dtypes take the one that holds both, as the library has it."""
    assert combine([np.array([1]), np.array([1.5])], "app.fn").tolist() == [1.0, 1.5]
    assert combine([np.array(["a"]), np.array(["long"])], "app.fn").tolist() == ["a", "long"]
    assert combine([pl.DataFrame({"x": [None]}), pl.DataFrame({"x": [1]})], "app.fn")["x"].to_list() == [None, 1]
    assert combine([pa.table({"x": pa.nulls(1)}), pa.table({"x": [1]})], "app.fn")["x"].to_pylist() == [None, 1]


@pytest.mark.parametrize(
    "blocks",
    [
        [np.zeros(3), [1, 2]],
        [pd.DataFrame({"a": [1]}), pd.Series([1])],
        [(np.zeros(3),), (np.zeros(3), np.zeros(3))],
        [(np.zeros(3),), np.zeros(3)],
        [np.zeros((3, 2)), np.zeros((3, 4))],
        [pa.table({"a": [1]}), pa.table({"a": ["x"]})],
        [pl.DataFrame({"a": [1]}), pl.DataFrame({"b": [1]})],
        [sp.coo_array(np.arange(3)), sp.coo_array(np.arange(3))],
    ],
    ids=lambda blocks: " and ".join(type(block).__name__ for block in blocks),
)
def test_what_does_not_fit_together_is_an_error(blocks: list[Any]) -> None:
    """Blocks of different types, columns or lengths of tuples are one typed error that names fn and what it returned."""
    with pytest.raises(BatchTypeError, match=rf"(?s)app\.fn.*{type(blocks[0]).__name__}"):
        combine(blocks, "app.fn")
