"""settings.py: the settings of a session and the options of a call, checked once."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields
from decimal import Decimal
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop.errors import SettingError, SettingTypeError
from offloop.model import Strategy
from offloop.options import (
    BATCH_OPTIONS,
    MAP_OPTIONS,
    RUN_OPTIONS,
    STREAM_OPTIONS,
    BatchOptions,
    CallOptions,
    MapOptions,
    RunOptions,
    StreamOptions,
    resolve_options,
)
from offloop.settings import (
    ParallelConfig,
    Settings,
    SettingSource,
    StrategyName,
    session_settings,
    variable_of,
)

NAN, INF = math.nan, math.inf
CONFIG = ParallelConfig()

BAD: list[tuple[str, Any, type[SettingError], str]] = [
    ("workers", 0, SettingError, 'strategy="serial"'),
    ("workers", -2, SettingError, "-1 for all usable cores"),
    ("workers", 2.9, SettingTypeError, "how many processes"),
    ("workers", 2.0, SettingTypeError, "how many processes"),
    ("workers", "auto", SettingTypeError, "None to let offloop choose"),
    ("workers", True, SettingTypeError, "how many processes"),
    ("workers", NAN, SettingTypeError, "how many processes"),
    ("chunk_size", 0, SettingError, "1 or more"),
    ("chunk_size", -5, SettingError, "1 or more"),
    ("chunk_size", 1.5, SettingTypeError, "1 or more"),
    ("chunk_size", "10", SettingTypeError, "1 or more"),
    ("chunk_size", True, SettingTypeError, "1 or more"),
    ("retries", -1, SettingError, "0 or more"),
    ("retries", 0.5, SettingTypeError, "0 or more"),
    ("retries", None, SettingTypeError, "0 or more"),
    ("grace_s", -1, SettingError, "at least 0"),
    ("grace_s", NAN, SettingError, "finite"),
    ("grace_s", INF, SettingError, "finite"),
    ("grace_s", "1", SettingTypeError, "seconds"),
    ("grace_s", None, SettingTypeError, "seconds"),
    ("grace_s", True, SettingTypeError, "seconds"),
    ("strategy", "process", SettingError, "did you mean processes?"),
    ("strategy", "", SettingError, "auto, serial, threads, processes"),
    ("strategy", None, SettingTypeError, "auto, serial, threads, processes"),
    ("strategy", 3, SettingTypeError, "auto, serial, threads, processes"),
    ("max_wait_s", -1, SettingError, "at least 0"),
    ("max_wait_s", INF, SettingError, "finite"),
    ("max_wait_s", "1", SettingTypeError, "seconds"),
]
BAD_SETTINGS: list[tuple[str, Any, type[SettingError], str]] = [
    *BAD,
    ("min_speedup", 0.9, SettingError, "at least 1"),
    ("min_speedup", NAN, SettingError, "at least 1"),
    ("min_speedup", INF, SettingError, "finite"),
    ("min_speedup", "2", SettingTypeError, "at least 1"),
    ("idle_timeout_s", 0, SettingError, "above 0"),
    ("idle_timeout_s", -1, SettingError, "above 0"),
    ("idle_timeout_s", INF, SettingError, "finite"),
    ("worker_nice", -1, SettingError, "0 or more"),
    ("transport", "carrier pigeon", SettingError, '"memory", "file" or "portable"'),
    ("transport", 1, SettingTypeError, '"memory", "file" or "portable"'),
    ("max_in_flight_bytes", 0, SettingError, "1 or more"),
    ("max_in_flight_bytes", 1.5, SettingTypeError, "1 or more"),
    ("worker_nice", 1.5, SettingTypeError, "0 or more"),
    ("max_pending", 0, SettingError, "1 or more"),
    ("max_pending", 2.5, SettingTypeError, "1 or more"),
    ("max_pending_bytes", 0, SettingError, "1 or more"),
    ("max_items_per_worker", 0, SettingError, "1 or more"),
    ("max_items_per_worker", 2.5, SettingTypeError, "1 or more"),
    ("worker_max_rss_bytes", 0, SettingError, "1 or more"),
    ("worker_max_rss_bytes", "2GB", SettingTypeError, "1 or more"),
    ("worker_init", 3, SettingTypeError, "a function"),
    ("worker_init_args", 3, SettingTypeError, ""),
    ("worker_init_args", "abc", SettingTypeError, ""),
]
BAD_OPTIONS: list[tuple[str, Any, type[SettingError], str]] = [
    *BAD,
    ("on_error", "ignore", SettingError, "collect"),
    ("on_error", None, SettingTypeError, "collect"),
    ("on_error", ["raise"], SettingTypeError, "collect"),
    ("seed", -1, SettingError, "0 or more"),
    ("seed", 1.0, SettingTypeError, "whole number"),
    ("seed", "42", SettingTypeError, "whole number"),
    ("label", 3, SettingTypeError, "a string"),
    ("priority", "urgent", SettingError, '"interactive" or "batch"'),
    ("priority", 1, SettingTypeError, '"interactive" or "batch"'),
    ("ordered", 1, SettingTypeError, "True or False"),
    ("window", 0, SettingError, "1 or more"),
    ("window", 2.5, SettingTypeError, "1 or more"),
]


def check(found: pytest.ExceptionInfo[SettingError], name: str, value: Any, kind: type[SettingError], advice: str) -> None:
    """Assert that an error names the setting, the value and what to write."""
    error = found.value
    assert type(error) is kind
    assert error.setting == name
    assert error.value is value
    assert advice in str(error)
    assert str(error).startswith(f"{name}={value!r}: ")
    assert error.__cause__ is None


@pytest.mark.parametrize(("name", "value", "kind", "advice"), BAD_SETTINGS)
def test_bad_settings_are_refused(name: str, value: Any, kind: type[SettingError], advice: str) -> None:
    """A setting that can't work is refused at once; the error names it, its value and what to write."""
    with pytest.raises(SettingError) as found:
        ParallelConfig(**{name: value})
    check(found, name, value, kind, advice)


