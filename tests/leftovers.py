"""What a process holds besides memory, so that a test can prove that it left nothing behind."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass

import psutil

# Threads that others keep for reuse, and the one local thread that is meant to stay: below it, those of nested runs.
_CACHED_THREADS = re.compile(r"AnyIO worker thread|Trio thread \d+|asyncio_\d+|MainThread|pytest_timeout.*")
_LOCAL = "offloop-local"
_MAX_LOCAL = 3
PATIENCE_S = 5.0  # how long what ends by itself may take for that
_TRACKERS = ("loky.backend.resource_tracker", "multiprocessing.resource_tracker")


@dataclass(frozen=True)
class Inventory:
    """What this process holds, as counts by description."""

    processes: Counter[str]
    threads: Counter[str]
    descriptors: Counter[str]
    mappings: Counter[str]
    names: Counter[str]


def take() -> Inventory:
    """Return what this process holds now."""
    return Inventory(_processes(), _threads(), _descriptors(), _mappings(), _names())


def _processes() -> Counter[str]:
    found: Counter[str] = Counter()
    for child in _descendants(os.getpid()):
        try:
            command = " ".join(child.cmdline())
            status = child.status()
        except psutil.Error:
            continue
        if any(tracker in command for tracker in _TRACKERS):
            continue
        found[f"{'zombie ' if status == psutil.STATUS_ZOMBIE else ''}{command[:100]}"] += 1
    return found


def _descendants(pid: int) -> list[psutil.Process]:
    """Return all processes below one: as psutil, which looks through all that there are for that, and takes milliseconds."""
    if not os.path.exists(f"/proc/{pid}/task/{pid}/children"):
        return psutil.Process(pid).children(recursive=True)
    found: list[psutil.Process] = []
    for child in _children(pid):
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            found += [psutil.Process(child), *_descendants(child)]
    return found


def _children(pid: int) -> list[int]:
    """Return the processes that the threads of one have started: in few calls, since every test asks for it."""
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as children:
            found += map(int, children.read().split())
    return found


def _threads() -> Counter[str]:
    found: Counter[str] = Counter()
    for thread in threading.enumerate():
        if _CACHED_THREADS.fullmatch(thread.name):
            continue
        if thread.daemon and not thread.name.startswith(("offloop", "Executor", "Queue")):
            continue
        found[re.sub(r"\d+", "N", thread.name)] += 1
    extra = found.pop(_LOCAL, 0) - _MAX_LOCAL
    if extra > 0:
        found[_LOCAL] = extra
    return found


def _descriptors() -> Counter[str]:
    trackers = {_tracker_descriptor(name) for name in _TRACKERS}
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if int(name) not in trackers:
            found[re.sub(r"\[\d+\]", "", target)] += 1
    return found


def _tracker_descriptor(name: str) -> int | None:
    tracker = getattr(sys.modules.get(name), "_resource_tracker", None)
    return getattr(tracker, "_fd", None)


def _mappings() -> Counter[str]:
    with open("/proc/self/maps", "rb") as maps:
        mapped = maps.read()
    if b"memfd:" not in mapped:
        return Counter()
    return Counter(line.split(maxsplit=5)[5].strip() for line in mapped.decode().splitlines() if "memfd:" in line)


def _names() -> Counter[str]:
    return Counter(name for name in os.listdir("/dev/shm") if name.startswith(f"sem.loky-{os.getpid()}-"))


def found_since(before: Inventory, patience_s: float | None = None) -> list[str]:
    """Return what is there now and was not before, once waiting for it to go is of no more use."""
    return new_in(take_after(before, patience_s), before)


def take_after(before: Inventory, patience_s: float | None = None) -> Inventory:
    """Return what this process holds once it is no more than before, or waiting for that is of no more use."""
    deadline = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
    while True:
        now = take()
        if not new_in(now, before):
            return now
        gc.collect()
        now = take()
        if not new_in(now, before) or time.monotonic() > deadline:
            return now
        time.sleep(0.02)


def new_in(now: Inventory, before: Inventory) -> list[str]:
    """Return what is in one inventory and was not in the one before."""
    if now == before:
        return []
    return [
        f"{count} × {kind[:-2] if kind.endswith('sses') else kind[:-1]}: {what}"
        for kind in Inventory.__dataclass_fields__
        for what, count in (getattr(now, kind) - getattr(before, kind)).items()
    ]
