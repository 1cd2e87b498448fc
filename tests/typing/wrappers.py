"""What type checkers make of `star` and `call`; checked, never run."""

from __future__ import annotations

from typing import assert_type

import offloop
from offloop import ParallelSession, call, star


def power(base: int, exponent: int) -> float:
    return float(base**exponent)


def fit(rows: list[float], *, alpha: float) -> str:
    return f"{rows}{alpha}"


async def star_keeps_the_result(session: ParallelSession) -> None:
    assert_type(star(power), star[float])
    assert_type(await session.run_parallel(star(power), [(2, 3), (2, 4)]), list[float])
    assert_type(await offloop.run_parallel(star(power), [(2, 3)], on_error="collect"), list[float | Exception])


async def call_keeps_the_result(session: ParallelSession) -> None:
    assert_type(call(fit, [1.0], alpha=0.1), call[str])
    assert_type(call(fit, [1.0], alpha=0.1)(), str)
    assert_type(await session.run(call(fit, [1.0], alpha=0.1)), str)
    assert_type(await offloop.run(call(power, 2, 3)), float)
