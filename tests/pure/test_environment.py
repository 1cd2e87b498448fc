"""sensing/environment.py: the settings that OFFLOOP_* variables carry."""

from __future__ import annotations

import warnings
from dataclasses import fields
from typing import Any

import pytest

from offloop.errors import SettingError
from offloop.model import Strategy
from offloop.sensing.environment import VARIABLES, Environment, sense_environment
from offloop.settings import ParallelConfig

GOOD: list[tuple[str, str, str, Any]] = [
    ("OFFLOOP_WORKERS", "3", "workers", 3),
    ("OFFLOOP_WORKERS", "-1", "workers", -1),
    ("OFFLOOP_WORKERS", " 4 ", "workers", 4),
    ("OFFLOOP_CHUNK_SIZE", "16", "chunk_size", 16),
    ("OFFLOOP_MIN_SPEEDUP", "1.5", "min_speedup", 1.5),
    ("OFFLOOP_RETRIES", "0", "retries", 0),
    ("OFFLOOP_GRACE_S", "0.25", "grace_s", 0.25),
    ("OFFLOOP_GRACE_S", "2E-1", "grace_s", 0.2),
    ("OFFLOOP_MAX_ITEMS_PER_WORKER", "1000", "max_items_per_worker", 1000),
    ("OFFLOOP_WORKER_MAX_RSS_BYTES", "2000000000", "worker_max_rss_bytes", 2_000_000_000),
    ("OFFLOOP_IDLE_TIMEOUT_S", "5", "idle_timeout_s", 5.0),
    ("OFFLOOP_WORKER_NICE", "0", "worker_nice", 0),
    ("OFFLOOP_TRANSPORT", "file", "transport", "file"),
    ("OFFLOOP_MAX_IN_FLIGHT_BYTES", "1000000", "max_in_flight_bytes", 1_000_000),
    ("OFFLOOP_MAX_PENDING", "64", "max_pending", 64),
    ("OFFLOOP_MAX_PENDING_BYTES", "1000000", "max_pending_bytes", 1_000_000),
    ("OFFLOOP_MAX_WAIT_S", "0.5", "max_wait_s", 0.5),
    ("OFFLOOP_LOCAL", "Never", "local", "never"),
    ("OFFLOOP_PARALLEL", "serial", "strategy", Strategy.SERIAL),
    ("OFFLOOP_PARALLEL", "Threads", "strategy", Strategy.THREADS),
    ("OFFLOOP_PARALLEL", " PROCESSES ", "strategy", Strategy.PROCESSES),
    ("OFFLOOP_PARALLEL", "auto", "strategy", Strategy.AUTO),
]


@pytest.mark.parametrize(("variable", "value", "setting", "sensed"), GOOD)
def test_each_variable_changes_its_setting(variable: str, value: str, setting: str, sensed: Any) -> None:
    """Each variable changes the setting of its name and no other, whatever the case of its value."""
    assert sense_environment({variable: value}) == Environment({setting: sensed})
    assert getattr(ParallelConfig(**{setting: sensed}), setting) == sensed


@pytest.mark.parametrize(("variable", "value", "setting", "sensed"), GOOD)
def test_the_case_of_a_name_does_not_matter(variable: str, value: str, setting: str, sensed: Any) -> None:
    """A variable written in small letters sets what the one in capitals does."""
    assert sense_environment({variable.lower(): value, "path": "/bin"}) == Environment({setting: sensed})
    assert sense_environment({variable.title(): value}) == Environment({setting: sensed})


def test_of_two_spellings_the_one_in_capitals_holds() -> None:
    """Where a name is there twice, which of them counts doesn't hang on the order of the environment."""
    for environ in ({"offloop_workers": "2", "OFFLOOP_WORKERS": "3"}, {"OFFLOOP_WORKERS": "3", "offloop_workers": "2"}):
        assert sense_environment(environ) == Environment({"workers": 3})


def test_every_setting_has_a_variable() -> None:
    """Every setting that is text or a number can be set by the environment, and each of them is tried above."""
    code = {"worker_init", "worker_init_args"}
    settings = {f.name for f in fields(ParallelConfig)} - code
    assert {setting for _, _, setting, _ in GOOD} == settings
    assert {variable.setting for variable in VARIABLES.values()} == settings
    assert {variable for variable, _, _, _ in GOOD} == set(VARIABLES)


@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_says_what_it_means(name: str) -> None:
    """Each variable has what its setting's documentation says, on one line and no more than that, and what it accepts."""
    variable = VARIABLES[name]
    assert variable.meaning.endswith(".")
    assert variable.meaning in " ".join((ParallelConfig.__doc__ or "").split())
    others = {f"{f.name}: " for f in fields(ParallelConfig)}
    assert not any(other in variable.meaning for other in others)
    assert variable.accepts


def test_a_meaning_of_several_lines_is_whole() -> None:
    """What the documentation of a setting says on several lines belongs to its variable."""
    meaning = VARIABLES["OFFLOOP_WORKER_NICE"].meaning
    assert meaning.startswith("How much lower the scheduling priority")
    assert meaning.endswith("10 and 19 added nothing.")


