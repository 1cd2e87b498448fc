"""What one sample of a figure of branches or doors does, by the figure's name, imported only when it is played."""

import importlib
from typing import Any

DOORS = {
    "executor": ("executor", "executor"),
    "grid_search": ("grid_search", "grid_search"),
    "run_branches": ("branches", "run_branches"),
    "optuna_forests": ("studies", "study"),
    "optuna_pls": ("studies", "study"),
}
DOORS_FROM_SCRATCH = {
    "nesting": ("nesting", "nesting"),
    "run_branches": ("branches", "run_branches_cold"),
}


def door(home: tuple[str, str]) -> Any:
    """Return the scenario that is at home there."""
    module, name = home
    return getattr(importlib.import_module(f".{module}", __package__), name)
