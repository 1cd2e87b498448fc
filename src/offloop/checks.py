"""Checks of single values that users give: each returns the value as it is used, or says what to write instead."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable, Mapping
from typing import SupportsFloat

from .errors import SettingError, SettingTypeError
from .model import Strategy


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str | None:
    """Return which of the known names is probably meant; a prefix that all have makes no two of them alike."""
    near = difflib.get_close_matches(name.removeprefix(prefix), [one.removeprefix(prefix) for one in known], n=1)
    return prefix + near[0] if near else None


def did_you_mean(name: str, known: Mapping[str, object] | tuple[str, ...], prefix: str = "") -> str:
    """Return advice that names the nearest of the known names; see `nearest`."""
    near = nearest(name, known, prefix)
    guess = f"did you mean {near}? There" if near is not None else "there"
    return f"{guess} are {', '.join(known)}."


def strategy_of(value: object, setting: str = "strategy") -> Strategy:
    """Return the strategy of this name, whatever its case."""
    if not isinstance(value, str):
        raise SettingTypeError(setting, value, f"write one of {', '.join(Strategy)}.")
    try:
        return Strategy[value.upper()]
    except KeyError:
        raise SettingError(setting, value, did_you_mean(value, tuple(Strategy))) from None


def _whole(value: object, setting: str, advice: str) -> int:
    if isinstance(value, bool):
        raise SettingTypeError(setting, value, advice)
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise SettingTypeError(setting, value, advice) from None


def worker_count(value: object, setting: str = "workers") -> int | None:
    """Return a number of workers: 1 or more, -1 for all usable cores, None for as many as seem good."""
    if value is None:
        return None
    advice = "write how many processes may work (1, 2, …), -1 for all usable cores, or None to let offloop choose."
    number = _whole(value, setting, advice)
    if number == 0:
        raise SettingError(setting, value, "no work can be done with none; write strategy=\"serial\" for none at all.")
    if number < -1:
        raise SettingError(setting, value, advice)
    return number


def at_least(value: object, setting: str, low: int) -> int:
    """Return a whole number that is no smaller than this."""
    advice = f"write a whole number, {low} or more."
    number = _whole(value, setting, advice)
    if number < low:
        raise SettingError(setting, value, advice)
    return number


def count_or_none(value: object, setting: str) -> int | None:
    """Return a whole number above 0, or None."""
    return None if value is None else at_least(value, setting, 1)


def seconds_of(value: object, setting: str, *, positive: bool = False) -> float:
    """Return a finite time."""
    advice = f"write seconds as a finite number {'above' if positive else 'of at least'} 0."
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise SettingTypeError(setting, value, advice)
    seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0 or (positive and seconds == 0):
        raise SettingError(setting, value, advice)
    return seconds


def seconds_or_none(value: object, setting: str, *, positive: bool = False) -> float | None:
    """Return a finite time, or None."""
    return None if value is None else seconds_of(value, setting, positive=positive)


def one_of(value: object, setting: str, words: tuple[str, ...]) -> str:
    """Return one of these words, whatever its case."""
    if not isinstance(value, str) or value.lower() not in words:
        kind = SettingError if isinstance(value, str) else SettingTypeError
        quoted = [f'"{word}"' for word in words]
        raise kind(setting, value, f"write {', '.join(quoted[:-1])} or {quoted[-1]}.")
    return value.lower()


def flag(value: object, setting: str) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise SettingTypeError(setting, value, "write True or False.")
    return value


def ratio(value: object, setting: str) -> float:
    """Return a finite number of at least 1."""
    advice = "write a finite number of at least 1, for example 1.2."
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise SettingTypeError(setting, value, advice)
    number = float(value)
    if not math.isfinite(number) or number < 1:
        raise SettingError(setting, value, advice)
    return number


def check_local(local: str, strategy: Strategy) -> None:
    """Refuse a strategy that would run items in this process where that may never be.

    Raises:
        SettingError: strategy is one of this process's, and local is ``never``.
    """
    if local == "never" and strategy in (Strategy.SERIAL, Strategy.THREADS):
        raise SettingError("strategy", strategy.value, 'local="never" keeps items out of this process; write "auto" or "processes".')
