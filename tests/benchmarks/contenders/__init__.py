"""Every contender behind one small interface, imported only when it enters."""

import importlib

from ..entrants import Entrant
from .base import Contender

HOMES = {
    "offloop": ("ours", "Offloop"),
    "stdlib": ("executors", "StdlibProcesses"),
    "thread": ("executors", "StdlibThreads"),
    "loky": ("loky_pool", "Loky"),
    "joblib": ("joblib_pool", "Joblib"),
    "mpire": ("mpire_pool", "Mpire"),
    "pebble": ("pebble_pool", "Pebble"),
    "anyio.to_process": ("anyio_processes", "AnyioProcesses"),
    "trio-parallel": ("trio_processes", "TrioParallel"),
    "copies": ("copies", "Copies"),
    "serial": ("serial", "Serial"),
    "serial thread": ("serial", "SerialThread"),
}


def build(entrant: Entrant, *, workers: int) -> Contender:
    """Make the contender of ``entrant``, not yet entered."""
    module, name = HOMES[entrant.contender]
    maker = getattr(importlib.import_module(f".{module}", __package__), name)
    contender: Contender = maker(entrant, workers=workers)
    return contender
