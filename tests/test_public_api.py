"""The public API: what `offloop` exports, and nothing else."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import offloop

NAMES = offloop.__all__


def reexports() -> dict[str, str]:
    """Return the name and home of every import for type checkers in the package's own module."""
    tree = ast.parse(Path(offloop.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    homes: dict[str, str] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, f"{alias.name} is no explicit re-export"
            homes[alias.name] = f".{node.module}"
    return homes


def public_methods(value: type) -> list[tuple[str, Any]]:
    """Return a class's own methods and properties that its users see."""
    return [
        (name, member)
        for name, member in vars(value).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property | classmethod))
    ]


def test_all_is_a_sorted_tuple() -> None:
    """`__all__` is a tuple, in order and without repetition."""
    assert isinstance(NAMES, tuple)
    assert sorted(set(NAMES)) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_importable(name: str) -> None:
    """Every exported name can be imported, and is the very object of the module that it lives in."""
    home = importlib.import_module(reexports()[name], "offloop")
    assert getattr(offloop, name) is getattr(home, name)


def test_type_checkers_see_the_same_names() -> None:
    """What type checkers are told is exported is what is exported."""
    assert tuple(sorted(reexports())) == NAMES


@pytest.mark.parametrize("used", ["", "offloop.run; offloop.ParallelSession; offloop.errors; "])
def test_dir_shows_the_names_alone(used: str) -> None:
    """`dir(offloop)` shows the exported names and no others, before and after they are used."""
    code = f"import offloop; {used}print(*[n for n in dir(offloop) if not n.startswith('_')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == list(NAMES)


def test_a_star_import_brings_the_names_alone() -> None:
    """`from offloop import *` brings the exported names and no others."""
    namespace: dict[str, object] = {}
    exec("from offloop import *", namespace)
    assert namespace.keys() - {"__builtins__"} == set(NAMES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that isn't exported is an AttributeError that says so, so that hasattr and getattr work."""
    with pytest.raises(AttributeError, match="'offloop' has no attribute 'run_paralel'"):
        offloop.run_paralel  # noqa: B018
    assert not hasattr(offloop, "Session")


@pytest.mark.parametrize("name", NAMES)
def test_every_public_object_is_documented(name: str) -> None:
    """Every exported object has a docstring of its own, and so have its public methods."""
    value = getattr(offloop, name)
    documented = [(name, value)]
    if inspect.isclass(value):
        assert "__doc__" in vars(value)
        documented += [(f"{name}.{method}", member) for method, member in public_methods(value)]
    for where, thing in documented:
        assert (thing.__doc__ or "").strip(), where
        assert not thing.__doc__.startswith(f"{name}("), f"{where} has only the docstring that dataclass makes"


def test_the_version_is_one() -> None:
    """`__version__` is a version number as packaging tools read it."""
    assert re.fullmatch(r"\d+\.\d+\.\d+([.\w+-]*)", offloop.__version__)


def test_errors_are_caught_by_one_base() -> None:
    """Every exported exception derives from OffloopError, except the one that must pass `except Exception`."""
    exceptions = [v for v in map(offloop.__getattr__, NAMES) if isinstance(v, type) and issubclass(v, BaseException)]
    assert len(exceptions) > 10
    assert {e for e in exceptions if not issubclass(e, offloop.OffloopError)} == {offloop.TaskCancelled}
    assert not issubclass(offloop.TaskCancelled, Exception)
