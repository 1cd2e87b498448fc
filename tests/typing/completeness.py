"""Says which names of the public API have no type that every checker reads the same way.

    pyright --verifytypes offloop --ignoreexternal --outputjson > report.json; python completeness.py report.json

pyright counts every module that doesn't begin with an underscore. What counts here is what `offloop.__all__` names, with
all members, and that no symbol at all is of unknown type.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import offloop

OF_UNTYPED = {"OffloopBackend", "WorkerBackend"}  # classes whose base has no types: joblib brings none

def public_prefixes() -> tuple[str, ...]:
    """Return the full names under which pyright knows the public API."""
    homes = {name: getattr(getattr(offloop, name), "__module__", "offloop") for name in offloop.__all__}
    return tuple(f"{home}.{name}" for name, home in homes.items()) + tuple(f"offloop.{name}" for name in homes)


def is_public(symbol: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a symbol is one of the names, or a member of one."""
    return any(symbol == prefix or symbol.startswith(f"{prefix}.") for prefix in prefixes)


def gaps(report: dict[str, Any]) -> list[str]:
    """Return one line for each symbol that should have a plain type and has none."""
    prefixes = public_prefixes()
    symbols = report["typeCompleteness"]["symbols"]
    lines: list[str] = []
    for symbol in symbols:
        if not symbol["isExported"]:
            continue
        if symbol["isTypeAmbiguous"]:  # checkers may infer it each in its own way
            if is_public(symbol["name"], prefixes):
                lines.append(f"not annotated: {symbol['name']}")
        elif not symbol["isTypeKnown"] and symbol["name"].rpartition(".")[2] not in OF_UNTYPED:
            lines.append(f"unknown: {symbol['name']}")
    return lines


def main() -> int:
    """Print the gaps and the score; 1 if there are any gaps."""
    with open(sys.argv[1], encoding="utf-8") as file:
        report = json.load(file)
    found = gaps(report)
    print(*found, sep="\n")
    print(f"{len(found)} gaps; pyright's own score: {report['typeCompleteness']['completenessScore']:.1%}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
