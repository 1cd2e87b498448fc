"""The figures of a bench as values that JSON has."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .outcomes import Findings, Report, Row, Spread
from .plan import Variant

FORMAT = 1  # raised where a reader of older files would be wrong


def as_record(report: Report) -> dict[str, Any]:
    """Return a report as it is written to a file; times in seconds, sizes in bytes."""
    return {
        "format": FORMAT,
        "host": dict(report.host),
        "settings": dict(report.settings),
        "findings": [_findings(found) for found in report.findings],
    }


def _findings(found: Findings) -> dict[str, Any]:
    return {
        "name": found.name,
        "description": found.description,
        "n_items": found.n_items,
        "rounds": found.rounds,
        "wall_s": found.wall_s,
        "rows": [_row(found, row) for row in found.rows],
        "crossover_items": found.crossover(),
        "verdict": found.verdict,
        "regrets": [asdict(regret) for regret in found.regrets()],
        "left_out": [_variant(variant) for variant in found.left_out],
        "notes": list(found.notes),
    }


def _row(found: Findings, row: Row) -> dict[str, Any]:
    return {
        **_variant(row.variant),
        "ran": row.ran,
        "reason": row.reason,
        "took_effect": row.is_sound,
        "complaints": list(row.complaints),
        "error": row.error,
        "remark": row.remark,
        "samples_s": list(row.samples_s),
        "time_s": _spread(row.time_s),
        "speed_up": _spread(found.speed_up(row)),
    }


def _variant(variant: Variant) -> dict[str, Any]:
    return asdict(variant) | {"strategy": variant.strategy.value}


def _spread(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else asdict(spread)
