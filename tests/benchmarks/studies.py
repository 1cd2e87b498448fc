"""Figures that aren't one table of contenders: each brings its own way to measure and to tell."""

import random
from argparse import Namespace
from collections.abc import Callable
from typing import Any, Protocol

Progress = Callable[[str], None]


class Study(Protocol):
    """Measures once, then tells."""

    name: str
    title: str

    def run(self, options: Namespace, chance: random.Random, progress: Progress) -> None:
        """Measure."""

    def lines(self) -> list[str]:
        """What was found, to read."""

    def record(self) -> dict[str, Any]:
        """What was found, for JSON; every sample."""
