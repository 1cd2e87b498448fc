"""Plans: what calls of one function with the same options share, kept where the function goes by its name."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

from .functions import check_function
from .options import RUN_OPTIONS, CallOptions, check_label, check_progress, resolve_options
from .settings import ParallelConfig
from .strategies.base import Initializer, Job, TimeLimit
from .wire.frames import Flag
from .wire.pickling import describe_function, travels_by_name

_MAX_PLANS = 1024
_NAMED = (FunctionType, BuiltinFunctionType)

_run_numbers = itertools.count(1)


class Plan(NamedTuple):
    """What calls of one function with the same options share.

    Attributes:
        options: The options.
        job: The function as it travels; None where it may carry data, so that it must be pickled at each call.
        code: The function's code then: a reload may put another one into the same function.
    """

    options: CallOptions
    job: Job | None
    code: object = None


class Plans:
    """The plans of a session.

    Args:
        config: Its settings.
        is_consent: Whether its own strategy is consent to run fn in several threads.
        initializer: worker_init for this process.
    """

    def __init__(self, config: ParallelConfig, is_consent: bool, initializer: Initializer) -> None:
        self._config, self._is_consent, self._initializer = config, is_consent, initializer
        self._plans: dict[Any, Plan] = {}  # by function and options

    def of(self, fn: Any, given: Any, allowed: frozenset[str]) -> Plan:
        """Prepare what calls of a function with these options share, and keep it if the function goes by its name.

        Raises:
            AsyncFunctionError: fn is async.
            SettingError: An option's value can't work.
        """
        label = given.get("label")
        if isinstance(label, str) or "progress" in given:  # they may be others for each call
            common = self.of(fn, {name: value for name, value in given.items() if name not in ("label", "progress")}, allowed)
            options = replace(common.options, label=check_label(label), progress=check_progress(given.get("progress")))
            return common._replace(options=options)
        key = (fn, allowed, *given.items())
        try:
            plan = self._plans.get(key) if type(fn) in _NAMED else None
        except TypeError:  # the value of an option can't be hashed; `resolve_options` says what is wrong with it
            plan = None
        if plan is not None and plan.code is getattr(fn, "__code__", None):
            return plan
        check_function(fn)
        options = resolve_options(self._config, given, allowed, is_consent=self._is_consent)
        if not travels_by_name(fn):
            return Plan(options, None)
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        job = None
        if options.seed is None:
            job = self.job(fn, fn, Flag.STAR if allowed is RUN_OPTIONS else 0, options)
        plan = self._plans[key] = Plan(options, job, getattr(fn, "__code__", None))
        return plan

    def job(self, fn: Any, called: Any, flags: int, options: CallOptions) -> Job:
        """Return a job.

        Args:
            fn: The function, as the user gave it.
            called: What is called in its place.
            flags: How items are passed, see `Flag`.
            options: The options of the call.
        """
        limit_s = options.item_timeout_s
        limit = None if limit_s is None else TimeLimit(limit_s, options.grace_s)
        return Job(next(_run_numbers), called, describe_function(fn), flags, self._initializer, limit)
