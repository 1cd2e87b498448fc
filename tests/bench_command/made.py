"""Findings that nobody measured, so that what is made of them is always the same."""

from __future__ import annotations

from offloop.bench.outcomes import Findings, Report, Row
from offloop.bench.plan import Sweep, Variant, counts_of, variants
from offloop.model import Strategy

ROUNDS = 5
OVERHEAD_S = {Strategy.SERIAL: 0.0001, Strategy.THREADS: 0.0003, Strategy.PROCESSES: 0.002, Strategy.AUTO: 0.0003}


def findings(
    *, workers: tuple[int, ...] = (1, 2, 4), n_items: int = 256, item_s: float = 0.001, name: str = "app:score", **changes: object
) -> Findings:
    """Return what a function would be found to take that holds the GIL, by a simple model of cost."""
    sweep = Sweep(strategies=tuple(Strategy), workers=workers)
    wanted = variants(sweep, counts_of(sweep, n_items))
    rows = tuple(row(variant, seconds(variant, item_s, sweep.most_workers), sweep.most_workers) for variant in wanted)
    made = {"name": name, "description": "", "n_items": n_items, "rows": rows, "rounds": ROUNDS, "wall_s": 12.0}
    return Findings(**(made | changes))  # type: ignore[arg-type]


def row(variant: Variant, middle_s: float, most_workers: int = 4, **changes: object) -> Row:
    """Return a row whose samples lie around a time."""
    samples_s = tuple(middle_s * (1 + (number - 2) / 50) for number in range(ROUNDS))
    ran = variant.where
    if not variant.is_fixed:
        ran = f"processes ×{most_workers}" if variant.n_items > 10 and not variant.is_first else "serial"
    made = {"variant": variant, "samples_s": samples_s, "ran": ran, "reason": "explicit"}
    return Row(**(made | changes))  # type: ignore[arg-type]


def seconds(variant: Variant, item_s: float, most_workers: int) -> float:
    """Return how long a variant takes."""
    serial_s = variant.n_items * item_s
    overhead_s = OVERHEAD_S[variant.strategy]
    if variant.strategy is Strategy.SERIAL:
        return overhead_s + serial_s
    if variant.strategy is Strategy.PROCESSES:
        per_chunk_s = 0.0002 * variant.n_items / (variant.chunk_size or 16)
        return overhead_s + serial_s / ((variant.workers or 1) ** 0.9) + per_chunk_s
    if variant.strategy is Strategy.THREADS:
        return overhead_s + serial_s * 1.03
    if variant.is_first:
        return serial_s * 0.7
    return 1.08 * min(serial_s, 0.002 + serial_s / most_workers**0.9) + overhead_s


def report(*found: Findings) -> Report:
    """Return a report of some findings on a made host."""
    host = {
        "taken_at": "2026-11-22T08:00:00+00:00",
        "cpu": "A <Processor> & more",
        "usable_cores": 4,
        "physical_cores": 4,
        "system": "Linux 6.1",
        "python": "CPython 3.11.7",
        "load_1_min": 0.2,
        "versions": {"offloop": "0.1.0"},
    }
    return Report(host=host, settings={"workers": {"value": None, "source": "default"}}, findings=found)
