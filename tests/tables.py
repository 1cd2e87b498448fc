"""Data with rows, of every kind that `run_batches` takes; and whether two of them are equal."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import scipy.sparse as sp

pl.concat([pl.DataFrame({"x": [1]})] * 2, how="vertical_relaxed")  # polars keeps open what its first query has opened


def matrix(n: int) -> Any:
    return np.arange(3.0 * n).reshape(n, 3)


def frame(n: int) -> Any:
    names = [f"row {i}" for i in range(n)]
    return pd.DataFrame({"x": np.arange(float(n)), "name": names}, index=pd.Index([7 * i for i in range(n)], name="at"))


def records(n: int) -> Any:
    return np.array([(i, i / 2) for i in range(n)], dtype=[("a", "i8"), ("b", "f8")])


def table(n: int) -> Any:
    return pa.table({"x": pa.array(np.arange(float(n))), "name": pa.array([f"row {i}" for i in range(n)], pa.string())})


def batch(n: int) -> Any:
    return pa.record_batch({"x": pa.array(np.arange(float(n)))})


KINDS: dict[str, Callable[[int], Any]] = {
    "ndarray": matrix,
    "ndarray, one-dimensional": lambda n: np.arange(n),
    "ndarray, three-dimensional": lambda n: np.arange(4 * n).reshape(n, 2, 2),
    "ndarray, Fortran order": lambda n: np.asfortranarray(matrix(n)),
    "ndarray, strided": lambda n: matrix(2 * n)[::2, ::-1],
    "ndarray, objects": lambda n: np.array([{"i": i} for i in range(n)] + [None], dtype=object)[:n],
    "ndarray, structured": records,
    "ndarray, texts": lambda n: np.array(["x" * (1 + i % 9) for i in range(n)], dtype="U9"),
    "recarray": lambda n: records(n).view(np.recarray),
    "matrix": lambda n: matrix(n).view(np.matrix),
    "masked array": lambda n: np.ma.masked_array(matrix(n), mask=matrix(n) % 5 == 0),
    "csr array": lambda n: sp.csr_array(matrix(n)),
    "csr matrix": lambda n: sp.csr_matrix(matrix(n)),
    "DataFrame": frame,
    "DataFrame, multi-index": lambda n: frame(n).set_index("name", append=True),
    "Series": lambda n: frame(n)["name"],
    "Series, categorical": lambda n: pd.Series(pd.Categorical(["a", "b", "c"] * n, categories=list("abc"))[:n]),
    "Index": lambda n: frame(n).index,
    "extension array": lambda n: pd.array([None if i % 5 == 0 else i for i in range(n)], dtype="Int64"),
    "categorical": lambda n: pd.Categorical(["a", "b", "c"] * n, categories=list("abc"))[:n],
    "polars DataFrame": lambda n: pl.DataFrame({"x": np.arange(float(n)), "name": [f"row {i}" for i in range(n)]}),
    "polars Series": lambda n: pl.Series("s", np.arange(n)),
    "Arrow table": table,
    "Arrow record batch": batch,
    "Arrow array": lambda n: pa.array([f"row {i}" for i in range(n)], pa.string()),
    "Arrow chunked array": lambda n: pa.chunked_array([range(n // 2), range(n - n // 2)], pa.int64()),
    "list": lambda n: [{"i": i} for i in range(n)],
}
INPUTS: dict[str, Callable[[int], Any]] = KINDS | {
    "tuple": lambda n: tuple(range(n)),
    "range": range,
    "array.array": lambda n: array("d", range(n)),
}


def are_equal(one: Any, other: Any) -> bool:
    """Whether two of these are of the same type and equal, index, names and dtypes included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(are_equal, one, other))
    if isinstance(one, pd.DataFrame):
        return one.equals(other) and one.index.equals(other.index) and (one.dtypes == other.dtypes).all()
    if isinstance(one, pd.Series):
        return one.equals(other) and one.index.equals(other.index) and one.name == other.name
    if sp.issparse(one):
        return one.format == other.format and one.shape == other.shape and (one != other).nnz == 0
    if isinstance(one, np.ma.MaskedArray):
        return np.array_equal(one.mask, other.mask) and np.array_equal(one.filled(0), other.filled(0))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, array):
        return one == other
    equals = getattr(one, "equals", None)
    return bool(equals(other)) if equals is not None else bool(one == other)
