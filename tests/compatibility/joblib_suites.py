"""joblib's own backend tests, and scikit-learn's of what is parallel, on offloop's backend.

Prints per suite how many tests passed. Fails if one fails that joblib_failures.toml doesn't list with its cause, if a suite ends
before its time, or if fewer than 95 of 100 pass. A listed one may pass, as some do where there are more cores. ``--peer`` runs them on
joblib's loky instead and fails for nothing: it shows which tests fail by themselves here.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
LEAST = 0.95
TEST_S, SUITE_S = 120, 1800


@dataclass(frozen=True)
class Suite:
    """Test modules of one package, and in which way they get offloop's backend, or joblib's loky; see the plugin."""

    package: str
    way: str
    peers_way: str
    modules: tuple[str, ...]


SUITES = {
    "joblib": Suite("joblib", "loky", "untouched", ("test.test_parallel", "test.test_config")),
    "sklearn": Suite(
        "sklearn",
        "config",
        "peer",
        (
            "utils.tests.test_parallel",
            *(f"ensemble.tests.test_{name}" for name in ("bagging", "forest", "iforest", "voting")),
            *(f"model_selection.tests.test_{name}" for name in ("search", "validation")),
            "inspection.tests.test_permutation_importance",
            *(f"feature_selection.tests.test_{name}" for name in ("rfe", "mutual_info")),
            *("compose.tests.test_column_transformer", "covariance.tests.test_graphical_lasso"),
            *("cluster.tests.test_mean_shift", "manifold.tests.test_mds", "tests.test_multioutput"),
        ),
    ),
}


def main() -> None:
    """Run the chosen suites and exit with 1 if one isn't as its table says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default all")
    parser.add_argument("--peer", action="store_true", help="on joblib's loky instead")
    options = parser.parse_args()
    known = tomllib.loads((HERE / "joblib_failures.toml").read_text(encoding="utf-8"))
    is_good = True
    for name in options.suites or SUITES:
        suite = SUITES[name]
        outcomes, code = outcomes_of(suite, suite.peers_way if options.peer else suite.way)
        listed = {test: cause for cause, tests in known.get(name, {}).items() for test in tests}
        problems = judged(outcomes, code, {} if options.peer else listed)
        counts = Counter(told["outcome"] for told in outcomes.values())
        print(f"{name}: {', '.join(f'{n} {outcome}' for outcome, n in sorted(counts.items()))}")
        for line in problems + [f"passed, though listed: {test}" for test in listed if outcomes.get(test, {}).get("outcome") == "passed"]:
            print(f"  {line}", flush=True)
        is_good &= options.peer or not problems
    sys.exit(not is_good)


def outcomes_of(suite: Suite, way: str) -> tuple[dict[str, dict[str, str]], int]:
    """Run a suite in a process of its own; what became of each test by its id, and pytest's exit code."""
    spec = importlib.util.find_spec(suite.package)
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    files = [str(root.joinpath(*module.split(".")).with_suffix(".py")) for module in suite.modules]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        told.touch()
        environ = os.environ | {
            "OFFLOOP_COMPATIBILITY": str(told),
            "OFFLOOP_COMPATIBILITY_AS": way,
            "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        }
        arguments = ["-p", "joblib_plugin", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "-c", os.devnull]
        arguments += ["--rootdir", str(root.parent), f"--timeout={TEST_S}", "-q", "--no-header", "--tb=line", *files]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            env=environ, cwd=folder, stdin=subprocess.DEVNULL, timeout=SUITE_S, check=False,
            stdout=sys.stderr,
        )  # fmt: skip
        lines = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    return {line["id"].removeprefix("../"): line for line in lines}, done.returncode


def judged(outcomes: dict[str, dict[str, str]], code: int, listed: dict[str, str]) -> list[str]:
    """What is not as it should be."""
    failed = {test: told["message"] for test, told in outcomes.items() if told["outcome"] == "failed"}
    n_run = sum(told["outcome"] in ("passed", "failed") for told in outcomes.values())
    problems = [f"failed, and isn't listed: {test}: {message}" for test, message in failed.items() if test not in listed]
    if code not in (0, 1):
        problems.append(f"pytest has ended with {code}")
    if n_run == 0 or len(failed) > (1 - LEAST) * n_run:
        problems.append(f"{len(failed)} of {n_run} have failed")
    return problems


if __name__ == "__main__":
    main()
