"""Random numbers: they depend on seed and index, on nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from numpy.random import SeedSequence, default_rng

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

N_ITEMS = 60


def expected(seed: int) -> list[list[object]]:
    return [w.draws(i, rng=default_rng(child)) for i, child in enumerate(SeedSequence(seed).spawn(N_ITEMS))]


@pytest.mark.parametrize("chunk_size", [None, 1, 7, 1000])
@pytest.mark.parametrize("workers", [None, 1, 2, -1])
async def test_streams_are_those_of_seed_sequence_spawn(
    session: offloop.ParallelSession, workers: int | None, chunk_size: int | None
) -> None:
    """Bit for bit the same for every strategy, worker count and chunk size."""
    results = await session.run_parallel(w.draws, range(N_ITEMS), seed=42, workers=workers, chunk_size=chunk_size)
    assert results == expected(42)


async def test_auto_draws_the_same(anyio_backend: object) -> None:
    """Items that are measured first draw what they would draw anywhere."""
    async with offloop.ParallelSession() as session:
        assert await session.run_parallel(w.draws, range(N_ITEMS), seed=7) == expected(7)


async def test_an_async_source_draws_the_same(session: offloop.ParallelSession) -> None:
    """The index counts, not the way in which items come."""

    async def items() -> AsyncIterator[int]:
        for i in range(N_ITEMS):
            yield i

    assert await session.run_parallel(w.draws, items(), seed=0) == expected(0)


async def test_other_seeds_draw_otherwise(session: offloop.ParallelSession) -> None:
    """Two seeds, two streams; and two items never share one."""
    first = await session.run_parallel(w.draws, range(N_ITEMS), seed=1)
    second = await session.run_parallel(w.draws, range(N_ITEMS), seed=2)
    assert len({row[1] for row in (*first, *second)}) == 2 * N_ITEMS


async def test_lambdas_draw_the_same(session: offloop.ParallelSession) -> None:
    """A function that travels by value draws what one that travels by name draws."""
    results = await session.run_parallel(lambda item, rng: w.draws(item, rng=rng), range(N_ITEMS), seed=42)
    assert results == expected(42)