@pytest.mark.parametrize(
    ("word", "is_off", "lifts_ci"), [("off", True, False), ("OFF", True, False), ("on", False, True), (" On ", False, True)]
)
def test_off_and_on_are_no_strategies(word: str, is_off: bool, lifts_ci: bool) -> None:
    """`off` and `on` are the operator's word, and leave the strategy setting alone."""
    assert sense_environment({"OFFLOOP_PARALLEL": word}) == Environment({}, is_off, lifts_ci)


@pytest.mark.parametrize("environ", [{}, {"PATH": "/bin", "OFFLOOPWORKERS": "x", "MY_OFFLOOP_WORKERS": "x"}])
def test_other_variables_are_none_of_its_business(environ: dict[str, str]) -> None:
    """Variables of others are neither read nor warned of."""
    assert sense_environment(environ) == Environment({})


@pytest.mark.parametrize("variable", sorted({variable for variable, _, _, _ in GOOD}))
@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_is_one_that_is_not_set(variable: str, value: str) -> None:
    """A variable that a deployment leaves empty changes nothing."""
    assert sense_environment({variable: value}) == Environment({})


@pytest.mark.parametrize(
    ("variable", "value", "advice"),
    [
        ("OFFLOOP_WORKERS", "0", 'strategy="serial"'),
        ("OFFLOOP_WORKERS", "-2", "-1 for all usable cores"),
        ("OFFLOOP_WORKERS", "auto", "number"),
        ("OFFLOOP_WORKERS", "2.9", "number"),
        ("OFFLOOP_CHUNK_SIZE", "0", "1 or more"),
        ("OFFLOOP_MIN_SPEEDUP", "0.5", "at least 1"),
        ("OFFLOOP_MIN_SPEEDUP", "nan", "finite"),
        ("OFFLOOP_RETRIES", "-1", "0 or more"),
        ("OFFLOOP_GRACE_S", "inf", "finite"),
        ("OFFLOOP_GRACE_S", "1s", "number"),
        ("OFFLOOP_MAX_ITEMS_PER_WORKER", "0", "1 or more"),
        ("OFFLOOP_MAX_ITEMS_PER_WORKER", "many", "number"),
        ("OFFLOOP_WORKER_MAX_RSS_BYTES", "-1", "1 or more"),
        ("OFFLOOP_WORKER_MAX_RSS_BYTES", "2GB", "number"),
        ("OFFLOOP_IDLE_TIMEOUT_S", "0", "above 0"),
        ("OFFLOOP_WORKER_NICE", "-5", "0 or more"),
        ("OFFLOOP_LOCAL", "perhaps", '"allow" or "never"'),
        ("offloop_local", "no", '"allow" or "never"'),
        ("offloop_Parallel", "Thread", "did you mean threads?"),
        ("OFFLOOP_PARALLEL", "of", "did you mean off?"),
        ("OFFLOOP_PARALLEL", "process", "did you mean processes?"),
        ("OFFLOOP_PARALLEL", "1", "off, on, auto, serial, threads, processes"),
    ],
)
@pytest.mark.fault(54)
def test_a_value_that_cannot_work_is_refused(variable: str, value: str, advice: str) -> None:
    """A value that can't work is refused at once; the error names the variable as written, its value and what to write."""
    with pytest.raises(SettingError) as found:
        sense_environment({variable: value})
    assert (found.value.setting, found.value.value) == (variable, value)
    assert advice in str(found.value)


@pytest.mark.parametrize(
    ("variable", "guess"),
    [
        ("OFFLOOP_WORKER", "OFFLOOP_WORKERS"),
        ("OFFLOOP_CHUNKSIZE", "OFFLOOP_CHUNK_SIZE"),
        ("OFFLOOP_PARALEL", "OFFLOOP_PARALLEL"),
        ("offloop_graces", "OFFLOOP_GRACE_S"),
    ],
)
@pytest.mark.fault(54)
def test_a_misspelt_variable_is_warned_of(variable: str, guess: str) -> None:
    """A variable with our prefix that doesn't exist is warned of by name, with the nearest that does; it sets nothing."""
    with pytest.warns(UserWarning, match=f"^{variable} is no setting of offloop; did you mean {guess}"):
        assert sense_environment({variable: "3"}) == Environment({})


def test_what_has_only_the_prefix_resembles_none() -> None:
    """A variable that is like no other but for the prefix is not taken for one."""
    with pytest.warns(UserWarning, match=r"OFFLOOP_TOKEN is no setting of offloop; there are OFFLOOP_"):
        sense_environment({"OFFLOOP_TOKEN": "3"})


def test_a_right_variable_is_not_warned_of() -> None:
    """A variable that exists is no cause for a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sense_environment({variable: value for variable, value, _, _ in GOOD})


def test_what_is_for_the_terminal_is_no_setting() -> None:
    """A variable that commands and the line of progress go by is neither read nor warned of."""
    assert sense_environment({"OFFLOOP_ASCII": "1", "offloop_ascii": "0"}).settings == {}
