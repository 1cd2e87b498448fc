"""Which event loops the faults of the transport are tried on."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out uvloop where asyncio has had the same test: to the transport they are one, and each test takes a while."""
    left_out = [item for item in items if item.path.stem.startswith("test_transport_") and "uvloop" in item.name]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
