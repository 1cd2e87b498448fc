"""The executor cases of CPython's test_concurrent_futures, on the executor of a session.

Prints how many passed and which failed. Fails if one fails that cpython_executor_failures.toml doesn't list, if a listed one passes,
or if fewer than 95 of 100 of those pass that look at nothing but what is public. ``--peer`` runs them on the standard library's own.
The tests are those of the interpreter; ``--tests`` names the folder that has them where it comes without.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import faulthandler
import importlib
import os
import sys
import tomllib
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import test

from .cpython_pool import ProcessPoolExecutor

HERE = Path(__file__).parent
LEAST = 0.95
TEST_S = 120
NAME = "test.test_concurrent_futures"
PARTS = ("as_completed", "deadlock", "init", "process_pool", "shutdown", "wait")  # of the package, since 3.12
PRIVATE = "private"  # the table's name for those that look at what isn't public


def modules() -> Iterator[Any]:
    """Import what has the tests: one module, or since 3.12 a package of them."""
    try:
        whole = importlib.import_module(NAME)
    except ModuleNotFoundError as error:
        sys.exit(f"{error}: this interpreter comes without its tests; name a folder that has them by --tests")
    if not hasattr(whole, "__path__"):
        yield whole
        return
    for part in PARTS:
        yield importlib.import_module(f"{NAME}.test_{part}")


def cases(module: Any, pool: type[Any] | None) -> Iterator[unittest.TestCase]:
    """Yield the tests of process pools, of one start method: workers of a session are spawned."""
    found = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, unittest.TestCase)]
    for case in found:
        if getattr(case, "ctx", None) != "spawn":
            continue
        if pool is not None:
            case.executor_type = pool  # type: ignore[attr-defined]
        yield from unittest.defaultTestLoader.loadTestsFromTestCase(case)  # type: ignore[misc]


def in_children(module: Any, folder: str | None) -> None:
    """Have the programs that tests start find this pool too."""
    real = getattr(module, "assert_python_ok", None)
    if real is None:
        return
    root = os.fspath(HERE.parent.parent)
    begin = (
        f"import sys, test, concurrent.futures; sys.path.insert(0, {root!r}); test.__path__.extend({[folder] if folder else []!r})\n"
        "from tests.compatibility.cpython_pool import ProcessPoolExecutor\n"
        f"ProcessPoolExecutor.folder = {folder!r}; concurrent.futures.ProcessPoolExecutor = ProcessPoolExecutor\n"
    )
    module.assert_python_ok = lambda option, code: real(option, begin + code)


class Told(unittest.TextTestResult):
    """Ends the whole where one test takes for ever."""

    def startTest(self, case: unittest.TestCase) -> None:
        faulthandler.dump_traceback_later(TEST_S, exit=True)
        super().startTest(case)

    def stopTest(self, case: unittest.TestCase) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(case)


def main() -> None:
    """Run the tests and exit with 1 if they are not as the table says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", metavar="FOLDER", help="has test_concurrent_futures, of the interpreter's own version")
    parser.add_argument("--peer", action="store_true", help="on ProcessPoolExecutor instead")
    parser.add_argument("-k", metavar="PART", default="", help="only tests whose id has this in it")
    options = parser.parse_args()
    folder = os.path.abspath(options.tests) if options.tests else None
    if folder is not None:
        test.__path__.append(folder)
    pool = None if options.peer else ProcessPoolExecutor
    suite, known = unittest.TestSuite(), dict[str, list[str]]()
    for module in modules():
        suite.addTests(case for case in cases(module, pool) if options.k in case.id())
        if pool is not None:
            in_children(module, folder)
    if pool is not None:
        ProcessPoolExecutor.folder = folder
        concurrent.futures.ProcessPoolExecutor = ProcessPoolExecutor  # type: ignore[misc, assignment]
        known = tomllib.loads((HERE / "cpython_executor_failures.toml").read_text(encoding="utf-8"))
    result = unittest.TextTestRunner(sys.stderr, verbosity=2, resultclass=Told).run(suite)
    failed = {_short(case): told.splitlines()[-1] for case, told in (*result.failures, *result.errors)}
    problems = judged(result.testsRun - len(result.skipped), failed, known, is_whole=not options.k)
    print("\n".join(f"  {problem}" for problem in problems))
    sys.exit(bool(problems) and not options.peer)


def judged(n_run: int, failed: dict[str, str], known: dict[str, list[str]], *, is_whole: bool) -> list[str]:
    """What is not as it should be, after a line of counts."""
    listed = {name for names in known.values() for name in names}
    private = [name for name in known.get(PRIVATE, []) if name in failed]
    n_public, n_failed = n_run - len(private), len(failed) - len(private)
    print(f"{n_public - n_failed} of {n_public} passed; {len(private)} more look at what is private, and failed")
    problems = [f"failed, and isn't listed: {name}: {told}" for name, told in failed.items() if name not in listed]
    if is_whole:
        problems += [f"listed, and didn't fail: {name}" for name in sorted(listed - failed.keys())]
    if n_public == 0 or n_failed > (1 - LEAST) * n_public:
        problems.append(f"{n_failed} of {n_public} have failed")
    return problems


def _short(case: unittest.TestCase) -> str:
    """The name of a test's class and its own: the modules are others in other versions."""
    return ".".join(case.id().split(".")[-2:])


if __name__ == "__main__":
    main()
