"""Faithful travel on every event loop: a sample of what test_faithful.py has in full on one."""

from __future__ import annotations

import pytest

import faithful as f
import offloop

pytestmark = pytest.mark.anyio

SAMPLE: dict[str, f.Maker] = {
    "array": f.floats,
    "Fortran order": f.ARRAYS["Fortran order"],
    "read-only": f.ARRAYS["read-only"],
    "bytearray": f.BUFFERS["bytearray"],
    "frame": f.FRAMES["mixed"],
    "Arrow table": f.TABLES["Arrow table"],
    "csr_array": f.SPARSE["csr_array"],
    "mixture": f.MIXTURES["a dict of frames"],
}


SIZES = {name: f.SIZES[name] for name in ("small", "300 KiB")}


@pytest.mark.parametrize("n_bytes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("make", SAMPLE.values(), ids=SAMPLE)
@pytest.mark.fault(59, 61, 62)
async def test_things_arrive_on_every_loop(workers: offloop.ParallelSession, make: f.Maker, n_bytes: int) -> None:
    """Things of common kinds and of every size arrive equal, in a worker and back here, whatever loop is running."""
    made = [make(n_bytes) for _ in range(3)]
    expected = [f.facts(thing) for thing in made]
    results = await workers.run_parallel(f.examine, made)
    assert [arrived for arrived, _ in results] == expected
    assert [f.facts(returned) for _, returned in results] == expected
