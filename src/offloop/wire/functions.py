"""Functions as they travel: once to each worker, under a digest, the data bound in them in a segment."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

from .buffers import Packer, Part, Segment, no_buffers, rebuild
from .pickling import (
    DIGEST_SIZE,
    NO_FINGERPRINT,
    check_fingerprint,
    digest_of,
    dumps,
    dumps_plain,
    fingerprint,
    loads,
    module_by_value,
)


class PackedFunction(NamedTuple):
    """A function ready to travel.

    Attributes:
        digest: Identifies the bytes; where it refers to segments, this one time that it was packed.
        data: What the worker keeps: a fingerprint of the code (zeros where there is none) and the pickled function.
        by_value: Whether the code itself is in there.
        segments: What it refers to.
    """

    digest: bytes
    data: bytes
    by_value: bool = False
    segments: tuple[Segment, ...] = ()


Keep = Callable[[Packer], "Segment | None"]


def pack_function(
    fn: Callable[..., object], by_value: bool = False, *, packer: Packer | None = None, keep: Keep | None = None
) -> PackedFunction:
    """Pickle a function once, with its code's fingerprint if it will be found by its name.

    Args:
        fn: Any callable.
        by_value: Send the code itself, also of a function that could be imported: for one that differs from what
            an import would find.
        packer: Pickles it and leaves large data bound in it apart; None: everything goes into the pickle.
        keep: Puts such data into a segment; None if that is not worth it, or there is no room for one.
    """
    mark = NO_FINGERPRINT if by_value else fingerprint(fn)
    with module_by_value(fn) if by_value else nullcontext():
        part, segments = (None, ()) if packer is None else _apart(fn, by_value, packer, keep)
        if part is None:
            part = Part(dumps(fn, by_value=by_value))
    data = mark + dumps_plain((part.plain(), [segment.number for segment in segments]))
    return PackedFunction(os.urandom(DIGEST_SIZE) if segments else digest_of(data), data, by_value, segments)


def _apart(
    fn: Callable[..., object], by_value: bool, packer: Packer, keep: Keep | None
) -> tuple[Part | None, tuple[Segment, ...]]:
    packer.add(fn, by_value=by_value)
    (part,) = packer.parts
    segments = tuple(packer.segments.values())
    if not packer.n_bytes:
        return part, segments
    segment = keep(packer) if keep is not None else None
    return (None, ()) if segment is None else (part.within(segment), (*segments, segment))


def unpack_function(data: bytes | memoryview) -> Callable[..., Any]:
    """Rebuild a function from `PackedFunction.data`.

    Raises:
        StaleFunction: Its name leads to other code here.
    """
    view = memoryview(data)
    part, _ = loads(view[DIGEST_SIZE:])
    fn: Callable[..., Any] = rebuild(Part(*part), no_buffers)
    check_fingerprint(fn, bytes(view[:DIGEST_SIZE]))
    return fn


def segments_of(data: bytes | memoryview) -> set[int]:
    """Return the numbers of the segments that a function's data refers to."""
    _, numbers = loads(memoryview(data)[DIGEST_SIZE:])
    return set(numbers)