@pytest.mark.parametrize(("name", "value", "kind", "advice"), BAD_OPTIONS)
def test_bad_options_are_refused(name: str, value: Any, kind: type[SettingError], advice: str) -> None:
    """An option of a call that can't work is refused at once, in the same words as the setting."""
    with pytest.raises(SettingError) as found:
        resolve_options(CONFIG, {name: value}, STREAM_OPTIONS, is_consent=False)
    check(found, name, value, kind, advice)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("workers", None, None),
        ("workers", -1, -1),
        ("workers", np.int64(3), 3),
        ("workers", 10**6, 10**6),
        ("chunk_size", 1, 1),
        ("grace_s", 0, 0.0),
        ("grace_s", Decimal("0.25"), 0.25),
        ("grace_s", np.float32(0.5), 0.5),
        ("retries", 0, 0),
        ("strategy", "Processes", Strategy.PROCESSES),
        ("strategy", Strategy.THREADS, Strategy.THREADS),
        ("min_speedup", 1, 1.0),
        ("idle_timeout_s", 0.001, 0.001),
        ("worker_init_args", [1, 2], (1, 2)),
    ],
)
def test_good_settings_are_kept(name: str, value: Any, kept: Any) -> None:
    """A setting that works is kept as a plain value of its own type."""
    found = getattr(ParallelConfig(**{name: value}), name)
    assert found == kept
    assert type(found) is type(kept)


def test_settings_are_frozen_and_named() -> None:
    """Settings can't be changed nor given by position."""
    with pytest.raises(FrozenInstanceError):
        CONFIG.workers = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        ParallelConfig(4)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "guess"), [("worker", "workers"), ("graces", "grace_s"), ("chunksize", "chunk_size"), ("stratgy", "strategy")]
)
def test_unknown_names_are_refused_with_a_guess(name: str, guess: str) -> None:
    """A setting or option that doesn't exist is refused, with the nearest name that does."""
    with pytest.raises(SettingTypeError, match=f"did you mean {guess}"):
        session_settings(None, {name: 1}, {})
    with pytest.raises(SettingTypeError, match=f"did you mean {guess}"):
        resolve_options(CONFIG, {name: 1}, MAP_OPTIONS, is_consent=False)


def test_a_name_like_no_other_lists_all() -> None:
    """Where no name is near, all are listed."""
    with pytest.raises(SettingTypeError, match=r"there are .*min_speedup") as found:
        session_settings(None, {"zzz": 1}, {})
    assert "did you mean" not in str(found.value)


@pytest.mark.parametrize("name", sorted(MAP_OPTIONS - RUN_OPTIONS))
def test_a_single_call_has_fewer_options(name: str) -> None:
    """What makes sense for a map only is refused for a single call."""
    with pytest.raises(SettingTypeError, match="no such option"):
        resolve_options(CONFIG, {name: 1}, RUN_OPTIONS, is_consent=False)


# --- one vocabulary --------------------------------------------------------------------------------------------------


def test_session_keywords_are_the_settings() -> None:
    """The keywords of a session are exactly the settings, with their types; a strategy may go by its name."""
    hints = get_type_hints(ParallelConfig)
    typed = get_type_hints(Settings)
    assert list(typed) == [field.name for field in fields(ParallelConfig)]
    assert typed.pop("strategy") == StrategyName | Strategy
    assert hints.pop("strategy") is Strategy
    assert typed == hints


