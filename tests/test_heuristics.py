"""docs/explanation/heuristics.md has every number that steers offloop as it is in the code; lineage.md names what there is."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "offloop"
EXPLANATION = ROOT / "docs" / "explanation"
PAGE = (EXPLANATION / "heuristics.md").read_text(encoding="utf-8")
DEFAULTS = {"Host", "ParallelConfig"}  # classes whose fields' defaults are such numbers too
TOOLS = {"bench", "cli", "testing"}  # they steer no run
UNITS = {"s": 1, "ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 1e3, "MB": 1e6, "GB/s": 1e9}


def numbers_of(path: Path) -> dict[str, Any]:
    """Return the numbers, and tuples of them, that a module gives names in capitals, or fields of `DEFAULTS`."""
    module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    known: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for prefix, name, value in assignments(ast.parse(path.read_text(encoding="utf-8")), ()):
        try:
            number = eval(compile(ast.Expression(value), str(path), "eval"), {"__builtins__": {}}, known)
        except (NameError, AttributeError, TypeError):
            continue
        known[name] = number
        if is_number(number) or (isinstance(number, tuple) and number and all(map(is_number, number))):
            found[".".join((module, *prefix, name))] = number
    return found


def is_number(value: object) -> bool:
    """Whether it is a number, and not a yes or no."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def assignments(node: ast.AST, classes: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, ast.expr]]:
    """Yield the classes around, the name and the value of each constant; what is ``Final`` in a class is a code of the protocol."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from assignments(child, (*classes, child.name))
        elif isinstance(child, ast.If | ast.Try):
            yield from assignments(child, classes)
        elif isinstance(child, ast.Assign):
            for target in child.targets:
                pairs = [(target, child.value)]
                if isinstance(target, ast.Tuple) and isinstance(child.value, ast.Tuple):
                    pairs = list(zip(target.elts, child.value.elts, strict=True))
                for one, value in pairs:
                    if isinstance(one, ast.Name) and one.id.isupper():
                        yield classes, one.id, value
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name) and child.value is not None:
            is_field = bool(classes) and classes[-1] in DEFAULTS
            if is_field or (child.target.id.isupper() and not (classes and ast.unparse(child.annotation) == "Final")):
                yield classes, child.target.id, child.value


def read(name: str, text: str) -> float | tuple[float, ...]:
    """Return the number that a cell of the page tells, in the unit that the constant has in the code."""
    parts = [one(name, part) for part in re.split(r", | and ", text)]
    return parts[0] if len(parts) == 1 else tuple(parts)


def one(name: str, text: str) -> float:
    """Return one number of a cell."""
    number, _, unit = text.replace(",", "").partition(" ")
    base, _, power = number.partition("^")
    value = int(base) ** int(power) if power else float(base)
    scale = 1e-9 if name.endswith("_NS") else 1e-3 if name.endswith("_MS") else 1
    return value * UNITS[unit] / scale if unit in UNITS else value


MODULES = [path for path in sorted(SOURCE.rglob("*.py")) if path.relative_to(SOURCE).parts[0] not in TOOLS]
NUMBERS = {name: value for path in MODULES for name, value in numbers_of(path).items()}
ROWS = {row[1]: row[2] for row in re.finditer(r"^\| `([\w.]+)` \| ([^|]+?) \|", PAGE, re.MULTILINE)}


def test_every_number_has_its_row() -> None:
    """Each constant of the code stands on the page, with what it does and where it comes from, and nothing else does."""
    missing = "\n".join(f"| `{name}` | {NUMBERS[name]!r} | what it does | where it comes from |" for name in NUMBERS.keys() - ROWS.keys())
    assert not missing, f"write into docs/explanation/heuristics.md:\n{missing}"
    assert ROWS.keys() <= NUMBERS.keys()


def test_every_row_has_the_number_of_today() -> None:
    """What the page says a constant is, it is."""
    said = {name: read(name, text) for name, text in ROWS.items() if name in NUMBERS}
    assert {name: (number, NUMBERS[name]) for name, number in said.items() if not is_same(number, NUMBERS[name])} == {}


def is_same(said: Any, number: Any) -> bool:
    """Whether two numbers, or tuples of them, are equal but for the rounding of their unit."""
    if isinstance(number, tuple):
        return len(said) == len(number) and all(map(is_same, said, number))
    return bool(said == number or math.isclose(said, number, rel_tol=1e-9))


def test_every_row_tells_where_the_number_comes_from() -> None:
    """No cell of a row is empty."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
    assert [row for row in rows if len(row) not in (3, 4) or not all(cell.strip() for cell in row)] == []


def test_lineage_tells_where_rules_live_now() -> None:
    """The modules and constants in which a rule of old lives on are there."""
    lines = (EXPLANATION / "lineage.md").read_text(encoding="utf-8").splitlines()
    now = " ".join(line.strip("| ").rpartition(" | ")[2] for line in lines if line.startswith("| "))
    files = set(re.findall(r"`([\w/*]+\.py)`", now))
    assert len(files) > 10
    assert {file for file in files if not (any(SOURCE.glob(file)) or any(ROOT.glob(file)))} == set()
    constants = {name.rpartition(".")[2] for name in NUMBERS}
    assert {name for name in re.findall(r"`([A-Z][A-Z_]+)`", now) if not name.startswith("OFFLOOP_")} <= constants
