"""What a process forked from this one has to do before it goes on: forget what is its parent's."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_forked_child(forget: Callable[[], None]) -> Callable[[], None]:
    """Have a function called in every process that is forked from this one, where the platform forks; a decorator."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
    return forget