def test_call_keywords_are_the_options() -> None:
    """The keywords of the four kinds of call are exactly the options, with their types."""
    hints = get_type_hints(CallOptions)
    typed, of_batches, of_streams = (get_type_hints(kind) for kind in (MapOptions, BatchOptions, StreamOptions))
    assert set(hints) == STREAM_OPTIONS | BATCH_OPTIONS | {"is_consent"}
    assert set(typed) | {"seed", "on_error"} == MAP_OPTIONS
    assert set(of_streams) | {"seed", "on_error"} == STREAM_OPTIONS
    assert {"ordered", "window"} == STREAM_OPTIONS ^ MAP_OPTIONS
    assert set(of_batches) | {"combine", "seed", "on_error"} == BATCH_OPTIONS
    assert {"chunk_size", "batch_size", "combine"} == BATCH_OPTIONS ^ MAP_OPTIONS
    assert set(get_type_hints(RunOptions)) == RUN_OPTIONS
    assert {"timeout_s"} == RUN_OPTIONS - MAP_OPTIONS  # of a single call; with a map it is each item's
    assert get_type_hints(RunOptions)["timeout_s"] == hints["item_timeout_s"]
    assert typed.pop("strategy") == of_batches.pop("strategy") == of_streams.pop("strategy") == StrategyName | Strategy
    assert typed.pop("priority") == of_batches.pop("priority") == of_streams.pop("priority") == hints["priority"] | None
    assert all(hints[name] == kind for name, kind in (typed | of_batches | of_streams).items())


@pytest.mark.parametrize("given", [{}, {"priority": None}])
def test_single_calls_go_before_maps(given: dict[str, Any]) -> None:
    """Unless it is said otherwise somebody waits for the answer of a single call, and nobody for each one of many."""
    assert resolve_options(CONFIG, given, RUN_OPTIONS, is_consent=False).priority == "interactive"
    for allowed in (MAP_OPTIONS, STREAM_OPTIONS, BATCH_OPTIONS):
        assert resolve_options(CONFIG, given, allowed, is_consent=False).priority == "batch"
    assert resolve_options(CONFIG, {"priority": "BATCH"}, RUN_OPTIONS, is_consent=False).priority == "batch"
    assert resolve_options(CONFIG, {"priority": "interactive"}, MAP_OPTIONS, is_consent=False).priority == "interactive"


def test_strategy_names_are_the_strategies() -> None:
    """What type checkers accept as the name of a strategy is what there is."""
    assert get_args(StrategyName) == tuple(strategy.value for strategy in Strategy)


# --- precedence ------------------------------------------------------------------------------------------------------


def test_a_call_takes_what_it_is_not_given_from_the_session() -> None:
    """Strategy, chunk size, retries and grace come from the session unless the call names them."""
    config = ParallelConfig(strategy=Strategy.PROCESSES, chunk_size=9, retries=4, grace_s=0.5, workers=3)
    options = resolve_options(config, {}, MAP_OPTIONS, is_consent=False)
    assert options == CallOptions(strategy=Strategy.PROCESSES, chunk_size=9, retries=4, grace_s=0.5)
    given_ = {"strategy": "serial", "chunk_size": 1, "retries": 0, "grace_s": 0, "workers": 2, "label": "x", "seed": 5}
    asked = resolve_options(config, given_, MAP_OPTIONS, is_consent=False)
    assert asked == CallOptions(
        strategy=Strategy.SERIAL, is_consent=True, chunk_size=1, retries=0, grace_s=0.0, workers=2, label="x", seed=5
    )


@pytest.mark.parametrize(
    ("given_", "session", "consent"),
    [({"strategy": "threads"}, False, True), ({}, True, True), ({}, False, False), ({"label": "x"}, False, False)],
)
def test_consent_is_an_argument(given_: dict[str, Any], session: bool, consent: bool) -> None:
    """A strategy that a call or its session names is consent; one from the environment is not."""
    assert resolve_options(CONFIG, given_, MAP_OPTIONS, is_consent=session).is_consent is consent


def test_keywords_before_config_before_environment_before_default() -> None:
    """A session's keyword beats its config, which beats the environment, which beats the default; each knows which."""
    config = ParallelConfig(workers=2, chunk_size=20)
    environment = {"workers": 3, "chunk_size": 30, "retries": 30}
    settings, sources = session_settings(config, {"workers": 1}, environment)
    assert (settings.workers, settings.chunk_size, settings.retries, settings.grace_s) == (1, 20, 30, 1.0)
    assert sources.pop("workers") is SettingSource.KEYWORD
    assert sources.pop("chunk_size") is SettingSource.CONFIG
    assert sources.pop("retries") is SettingSource.ENVIRONMENT
    assert set(sources.values()) == {SettingSource.DEFAULT}


