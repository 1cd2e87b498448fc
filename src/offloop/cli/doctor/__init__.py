"""The doctor: what of this machine, environment and process stands in the way of work in parallel."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .findings import Examination, Finding, Setting, Verdict

if TYPE_CHECKING:
    from .examining import examine

__all__ = ("Examination", "Finding", "Setting", "Verdict", "examine")


def __getattr__(name: str) -> object:
    if name == "examine":  # with all of offloop, which the command's --help doesn't need
        return import_module(".examining", __name__).examine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
