"""Amounts as people read them."""

from __future__ import annotations


def counted(n: int, noun: str) -> str:
    """Return a count with its noun: ``1 worker``, ``2 workers``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def sized(n_bytes: float) -> str:
    """Return a count of bytes with three digits and the unit that fits, by powers of 1,000."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= 0.9995 * scale:
            return f"{n_bytes / scale:.3g} {unit}"
    return f"{n_bytes:.0f} B"