@pytest.mark.parametrize(
    ("keyword", "config", "environment", "value", "source"),
    [
        (True, True, True, 1, SettingSource.KEYWORD),
        (True, False, False, 1, SettingSource.KEYWORD),
        (False, True, True, 2, SettingSource.CONFIG),
        (False, False, True, 3, SettingSource.ENVIRONMENT),
        (False, False, False, None, SettingSource.DEFAULT),
    ],
)
def test_a_setting_knows_its_source(
    keyword: bool, config: bool, environment: bool, value: int | None, source: SettingSource
) -> None:
    """Of the places that set it, the nearest gives a setting its value and is named as its source."""
    settings, sources = session_settings(
        ParallelConfig(chunk_size=2) if config else None,
        {"chunk_size": 1} if keyword else {},
        {"chunk_size": 3} if environment else {},
    )
    assert (settings.chunk_size, sources["chunk_size"]) == (value, source)


def test_a_keyword_that_is_the_default_beats_the_environment() -> None:
    """A keyword counts though it says what the default says; a config's value that is the default leaves the word to others."""
    environment = {"retries": 5}
    settings, sources = session_settings(None, {"retries": 1}, environment)
    assert (settings.retries, sources["retries"]) == (1, SettingSource.KEYWORD)
    settings, sources = session_settings(ParallelConfig(retries=1), {}, environment)
    assert (settings.retries, sources["retries"]) == (5, SettingSource.ENVIRONMENT)


def test_without_anything_the_defaults_hold() -> None:
    """A session without settings has the defaults, and every setting says so."""
    names = [field.name for field in fields(ParallelConfig)]
    assert session_settings(None, {}, {}) == (ParallelConfig(), dict.fromkeys(names, SettingSource.DEFAULT))


def test_variables_go_by_the_names_of_settings() -> None:
    """A setting's variable is its name in capitals; strategy's is the one that also takes on and off."""
    assert variable_of("grace_s") == "OFFLOOP_GRACE_S"
    assert variable_of("strategy") == "OFFLOOP_PARALLEL"


# --- local="never" ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["serial", "threads"])
def test_local_never_refuses_strategies_of_this_process(strategy: Any) -> None:
    """Where items may never run in this process, a strategy that does just that is refused, whoever names it."""
    never = ParallelConfig(local="never")
    with pytest.raises(SettingError, match='"auto" or "processes"') as found:
        ParallelConfig(local="never", strategy=strategy)
    assert (found.value.setting, found.value.value) == ("strategy", strategy)
    with pytest.raises(SettingError, match=f"^strategy='{strategy}': local=\"never\" keeps items out"):
        resolve_options(never, {"strategy": strategy}, MAP_OPTIONS, is_consent=False)
    with pytest.raises(SettingError, match=f"^strategy='{strategy}': "):
        session_settings(never, {"strategy": strategy}, {})
    with pytest.raises(SettingError, match=f"^strategy='{strategy}': "):
        session_settings(None, {"strategy": strategy}, {"local": "never"})
    with pytest.raises(SettingError, match=f"^OFFLOOP_PARALLEL='{strategy}': "):
        session_settings(never, {}, {"strategy": strategy})
    with pytest.raises(SettingError, match=f"^OFFLOOP_PARALLEL='{strategy}': "):
        session_settings(None, {}, {"strategy": strategy, "local": "never"})


@pytest.mark.parametrize("strategy", ["auto", "processes"])
def test_local_never_allows_what_keeps_out(strategy: Any) -> None:
    """Where items may never run in this process, strategies that can keep them out are fine."""
    assert ParallelConfig(local="never", strategy=strategy).strategy == strategy
    assert resolve_options(ParallelConfig(local="never"), {"strategy": strategy}, MAP_OPTIONS, is_consent=False).strategy == strategy


@pytest.mark.parametrize("strategy", ["auto", "serial", "threads", "processes"])
def test_local_allow_allows_all(strategy: Any) -> None:
    """By default every strategy is fine."""
    assert resolve_options(CONFIG, {"strategy": strategy}, MAP_OPTIONS, is_consent=False).strategy == strategy


def test_a_config_must_be_one() -> None:
    """What is passed for a config and isn't one is refused with what to pass."""
    with pytest.raises(SettingTypeError, match="pass a ParallelConfig"):
        session_settings(4, {}, {})  # type: ignore[arg-type]


@given(st.sampled_from(sorted(STREAM_OPTIONS)), st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary())
def test_options_are_kept_or_refused(name: str, value: object) -> None:
    """Whatever is given for an option, it is either kept or refused with a SettingError: nothing else is raised."""
    refused: list[str] = []
    kept: object = None
    try:
        kept = getattr(resolve_options(CONFIG, {name: value}, STREAM_OPTIONS, is_consent=False), name)
    except SettingError as error:
        refused.append(error.setting)
    is_default = (name, value, kept) == ("priority", None, "batch")
    assert refused == [name] or kept == value or str(kept) == str(value).lower() or is_default
