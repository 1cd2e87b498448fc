"""The pytest plugin that puts offloop's backend in the place of joblib's own, and writes down what became of each test.

``OFFLOOP_COMPATIBILITY`` names the file for that, one line of JSON per test; ``OFFLOOP_COMPATIBILITY_AS`` how: ``loky`` has
``Parallel(backend="loky")`` and joblib's default be offloop's, as joblib's own tests need it, with one job by default as
loky has; ``config`` has everything under
``parallel_config("offloop")``; ``peer`` everything under ``parallel_config("loky", n_jobs=2)``; ``untouched`` nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from joblib import parallel

_told: dict[str, dict[str, str]] = {}


def pytest_configure() -> None:
    """Register the backend, before any test module is imported."""
    way = os.environ["OFFLOOP_COMPATIBILITY_AS"]
    if way == "untouched":
        return
    if way == "peer":
        parallel.parallel_config("loky", n_jobs=2)
        return
    from offloop.adapters.joblib import OffloopBackend

    if way == "config":
        parallel.parallel_config("offloop")  # until the process ends
        return
    parallel.BACKENDS["loky"] = type("LokyBackend", (OffloopBackend,), {"default_n_jobs": 1})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what became of a test; its worst part counts."""
    outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
    if report.when == "call" or outcome != "passed":
        before = _told.get(report.nodeid)
        if before is None or before["outcome"] != "failed":
            crash = getattr(report.longrepr, "reprcrash", None)
            message = "" if crash is None else crash.message.partition("\n")[0][:300]
            _told[report.nodeid] = {"id": report.nodeid, "outcome": outcome, "message": message}


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Write it down at once: the next test may end the process."""
    told = _told.pop(nodeid, None)
    if told is not None:
        with Path(os.environ["OFFLOOP_COMPATIBILITY"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")
