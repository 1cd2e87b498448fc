"""Branches as the user gives them: calls that differ, and calls that are split into several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .errors import SettingError
from .functions import check_function, units
from .options import BRANCH_OPTIONS, CallOptions, resolve_options
from .settings import ParallelConfig


class Branch:
    """A branch, and what has become of it.

    Args:
        name: Its name.
        given: What the user gave.

    Attributes:
        calls: Its calls.
        n_units: How many they are.
        values: What each has returned.
        errors: What each has raised, by its number; of combine, as that of a unit beyond the last.
    """

    def __init__(self, name: str, given: Callable[..., Any] | units[Any]) -> None:
        self.name = name
        self.is_split = isinstance(given, units)
        self.calls: tuple[Callable[..., Any], ...] = given.calls if isinstance(given, units) else (given,)
        self.combine = given.combine if isinstance(given, units) else None
        self.n_units = self.n_left = len(self.calls)
        self.values: list[Any] = [None] * self.n_units
        self.errors: dict[int, Exception] = {}
        self.combined: Any = None

    @property
    def in_order(self) -> list[Exception]:
        """What it has raised, in the order of its units."""
        return [self.errors[number] for number in sorted(self.errors)]

    @property
    def value(self) -> Any:
        """What stands for it among the results: its value, or its failure."""
        if self.errors:
            errors = self.in_order
            text = f"branch {self.name!r}: {len(errors)} of {self.n_units} units failed"
            return ExceptionGroup(text, errors) if self.is_split and self.n_units not in self.errors else errors[0]
        if self.combine is not None:
            return self.combined
        return self.values if self.is_split else self.values[0]

    def name_in(self, error: Exception, number: int) -> None:
        """Note in an error where it comes from, if it takes notes."""
        part = "its combine" if number == self.n_units else f"unit {number + 1} of {self.n_units}"
        try:
            error.add_note(f"offloop: in branch {self.name!r}" + (f", {part}" if self.is_split else ""))
        except Exception:
            return


def branch_options(
    config: ParallelConfig, given: Mapping[str, Any], *, is_consent: bool
) -> tuple[CallOptions, dict[str, float]]:
    """Check the options of a run over branches; return them, and the costs that are given by branch.

    Raises:
        SettingError: A value can't work.
        SettingTypeError: A value is of the wrong type, or the option does not exist.
    """
    costs = given.get("item_cost_s")
    if not isinstance(costs, Mapping):
        return resolve_options(config, given, BRANCH_OPTIONS, is_consent=is_consent), {}
    others = {name: value for name, value in given.items() if name != "item_cost_s"}
    for cost in costs.values():
        resolve_options(config, {"item_cost_s": cost}, BRANCH_OPTIONS, is_consent=is_consent)
    return resolve_options(config, others, BRANCH_OPTIONS, is_consent=is_consent), dict(costs)


def branches_of(given: Any, costs: Mapping[str, float]) -> list[Branch]:
    """Check branches as the user gave them.

    Raises:
        TypeError: It isn't a mapping, or something in it can't be called.
        AsyncFunctionError: A function is async.
        SettingError: A cost is given for a branch that there isn't.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"branches must be a mapping of names to calls, not {type(given).__name__}")
    for name, branch in given.items():
        if not isinstance(name, str):
            raise TypeError(f"a branch's name must be a string, not {type(name).__name__}")
        if isinstance(branch, units):
            continue
        if not callable(branch):
            raise TypeError(f"branches[{name!r}] must be call(...) or units(...), not {type(branch).__name__}")
        check_function(branch)
    for name in costs:
        if name not in given:
            raise SettingError("item_cost_s", name, f"there is no such branch; there are {', '.join(map(repr, given))}.")
    return [Branch(name, branch) for name, branch in given.items()]
