"""Sensing the environment: the settings that ``OFFLOOP_*`` variables carry."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import SettingError
from ..model import Strategy
from ..settings import ParallelConfig, did_you_mean

_NUMBERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "OFFLOOP_WORKERS": ("workers", int),
    "OFFLOOP_CHUNK_SIZE": ("chunk_size", int),
    "OFFLOOP_MIN_SPEEDUP": ("min_speedup", float),
    "OFFLOOP_RETRIES": ("retries", int),
    "OFFLOOP_GRACE_S": ("grace_s", float),
    "OFFLOOP_IDLE_TIMEOUT_S": ("idle_timeout_s", float),
    "OFFLOOP_WORKER_NICE": ("worker_nice", int),
    "OFFLOOP_LOCAL": ("local", str),
}
_PARALLEL = "OFFLOOP_PARALLEL"
_PREFIX = "OFFLOOP_"


class Environment(NamedTuple):
    """What the environment says.

    Attributes:
        settings: Settings of `ParallelConfig`.
        is_off: ``OFFLOOP_PARALLEL=off``: everything in the local thread, whatever a call says.
        lifts_ci: ``OFFLOOP_PARALLEL=on``: `auto` chooses, also under CI.
    """

    settings: dict[str, Any]
    is_off: bool = False
    lifts_ci: bool = False


def sense_environment(environ: Mapping[str, str]) -> Environment:
    """Read the ``OFFLOOP_*`` variables.

    ``OFFLOOP_PARALLEL`` takes ``off`` (everything in the local thread, whatever a call says), ``on`` (`auto` chooses,
    also under CI), or the name of a strategy. Values are case-insensitive; a variable that doesn't exist is warned of.

    Raises:
        SettingError: A variable's value can't work; the variable is named.
    """
    known = (_PARALLEL, *_NUMBERS)
    settings: dict[str, Any] = {}
    word = environ.get(_PARALLEL, "").strip().lower()
    if word and word not in ("off", "on"):
        settings["strategy"] = _strategy(word)
    for variable, value in environ.items():
        if variable == _PARALLEL or (variable in _NUMBERS and not value.strip()):
            continue
        if variable in _NUMBERS:
            settings |= _number(variable, value)
        elif variable.startswith(_PREFIX):
            warnings.warn(f"{variable} is no setting of offloop; {did_you_mean(variable, known)}", stacklevel=2)
    return Environment(settings, is_off=word == "off", lifts_ci=word == "on")


def _strategy(word: str) -> Strategy:
    if word not in tuple(Strategy):
        raise SettingError(_PARALLEL, word, did_you_mean(word, ("off", "on", *Strategy)))
    return Strategy[word.upper()]


def _number(variable: str, value: str) -> dict[str, Any]:
    name, read = _NUMBERS[variable]
    try:
        number = read(value.strip())
        ParallelConfig(**{name: number})
    except SettingError as error:
        raise SettingError(variable, value, error.advice) from None
    except ValueError:
        raise SettingError(variable, value, f"write a{' whole' * (read is int)} number.") from None
    return {name: number}
