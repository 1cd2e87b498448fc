"""Runs over blocks of rows: what they need besides what every map does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from .blocks import BlockSource
from .combining import combine
from .deciding.chunking import SEEDED_ROWS, first_rows, most_rows
from .encoding import in_thread
from .errors import SettingError
from .functions import check_function
from .model import Strategy
from .options import BATCH_OPTIONS, CallOptions, resolve_options
from .sensing.size import size_up
from .settings import ParallelConfig
from .wire.pickling import function_name
from .worker.rows import Rows, count_rows, cut, library_of


class Batch(NamedTuple):
    """A run over blocks, ready to begin.

    Attributes:
        called: fn, as it is called for a block.
        source: The blocks.
        sample: The first row of each input, as a block of its own.
    """

    called: Rows
    source: BlockSource
    sample: tuple[Any, ...]


def batch_options(
    fn: Callable[..., Any], config: ParallelConfig, given: Mapping[str, Any], *, is_consent: bool
) -> CallOptions:
    """Check fn and the options of a run over blocks, and fill in the rest from the session's settings.

    Raises:
        AsyncFunctionError: fn is async.
        SettingError: A value can't work, by itself or with the others.
        SettingTypeError: A value is of the wrong type, or the option does not exist.
    """
    check_function(fn)
    options = resolve_options(config, {"combine": "concat"} | dict(given), BATCH_OPTIONS, is_consent=is_consent)
    if options.combine == "concat" and options.on_error == "collect":
        advice = 'failures can\'t be concatenated with results; write combine="list" to have one entry for each block.'
        raise SettingError("on_error", options.on_error, advice)
    size = options.batch_size or (None if options.seed is None else SEEDED_ROWS)
    return replace(options, chunk_size=None, batch_size=size)


async def batch_of(fn: Callable[..., Any], inputs: tuple[Any, ...], options: CallOptions, limit: int) -> Batch:
    """Return the run of fn over blocks of the rows of some inputs.

    Args:
        fn: Takes one block of each input.
        inputs: What has rows.
        options: The options of the call.
        limit: How many workers the session may have.

    Raises:
        TypeError: An input isn't made of rows.
        ValueError: They don't have equally many.
    """
    n_rows = _common_length(inputs)
    inputs = tuple([await _cuttable(rows) for rows in inputs])
    sample = tuple([cut(rows, 0, min(1, n_rows)) for rows in inputs])
    asked = options.workers or -1
    workers = 1 if options.strategy is Strategy.SERIAL else limit if asked == -1 else min(asked, limit)
    row_bytes = size_up(sample).n_bytes
    source = BlockSource(
        n_rows,
        fixed=options.batch_size,
        first=first_rows(n_rows, workers, row_bytes),
        most=most_rows(row_bytes),
        has_empty=options.combine == "concat",
    )
    return Batch(Rows(fn, inputs, is_checked=options.combine == "concat"), source, sample)


def _common_length(inputs: tuple[Any, ...]) -> int:
    """Return how many rows each of the inputs has; refuse those that have none, or not equally many."""
    lengths = [count_rows(rows) for rows in inputs]
    for position, (rows, n_rows) in enumerate(zip(inputs, lengths, strict=True)):
        if n_rows is None:
            kinds = "an array, a table, a sparse matrix or a sequence"
            advice = "; a list of what it yields is one" if hasattr(rows, "__iter__") else ""
            raise TypeError(f"input {position} must have rows: {kinds}, not {type(rows).__name__}{advice}")
        if n_rows != lengths[0]:
            raise ValueError(
                f"the inputs must have equally many rows: input 0 has {lengths[0]}, input {position} has {n_rows}"
            )
    return lengths[0] or 0


async def _cuttable(rows: Any) -> Any:
    """Return an input in a form of which blocks can be cut out: a sparse matrix of any format as CSR."""
    if library_of(rows) == "scipy" and getattr(rows, "format", "csr") != "csr":
        return await in_thread(rows.tocsr)
    return list(rows) if isinstance(rows, deque) else rows  # getting at the middle of a deque takes long


async def combined(results: list[Any], fn: Callable[..., Any]) -> Any:
    """Return the results of blocks as one, put together off the loop; see `combine`."""
    return results[0] if len(results) == 1 else await in_thread(combine, results, function_name(fn))
