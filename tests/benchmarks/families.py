"""A process with everything that it started."""

import psutil


def family(pid: int) -> list[psutil.Process]:
    """The process and all its descendants, itself last; empty when it is gone."""
    try:
        head = psutil.Process(pid)
        return [*head.children(recursive=True), head]
    except psutil.NoSuchProcess:
        return []


def kill_family(pid: int) -> None:
    """Kill the process and all its descendants."""
    kill_all(family(pid))


def kill_all(processes: list[psutil.Process]) -> None:
    """Kill each that is still there."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
