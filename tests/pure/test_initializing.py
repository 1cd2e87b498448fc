"""initializing.py: worker_init in this process."""

from __future__ import annotations

import threading

import pytest

from offloop.errors import WorkerInitError
from offloop.initializing import LocalInitializer
from offloop.settings import ParallelConfig


def test_without_one_there_is_no_state() -> None:
    """Without worker_init the state is None."""
    assert LocalInitializer(ParallelConfig()).state() is None


def test_it_runs_once_and_late() -> None:
    """worker_init runs when it is first asked for, with its arguments, and never again."""
    calls: list[tuple[object, ...]] = []

    def init(*args: object) -> None:
        calls.append(args)

    initializer = LocalInitializer(ParallelConfig(worker_init=init, worker_init_args=(1, "b")))
    assert calls == []
    assert [initializer.state(), initializer.state()] == [None, None]
    assert calls == [(1, "b")]


def test_threads_share_one_state() -> None:
    """Threads that ask at once get the one object of one run."""
    gate = threading.Barrier(8)
    initializer = LocalInitializer(ParallelConfig(worker_init=object))
    states: list[object] = []

    def ask() -> None:
        gate.wait(10)
        states.append(initializer.state())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(states) == 8
    assert len(set(map(id, states))) == 1


@pytest.mark.parametrize("error", [ValueError("no model"), SystemExit(3)])
def test_a_failure_names_it_and_may_be_tried_again(error: BaseException) -> None:
    """A worker_init that raises is an error that names it and what it raised; the next item tries again."""
    failures = [error]

    def load() -> str:
        if failures:
            raise failures.pop()
        return "model"

    initializer = LocalInitializer(ParallelConfig(worker_init=load))
    with pytest.raises(WorkerInitError, match=rf"(?s)load failed .*cause: {type(error).__name__}") as found:
        initializer.state()
    assert found.value.__cause__ is error
    assert initializer.state() == "model"
