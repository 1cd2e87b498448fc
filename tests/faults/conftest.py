"""Which faults of the transport are tried on which event loop and over which transport, and the account of all faults.

By default those that could tell something new, to keep the whole within minutes; with ALL_TRANSPORTS=1 all.
"""

from __future__ import annotations

import os
import re

import pytest

from .ledger import Ledger

# Cancelling is the event loop's affair, other faults are the transport's, so that each is tried with the usual one of the
# other; an unlinked file is a memory file to it.
_LEFT_OUT = {"test_transport_cancelled": {"uvloop", "file"}}
_USUALLY_LEFT_OUT = {"uvloop", "trio", "file"}


def pytest_configure(config: pytest.Config) -> None:
    """Keep account of the faults that tests of all folders are for."""
    config.pluginmanager.register(Ledger())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the same test has shown already."""
    if os.environ.get("ALL_TRANSPORTS"):
        return
    left_out = [item for item in items if item.path.stem.startswith("test_transport_") and _is_told(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _is_told(item: pytest.Item) -> bool:
    said = set(re.split(r"[-\[\]]", item.name))
    if {"trio", "portable"} <= said:
        return True
    return not said.isdisjoint(_LEFT_OUT.get(item.path.stem, _USUALLY_LEFT_OUT))
