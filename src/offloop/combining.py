"""Combining the results of blocks: concatenated in order, by their type."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import chain
from typing import Any

from .errors import BatchTypeError
from .worker.rows import describe, library_of


def combine(blocks: list[Any], function: str) -> Any:
    """Return the results of blocks as one: what fn would have returned for all rows at once.

    A single block is returned as it is. Whatever is concatenated is copied once, in the time that memory takes.

    Args:
        blocks: The results, in order; at least one.
        function: The function's name, for errors.

    Raises:
        BatchTypeError: They are of different types, or their library refuses.
    """
    first = blocks[0]
    if len(blocks) == 1:
        return first
    if isinstance(first, tuple):
        return _combine_tuples(blocks, function)
    kind = _kind(first)
    odd = next((block for block in blocks if _kind(block) != kind), first)
    concatenate = _BY_KIND.get(kind)
    if odd is not first or concatenate is None:
        found = describe(first) if odd is first else f"{describe(first)} and {describe(odd)}"
        raise BatchTypeError(function, found, "for which there is no common way")
    try:
        return concatenate(blocks)
    except Exception as error:  # the library's own, of shapes, columns or dtypes that don't fit
        raise BatchTypeError(function, describe(first), f"whose blocks don't fit together ({error})") from error


def _combine_tuples(blocks: list[Any], function: str) -> Any:
    first = blocks[0]
    if not all(isinstance(block, tuple) and len(block) == len(first) for block in blocks):
        raise BatchTypeError(function, "tuple", "which is not equally long for all blocks")
    parts = [combine(list(part), function) for part in zip(*blocks, strict=True)]
    make: Callable[[list[Any]], Any] = getattr(type(first), "_make", tuple)
    return make(parts)


def _kind(value: object) -> str:
    """Return which way of concatenating a value takes; empty if there is none."""
    if isinstance(value, list):
        return "list"
    library = library_of(value)
    for name in _CLASSES.get(library, ()):
        kind = getattr(sys.modules[library], name, None)
        if kind is not None and isinstance(value, kind):
            return f"{library}.{name}"
    if library == "pandas":  # what Series and Index are made of
        return "pandas.array"
    return "scipy" if library == "scipy" and getattr(value, "ndim", 0) == 2 else ""


_CLASSES = {
    "numpy": ("ndarray",),
    "pandas": ("DataFrame", "Series", "Index"),
    "polars": ("DataFrame", "Series"),
    "pyarrow": ("Table", "RecordBatch", "ChunkedArray", "Array"),
    "torch": ("Tensor",),
}


def _numpy(blocks: list[Any]) -> Any:
    numpy: Any = sys.modules["numpy"]
    if any(isinstance(block, numpy.ma.MaskedArray) for block in blocks):
        return numpy.ma.concatenate(blocks)
    whole = numpy.concatenate(blocks)
    kind = type(blocks[0])
    return whole.view(kind) if kind is numpy.recarray else whole  # which numpy forgets


def _pandas(blocks: list[Any]) -> Any:
    """Concatenate, with the index that the blocks brought.

    Where each begins anew at 0, fn has made them so: of all rows at once it would have made one range.
    """
    pandas: Any = sys.modules["pandas"]
    return pandas.concat(blocks, ignore_index=all(_is_fresh(block.index, pandas) for block in blocks))


def _is_fresh(index: Any, pandas: Any) -> bool:
    return type(index) is pandas.RangeIndex and index.name is None and (index.start, index.step) == (0, 1)


def _pandas_arrays(blocks: list[Any]) -> Any:
    pandas: Any = sys.modules["pandas"]
    return pandas.concat([pandas.Series(block, copy=False) for block in blocks], ignore_index=True).array


def _polars_frames(blocks: list[Any]) -> Any:
    polars: Any = sys.modules["polars"]
    return polars.concat(blocks, how="vertical_relaxed")  # a column of nothing but nulls takes the others' type


def _polars_series(blocks: list[Any]) -> Any:
    polars: Any = sys.modules["polars"]
    return polars.concat(blocks)


def _arrow_tables(blocks: list[Any]) -> Any:
    pyarrow: Any = sys.modules["pyarrow"]
    return pyarrow.concat_tables(blocks, promote_options="default")


def _arrow_batches(blocks: list[Any]) -> Any:
    pyarrow: Any = sys.modules["pyarrow"]
    whole = pyarrow.Table.from_batches(blocks).combine_chunks().to_batches()
    return whole[0] if whole else blocks[0]


def _arrow_arrays(blocks: list[Any]) -> Any:
    pyarrow: Any = sys.modules["pyarrow"]
    return pyarrow.concat_arrays(blocks)


def _arrow_chunked(blocks: list[Any]) -> Any:
    pyarrow: Any = sys.modules["pyarrow"]
    return pyarrow.chunked_array([chunk for block in blocks for chunk in block.chunks], type=blocks[0].type)


def _scipy(blocks: list[Any]) -> Any:
    sparse: Any = sys.modules["scipy.sparse"]
    return sparse.vstack(blocks, format=blocks[0].format)


def _torch(blocks: list[Any]) -> Any:
    torch: Any = sys.modules["torch"]
    return torch.cat(blocks)


_BY_KIND: dict[str, Callable[[list[Any]], Any]] = {
    "list": lambda blocks: list(chain.from_iterable(blocks)),
    "numpy.ndarray": _numpy,
    "pandas.DataFrame": _pandas,
    "pandas.Series": _pandas,
    "pandas.Index": lambda blocks: blocks[0].append(blocks[1:]),
    "pandas.array": _pandas_arrays,
    "polars.DataFrame": _polars_frames,
    "polars.Series": _polars_series,
    "pyarrow.Table": _arrow_tables,
    "pyarrow.RecordBatch": _arrow_batches,
    "pyarrow.ChunkedArray": _arrow_chunked,
    "pyarrow.Array": _arrow_arrays,
    "scipy": _scipy,
    "torch.Tensor": _torch,
}
