"""Sensing the environment: the settings that ``OFFLOOP_*`` variables carry."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple, get_args

from ..checks import did_you_mean
from ..errors import SettingError
from ..explaining import printable
from ..model import Strategy
from ..settings import Local, ParallelConfig, TransportName, variable_of

_PREFIX = "OFFLOOP_"
_PARALLEL = variable_of("strategy")
_WORDS = ("off", "on", *Strategy)


def _strategy(text: str) -> str:
    if text.lower() not in tuple(Strategy):
        raise SettingError(_PARALLEL, text, did_you_mean(text.lower(), _WORDS))
    return text


class _Kind(NamedTuple):
    """How values of a type are read, and what may be written."""

    read: Callable[[str], Any]
    accepts: str


# By what a setting is annotated with, None aside; a setting of another type is code, which no variable can carry.
_KINDS = {
    "int": _Kind(int, "a whole number"),
    "float": _Kind(float, "a number"),
    "Local": _Kind(str, " or ".join(get_args(Local))),
    "TransportName": _Kind(str, ", ".join(get_args(TransportName))),
    "Strategy": _Kind(_strategy, ", ".join(_WORDS)),
}


class Variable(NamedTuple):
    """A variable of the environment that carries a setting.

    Attributes:
        setting: The setting's name in `ParallelConfig`.
        read: Makes the value of a setting from that of the variable.
        accepts: What may be written.
    """

    setting: str
    read: Callable[[str], Any]
    accepts: str

    @property
    def meaning(self) -> str:
        """What the setting means, as the docstring of `ParallelConfig` says; empty where docstrings are stripped."""
        entry = rf"^( +){self.setting}: (.+(?:\n\1 {{4}}.+)*)"  # and the lines that are indented below it
        found = re.search(entry, ParallelConfig.__doc__ or "", re.MULTILINE)
        return " ".join(found[2].split()) if found else ""


def _variables() -> dict[str, Variable]:
    kinds = {field.name: _KINDS.get(str(field.type).removesuffix(" | None")) for field in fields(ParallelConfig)}
    return {variable_of(name): Variable(name, *kind) for name, kind in kinds.items() if kind is not None}


VARIABLES: dict[str, Variable] = _variables()
"""Every variable by its name, in the order of the settings."""


NO_SETTINGS = ("OFFLOOP_ASCII",)
"""What the command line and the line of progress go by, and no session."""


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
    also under CI), or the name of a strategy. Names and values are case-insensitive; of two spellings of a name the one
    in capitals holds. An empty variable counts as not set; one that doesn't exist is warned of.

    Raises:
        SettingError: A variable's value can't work; the variable is named as it is written.
    """
    written: dict[str, str] = {}
    for name in sorted(environ):  # capitals come first
        if name.upper().startswith(_PREFIX):
            written.setdefault(name.upper(), name)
    settings: dict[str, Any] = {}
    word = environ.get(written.get(_PARALLEL, ""), "").strip().lower()
    for variable, name in written.items():
        if variable in NO_SETTINGS:
            continue
        if variable not in VARIABLES:
            warnings.warn(f"{printable(name)} is no setting of offloop; {did_you_mean(variable, VARIABLES, _PREFIX)}", stacklevel=2)
        elif environ[name].strip() and not (variable == _PARALLEL and word in ("off", "on")):
            settings[VARIABLES[variable].setting] = _value(VARIABLES[variable], name, environ[name])
    return Environment(settings, is_off=word == "off", lifts_ci=word == "on")


def _value(variable: Variable, name: str, text: str) -> Any:
    """Return the setting that a variable's text says, as `ParallelConfig` keeps it."""
    try:
        return getattr(ParallelConfig(**{variable.setting: variable.read(text.strip())}), variable.setting)
    except SettingError as error:
        raise SettingError(name, text, error.advice) from None
    except ValueError:
        raise SettingError(name, text, f"write {variable.accepts}.") from None
