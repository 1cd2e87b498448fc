"""pool/semaphores.py: who takes names out of /dev/shm, and when that is left to the interpreter's end."""

from __future__ import annotations

from multiprocessing import util

import pytest

from offloop.pool import semaphores


def test_names_are_left_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the interpreter is ending nobody begins to take names out, for they might not come to the end of it; before that each is once."""
    monkeypatch.setattr(semaphores, "_is_left_to_the_end", False)
    taken: list[str] = []
    finalizers = [util.Finalize(None, taken.append, (f"/loky-test-{number}",), exitpriority=0) for number in range(2)]
    semaphores.unlink({"/loky-test-0"})
    semaphores.unlink({"/loky-test-0"})
    assert taken == ["/loky-test-0"]
    semaphores.leave_to_the_end()
    semaphores.unlink({"/loky-test-1"})
    assert taken == ["/loky-test-0"]
    assert [finalizer.still_active() for finalizer in finalizers] == [False, True]
    finalizers[1].cancel()
