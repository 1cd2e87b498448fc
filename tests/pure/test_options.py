"""options.py: the time limits of a call; what else it may be given is tried with the settings."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.errors import SettingError, SettingTypeError
from offloop.model import Strategy
from offloop.options import BATCH_OPTIONS, MAP_OPTIONS, RUN_OPTIONS, CallOptions, resolve_options
from offloop.settings import ParallelConfig

CONFIG = ParallelConfig()
WORDS = [("timeout_s", RUN_OPTIONS), ("item_timeout_s", MAP_OPTIONS), ("item_timeout_s", BATCH_OPTIONS)]


def limit_of(config: ParallelConfig, given_: dict[str, Any], allowed: frozenset[str]) -> float | None:
    """Return how long an item of a call with these options may execute."""
    return resolve_options(config, given_, allowed, is_consent=False).item_timeout_s


@pytest.mark.parametrize(("name", "allowed"), WORDS)
@pytest.mark.parametrize(
    ("value", "kept"), [(None, None), (2, 2.0), (0.25, 0.25), (Decimal("0.5"), 0.5), (1e-9, 1e-9), (1e9, 1e9)]
)
def test_a_limit_is_kept(name: str, allowed: frozenset[str], value: Any, kept: float | None) -> None:
    """A time limit is kept in seconds, by one name whatever kind of call it is of; None is none."""
    found = limit_of(CONFIG, {name: value}, allowed)
    assert found == kept
    assert type(found) is type(kept)
    assert limit_of(CONFIG, {}, allowed) is None


@pytest.mark.parametrize(("name", "allowed"), WORDS)
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (0, SettingError),
        (0.0, SettingError),
        (-1, SettingError),
        (math.nan, SettingError),
        (math.inf, SettingError),
        ("5", SettingTypeError),
        (True, SettingTypeError),
        ([1], SettingTypeError),
    ],
)
def test_a_bad_limit_is_refused(name: str, allowed: frozenset[str], value: Any, kind: type[SettingError]) -> None:
    """What can't be a time limit is refused, with the name that the caller wrote."""
    with pytest.raises(SettingError, match="above 0") as found:
        limit_of(CONFIG, {name: value}, allowed)
    assert (type(found.value), found.value.setting) == (kind, name)
    assert found.value.value is value


@pytest.mark.parametrize(("name", "allowed"), WORDS)
@pytest.mark.parametrize("strategy", ["serial", "threads", "Threads", Strategy.SERIAL])
@pytest.mark.parametrize("is_setting", [False, True])
def test_what_can_not_be_stopped_has_no_limit(
    name: str, allowed: frozenset[str], strategy: Any, is_setting: bool
) -> None:
    """A time limit beside a strategy of this process is refused, whoever named that: the call or the session."""
    config = ParallelConfig(strategy=strategy) if is_setting else CONFIG
    with pytest.raises(SettingError, match='write "auto" or "processes"') as found:
        limit_of(config, {name: 5.0} | ({} if is_setting else {"strategy": strategy}), allowed)
    assert (found.value.setting, found.value.value) == (name, 5.0)
    assert f'strategy="{strategy.lower()}"' in str(found.value)


@pytest.mark.parametrize(("name", "allowed"), WORDS)
@pytest.mark.parametrize("strategy", ["auto", "processes"])
def test_what_can_be_stopped_may_have_one(name: str, allowed: frozenset[str], strategy: Any) -> None:
    """A time limit goes with processes, and with auto, which then takes them; a call's strategy beats the session's."""
    serial = ParallelConfig(strategy=Strategy.SERIAL)
    assert limit_of(serial, {name: 5.0, "strategy": strategy}, allowed) == 5.0
    assert limit_of(ParallelConfig(strategy=strategy), {name: 5.0}, allowed) == 5.0
    assert limit_of(serial, {name: None}, allowed) is None


def test_each_kind_of_call_has_its_own_word() -> None:
    """A single call has timeout_s and the others item_timeout_s; the wrong one is refused with the right one."""
    for name, allowed in WORDS:
        (wrong,) = {"timeout_s", "item_timeout_s"} - {name}
        with pytest.raises(SettingTypeError, match=f"no such option; did you mean {name}"):
            limit_of(CONFIG, {wrong: 5.0}, allowed)


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.floats()))
def test_a_limit_is_kept_or_refused(value: Any) -> None:
    """Whatever is given for a limit, it is a finite time above 0, or none, or refused with a SettingError."""
    for name, allowed in WORDS:
        refused: list[str] = []
        found: float | None = None
        try:
            found = limit_of(CONFIG, {name: value}, allowed)
        except SettingError as error:
            refused.append(error.setting)
        assert refused == [name] or found is None is value or (found is not None and 0 < found < math.inf)


def test_no_limit_is_the_default() -> None:
    """Without a word an item may execute for as long as it takes."""
    assert CallOptions(strategy=Strategy.AUTO).item_timeout_s is None
