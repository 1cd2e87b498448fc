"""deciding/seeding.py: random numbers that depend on seed and index alone."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from offloop.deciding.seeding import Seeded


def draw(item: str, rng: np.random.Generator) -> tuple[str, list[int]]:
    """Return the item and what its generator gives."""
    return item, [int(number) for number in rng.integers(0, 2**62, 4)]


@given(seed=st.integers(0, 2**128), n=st.integers(1, 40))
def test_generators_are_those_of_spawn(seed: int, n: int) -> None:
    """Item i gets the generator over SeedSequence(seed).spawn(n)[i], bit for bit."""
    index = n - 1
    child = np.random.SeedSequence(seed).spawn(n)[index]
    assert Seeded(draw, seed)(index, "x") == draw("x", np.random.default_rng(child))


def test_neither_order_nor_repetition_matters() -> None:
    """An item draws the same numbers whenever and however often it runs, and other ones than its neighbours."""
    seeded = Seeded(draw, 42)
    forwards = [seeded(index, "x") for index in range(20)]
    backwards = [seeded(index, "x") for index in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert len({tuple(numbers) for _, numbers in forwards}) == 20


def test_it_travels() -> None:
    """A pickled copy draws the same numbers."""
    seeded = Seeded(draw, 7)
    assert pickle.loads(pickle.dumps(seeded))(3, "a") == seeded(3, "a")
